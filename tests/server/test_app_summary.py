"""The figures that a run of devices ends with, as the server knows them."""

from types import SimpleNamespace

import pytest

from fedprune.common.config import load_config
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.server import app
from fedprune.server.rounds.state import Totals
from fedprune.server.runs.events import NetworkDelivered
from fedprune.server.runs.folder import RunFolder
from fedprune.server.runs.trying import try_network

SETTINGS = {
    "task.model": "mlp",
    "task.data": "diabetes",
    "task.loss": "mse",
    "task.outputs": 1,
    "task.input_shape": [10],
}


@pytest.fixture
def summary(tmp_path, monkeypatch):
    """Return the summary of a run of devices, by what they answer to the delivery."""
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
    return lambda delivered: app._summary(work, state, final, delivered)


def answer(client, examples, accuracy):
    return NetworkDelivered(
        client=client, bytes_down=5, examples=examples, accuracy=accuracy
    )


def test_a_regression_of_devices_says_what_its_score_is(summary):
    found = summary([])
    assert found["metric"] == "r2"
    assert found["params_final"] == found["params_dense"]


def test_what_devices_measure_of_the_delivered_network_is_pooled(summary):
    found = summary([answer("a", 10, 0.5), answer("b", 20, 0.8)])
    assert found["accuracy_delivered"] == pytest.approx(0.7)
    assert found["examples_delivered"] == 30


def test_a_device_that_states_none_does_not_count_in_the_delivered_score(summary):
    others = [answer("b", None, None), answer("c", 0, None)]
    found = summary([answer("a", 10, 0.5), *others])
    assert (found["accuracy_delivered"], found["examples_delivered"]) == (0.5, 10)
    found = summary(others)
    assert (found["accuracy_delivered"], found["examples_delivered"]) == (None, 0)


def test_one_device_does_not_own_the_delivered_score(summary):
    honest = [answer(name, 10, 0.9) for name in "abcd"]
    found = summary([*honest, answer("e", 10**9, 0.0)])
    assert found["accuracy_delivered"] > 0.5
    assert found["examples_delivered"] < 1000
