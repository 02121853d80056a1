"""``flwr run .``: the same rounds as a Flower app, one client for each node."""

import shutil
import socket
import sys

import pytest

from tests.integration.processes import ROOT, child
from tests.integration.small_runs import only_run, read_summary, run_small

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

# A network by name: the app's bundle holds no test code.
SETTINGS = {
    "task.model": "small-resnet",
    "task.clients": 3,
    "rounds.cohort": 3,
    "rounds.warmup": 1,
    "rounds.sparsify": 1,
    "rounds.finetune": 1,
    "rounds.cuts": 1,
    "rounds.final": 0,
    "client.epochs": 1,
    "prune.budget.params": 0.8,
    "prune.width_multiple": 8,
}
BUNDLE = ("common", "client", "server", "simulations", "fedprune.py", "pyproject.toml")
BUNDLE += ("README.md", "LICENSE")


def free_port():
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


def test_flwr_run_gives_the_bytes_and_the_bits_of_one_process(tmp_path):
    here = run_small(tmp_path / "here", SETTINGS).summary
    app = tmp_path / "fedprune"
    app.mkdir()
    for name in BUNDLE:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, app / name, ignore=ignored)
        else:
            shutil.copy(source, app / name)
    # What run_small sets beside these settings changes no bit: engine and folder.
    options = SETTINGS | {"rounds.minimum": 2}
    given = ";".join(f"{key}={value}" for key, value in options.items())
    run_config = (
        f"clients=3 set='{given}' run-dir='{tmp_path / 'runs'}' "
        f"state-dir='{tmp_path / 'state'}'"
    )
    federation = "num-supernodes=3 client-resources-num-cpus=1 init-args-num-cpus=2"
    environment = {
        "FLWR_HOME": str(tmp_path / "flower"),
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(free_port()),
        "FLWR_LOCAL_CONTROL_API_PORT": str(free_port()),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{sys.prefix}/bin:/usr/bin:/bin",
        "PYTHONPATH": "",
    }
    command = [f"{sys.prefix}/bin/flwr", "run", str(app), "--stream"]
    command += ["--run-config", run_config, "--federation-config", federation]
    with child(command, tmp_path, environment) as flower:
        assert flower.wait(300) == 0, flower.output
        said = flower.output
    assert (tmp_path / "runs").is_dir(), said
    there = read_summary(only_run(tmp_path / "runs"))
    for figure in ("rounds", "bytes_up", "bytes_down", "refused", "model_sha256"):
        assert there[figure] == here[figure], (figure, said)
