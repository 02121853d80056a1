"""``flwr run .``: the checkout as a Flower app, one client for each node."""

import os
import signal
import sys
from pathlib import Path

import pytest
from helpers.processes import ROOT, child
from helpers.small_runs import (
    as_assignments,
    events,
    only_run,
    read_summary,
    small_settings,
)

from fedprune.common.system.ports import free_port
from fedprune.server.runs.events import NetworkCut
from fedprune.server.runs.folder import RunFolder
from fedprune.simulations.benchmarks.kit.trackers.stored import in_tensorboard, written
from fedprune.simulations.runs.api import simulate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

CHANGES = {
    "task.model": "mlp",  # code is no business of a run configuration
    "task.clients": 3,
    "rounds.cohort": 3,
    "rounds.minimum": 3,
    "rounds.warmup": 0,
    "rounds.cuts": 1,
    "rounds.final": 0,
}
EQUAL = ("rounds", "bytes_up", "bytes_down", "model_sha256")


def test_flwr_run_does_what_the_engine_in_this_process_does(tmp_path):
    here = simulate(config=small_settings(tmp_path / "here", CHANGES)).summary
    settings = as_assignments(small_settings(tmp_path / "flower", CHANGES))
    settings.append("run.track=['tensorboard']")  # no bit depends on it
    port = str(free_port())
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "FLWR_HOME": str(tmp_path / "home"),
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": port,
        "FLWR_LOCAL_CONTROL_API_PORT": port,
    }
    run_config = (
        f'config="" state-dir="{tmp_path / "state"}" set="{";".join(settings)}"'
    )
    nodes = "num-supernodes=3 client-resources-num-cpus=1 init-args-num-cpus=2"
    command = ["flwr", "run", str(ROOT), "--stream", "--run-config", run_config]
    with child(
        [*command, "--federation-config", nodes], tmp_path, environment
    ) as flower:
        assert flower.wait(150) == 0, flower.output
        # Flower leaves its link running for the next run; no other test needs this one.
        for number in links(flower.alive()):
            os.kill(number, signal.SIGTERM)
        assert flower.left_after(20) == []
    run = only_run(tmp_path / "flower")
    folder = RunFolder.open(run)
    found = dict(in_tensorboard(folder))
    assert {p: found.get(p) for p in written(folder)} == pytest.approx(written(folder))
    summary = read_summary(run)
    assert {key: summary[key] for key in EQUAL} == {key: here[key] for key in EQUAL}
    assert len(events(run, NetworkCut)) == 1
    assert summary["refused"] == 0
    report = (run / "report.html").read_text(encoding="utf-8")
    assert "on the data of its devices" in report
    assert "No groups are known yet" not in report
    card = (run / "model" / "MODEL_CARD.md").read_text()
    assert "## Limits" in card
    assert "client-0" not in card
    assert str(tmp_path) not in card


def links(numbers):
    """Return those of the processes that are a SuperLink."""
    return [n for n in numbers if b"flower-superlink" in command_line(n)]


def command_line(number):
    return Path(f"/proc/{number}/cmdline").read_bytes()
