"""A server and devices by one command, interrupted and continued: ``make e2e``."""

import json
import signal
from pathlib import Path

import pytest
from helpers.processes import child, fedprune, wait_for

from fedprune.common.config import load_config
from fedprune.simulations.poc.folder import PocFolder
from fedprune.simulations.runs.api import simulate

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(900)]

PATIENCE_S = 600
SMALL = (
    *("--clients", "2", "--set", "client.epochs=1"),
    *("--set", "rounds.warmup=1", "--set", "rounds.cuts=1", "--set", "rounds.final=1"),
)
ESCAPE = b"\x1b["


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Interrupt it in a round, call it again; return folder and both outputs."""
    place = tmp_path_factory.mktemp("poc")
    folder = PocFolder(place / "trial")
    with child(fedprune("poc", str(folder.path), *SMALL), place) as first:
        wait_for(lambda: "round 1/" in first.output, PATIENCE_S, "a round")
        first.signal(signal.SIGINT)
        assert first.wait(PATIENCE_S) == 130, first.output
        assert first.left_after(60) == []
    with child(fedprune("poc", str(folder.path)), place) as second:
        assert second.wait(PATIENCE_S) == 0, second.output
        assert second.left_after(60) == []
    return folder, first.output, second.output


def test_an_interrupt_says_how_to_go_on_and_the_second_call_does(finished):
    folder, first, second = finished
    assert f"stopped; to go on: fedprune poc {folder.path}" in first
    assert len(list(folder.runs.iterdir())) == 1
    assert "round 1/" not in second
    summary = json.loads(folder.last_run().summary.read_bytes())
    count = summary["rounds"]
    assert f"round {count}/{count} " in second
    assert summary["delivered"] == 2
    assert (folder.last_run().path / "report.html").is_file()


def test_devices_have_reached_the_model_of_a_simulation_of_the_same_file(
    finished, tmp_path
):
    folder, *_ = finished
    config = load_config(folder.config)
    run = config.run.model_copy(
        update={"dir": str(tmp_path), "engine": "inprocess", "controls": ()}
    )
    same = simulate(config=config.model_copy(update={"run": run})).summary
    found = json.loads(folder.last_run().summary.read_bytes())
    assert found["model_sha256"] == same["model_sha256"]


def test_each_device_has_state_data_and_the_final_network_of_its_own(finished):
    folder, *_ = finished
    finals = {
        (folder.device(name) / "final.safetensors").read_bytes()
        for name in ("client-000", "client-001")
    }
    assert len(finals) == 1
    parts = {folder.examples(n).read_bytes() for n in ("client-000", "client-001")}
    assert len(parts) == 2


def test_all_logs_have_one_format_with_times_and_no_colours(finished):
    folder, *_ = finished
    logs = [
        *folder.server.rglob("*.log"),
        *(folder.path / "devices").rglob("*.log"),
        *folder.log("").parent.glob("client-*.log"),
    ]
    assert {path.name for path in logs} >= {
        "superlink.log",
        "executor.log",
        "supernode.log",
        "client-000.log",
    }
    for path in logs:
        content = path.read_bytes()
        assert ESCAPE not in content, path
        plain = [line for line in content.decode().splitlines() if timeless(line)]
        assert plain == [], path


def timeless(line):
    """Return whether a line begins no event of a log: neither a time nor a warning."""
    starts = ("20", "warning: ", "error: ")
    return not line.startswith(starts)


def test_a_device_says_its_accuracy(finished):
    folder, *_ = finished
    said = Path(folder.log("client-000")).read_text()
    assert "round 2: accuracy 0." in said
    assert "final network: accuracy 0." in said


def test_a_third_call_changes_nothing(finished):
    folder, *_ = finished
    before = folder.last_run().events.read_bytes()
    with child(fedprune("poc", str(folder.path)), folder.path.parent) as third:
        assert third.wait(PATIENCE_S) == 0
        assert "has finished already" in third.output
    assert folder.last_run().events.read_bytes() == before
