"""The figures that a run of devices ends with, as the server knows them."""

from types import SimpleNamespace

from fedprune.common.config import load_config
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.server import app
from fedprune.server.rounds.state import Totals
from fedprune.server.runs.folder import RunFolder
from fedprune.server.runs.trying import try_network

SETTINGS = {
    "task.model": "mlp",
    "task.data": "diabetes",
    "task.loss": "mse",
    "task.outputs": 1,
    "task.input_shape": [10],
}


def test_a_regression_of_devices_says_what_its_score_is(tmp_path, monkeypatch):
    monkeypatch.setattr(app, "model_sha256", lambda _network: "00")
    task = LoadedTask(load_config(None, SETTINGS))
    tried = try_network(task, task.build_model(), data=False)
    work = SimpleNamespace(
        task=task,
        tried=tried,
        structure=tried.structure,
        folder=RunFolder.create(tmp_path, "a"),
    )
    state = SimpleNamespace(round=3, totals=Totals())
    final = SimpleNamespace(plan=SimpleNamespace(keep=tried.structure.full()))
    found = app._summary(work, state, final, [])
    assert found["metric"] == "r2"
    assert found["params_final"] == found["params_dense"]
