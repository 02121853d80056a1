"""Devices whose state is lost say so beside their answers, and the server writes it."""

import json
import re
import shutil
from collections import Counter

import numpy as np
import pytest
from flwr.app import Context, Error, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from helpers.grids import FakeGrid

from fedprune.client import app
from fedprune.client.device import node
from fedprune.client.rounds import opened
from fedprune.common.config import load_config
from fedprune.common.errors import FedPruneError
from fedprune.common.models.flat import get_weights
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.server.devices.flower_engine import FlowerEngine
from fedprune.server.runs.events import (
    ClientAnswered,
    EventLog,
    WarningGiven,
    of_kind,
    read_events,
)
from fedprune.server.runs.federation import run_federation
from fedprune.server.runs.folder import RunFolder
from fedprune.server.runs.trying import try_network

IDS = ("client-000", "client-001", "client-002")
CONFIG = """\
[task]
model = "mlp"
clients = 3
outputs = 3
input_shape = [6]
[rounds]
cohort = 3
minimum = 1
warmup = 4
cuts = 0
final = 0
[client]
epochs = 1
[run]
controls = []
"""


class Devices(FlowerEngine):
    """Three devices that run the installed app, each with a state folder of its own.

    Args:
        place: Where configuration, data and state lie.
        harm: What happens to the first device's state before round 3.
    """

    def __init__(self, place, harm):
        self.place, self.harm = place, harm
        nodes = {name: number for number, name in enumerate(IDS)}
        super().__init__(FakeGrid(nodes.values(), self.answer), nodes)

    def ask(self, work):
        if work.plan.round == 3:
            self.harm(self.place / IDS[0])
        return super().ask(work)

    def answer(self, number, message):
        message.metadata.__dict__["_message_id"] = "m"
        own = {
            node.CLIENT_ID: IDS[number],
            node.CONFIG: str(self.place / "fedprune.toml"),
            node.DATA: f"npz:{self.place / 'own.npz'}",
            node.SHARE: f"{number}/{len(IDS)}",
            node.STATE: str(self.place / IDS[number]),
        }
        context = Context(1, number, own, RecordDict(), {})
        try:
            return app.app(message=message, context=context).content
        except FedPruneError as error:
            return Error(code=0, reason=str(error))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return a folder with a configuration and data; messages can be made here."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(90, 6)).astype("float32"), np.arange(90) % 3
    np.savez(tmp_path / "own.npz", x_train=x, y_train=y, x_test=x[:9], y_test=y[:9])
    (tmp_path / "fedprune.toml").write_text(CONFIG, encoding="utf-8")
    return tmp_path


def lost(place, harm):
    """Return the rounds and clients of the warnings of a run on devices."""
    config = load_config(place / "fedprune.toml")
    task = LoadedTask(config)
    model = task.build_model()
    folder = RunFolder.create(place / "runs")
    with EventLog(folder.events) as log:
        run_federation(
            name="main",
            config=config,
            clients=IDS,
            structure=try_network(task, model, data=False).structure,
            weights=get_weights(model),
            folder=folder,
            engine=Devices(place, harm),
            log=log,
            evaluate=None,
            enrolled=dict.fromkeys(IDS, 30),
            token="run",  # noqa: S106 - the name of a run
        )
    events = read_events(folder.events)
    answers = [e.status for e in of_kind(events, ClientAnswered)]
    assert answers.count("accepted") >= 11
    warnings = list(of_kind(events, WarningGiven))
    assert all("residuals are missing or damaged" in e.text for e in warnings)
    return [(e.round, list(e.clients)) for e in warnings]


@pytest.mark.slow
def test_a_device_opens_each_plan_once(place, monkeypatch):
    seen, real = [], opened.OpenedPlan

    def counted(**fields):
        seen.append((fields["plan"].round, fields["plan"].client_id))
        return real(**fields)

    monkeypatch.setattr(opened, "OpenedPlan", counted)
    assert lost(place, lambda _: None) == []
    assert len(seen) == len(set(seen)) >= 4 * len(IDS)
    for name in IDS:
        lines = (place / name / node.EVALUATIONS).read_text().splitlines()
        assert all("accuracy" in json.loads(line) for line in lines)


@pytest.mark.slow
def test_a_device_says_what_cpu_time_each_round_took(place, capfd):
    assert lost(place, lambda _: None) == []
    said = re.findall(
        r"^\S+Z main-run, round (\d+): "
        r"(accuracy [01]\.\d{4} of \d+ validation examples, |)"
        r"training loss \d+\.\d{4}; "
        r"([\d.]+) s CPU in local training, ([\d.]+) s beside",
        capfd.readouterr().out,
        re.MULTILINE,
    )
    assert Counter(int(number) for number, *_ in said) == dict.fromkeys(
        range(1, 6), len(IDS)
    )
    assert {bool(own) for _, own, _, _ in said} == {True, False}  # one has too few
    # Above 0 in a sum of 15 rounds, though one may take less than a hundredth.
    assert sum(float(training) for _, _, training, _ in said) > 0
    assert sum(float(rest) for *_, rest in said) > 0


def drop_residuals(state):
    for path in state.glob("main-*/client-*/round-*.safetensors"):
        path.unlink()


@pytest.mark.slow
def test_a_device_that_has_lost_its_residuals_is_named_once(place):
    assert lost(place, drop_residuals) == [(3, [IDS[0]])]


@pytest.mark.slow
def test_a_device_that_has_lost_all_of_its_state_is_named_when_it_is_back(place):
    # It fails round 3, for it has no base that changes are encoded against.
    assert lost(place, shutil.rmtree) == [(4, [IDS[0]])]


@pytest.mark.slow
def test_devices_that_keep_their_state_note_nothing(place):
    assert lost(place, lambda _: None) == []
