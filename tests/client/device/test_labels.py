"""What a class number means: a device and its server agree by the names of folders."""

import json

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from helpers.bundles import zipped
from helpers.pictures import write_folder

from fedprune.client import app, executor
from fedprune.client.device import labels, node
from fedprune.client.device.task import device_task, try_device
from fedprune.client.rounds.model_cache import ModelCache
from fedprune.common.errors import ConfigError, DataError, PayloadError
from fedprune.common.flower.bundle import APP_TOML
from fedprune.common.flower.payload import RUN
from fedprune.common.text import MAX_LABEL, MAX_LABELS

SERVER = ("cat", "dog", "fox")
CONFIG = """\
[task]
model = "mlp"
clients = 2
input_shape = [1, 6, 4]
[rounds]
cohort = 2
minimum = 1
"""
ABOUT = {"seed": 0, "validation": 0.1}


@pytest.fixture(autouse=True)
def _identity(monkeypatch):
    """Let messages be made here as in a task of Flower's."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    monkeypatch.setattr(app, "_resident", app._Resident())


@pytest.fixture
def device(tmp_path):
    """Write a device that has no cats, with or without a class of its own."""

    def write(*classes, more=""):
        write_folder(tmp_path / "images", dict.fromkeys(classes, 10))
        (tmp_path / "fedprune.toml").write_text(
            CONFIG.replace("[rounds]", more + "[rounds]")
        )
        return {
            node.CLIENT_ID: "edge-01",
            node.CONFIG: str(tmp_path / "fedprune.toml"),
            node.DATA: f"folder:{tmp_path / 'images'}",
            node.SHARE: "",
            node.STATE: str(tmp_path / "state"),
        }

    return write


def greet(table, names, run=1):
    """Let a device answer the greeting of a server with these class names."""
    about = ABOUT | ({"labels": list(names)} if names else {})
    message = Message(RecordDict({RUN: ConfigRecord(about)}), 5, "query.hello")
    message.metadata.__dict__["_message_id"] = "m1"
    context = Context(
        run_id=run, node_id=5, node_config=table, state=RecordDict(), run_config={}
    )
    return message, context


def classes(cache):
    return set(cache.data("edge-01").train.targets.tolist())


def test_a_device_without_a_class_trains_on_the_numbers_of_the_server(device, capsys):
    table = device("dog", "fox")
    message, context = greet(table, SERVER)
    app.app(message=message, context=context)
    cache = app._cache(context)
    assert classes(cache) == {1, 2}
    assert cache.task.num_outputs == 3
    assert "dog 0 -> 1, fox 1 -> 2; no example of the classes cat" in (
        capsys.readouterr().out
    )


def test_a_class_that_the_server_does_not_know_is_refused_before_any_round(device):
    message, context = greet(device("dog", "wolf"), SERVER)
    ours = zipped(**{"pyproject.toml": APP_TOML, ".info/CONTENT": ""})
    reply, why = executor.answer(message, context, ours)
    assert reply.has_error()
    assert "has the classes wolf, which the server does not have: cat, dog, fox" in why


def test_a_process_that_is_started_again_in_a_run_knows_the_numbers(device):
    table = device("dog", "fox")
    message, context = greet(table, SERVER, run=7)
    app.app(message=message, context=context)
    fresh = ModelCache(device_task(table))
    labels.follow(app._root(context), 7, fresh)
    assert classes(fresh) == {1, 2}


def test_a_run_that_has_not_told_its_names_is_refused(device):
    table = device("dog", "fox")
    message, context = greet(table, SERVER, run=7)
    app.app(message=message, context=context)
    with pytest.raises(DataError, match="has no class names of this run"):
        labels.follow(app._root(context), 8, ModelCache(device_task(table)))


def test_without_names_of_the_server_the_numbers_of_the_folders_count(device, capsys):
    message, context = greet(device("dog", "fox"), ())
    app.app(message=message, context=context)
    assert classes(app._cache(context)) == {0, 1}
    assert "the server names no classes (task.labels)" in capsys.readouterr().out


def test_the_names_of_a_device_s_own_file_number_its_folders_alike(device):
    task = device_task(device("dog", "fox", more='labels = ["cat", "dog", "fox"]\n'))
    assert set(task.train.targets.tolist()) == {1, 2}
    assert task.describe().labels == SERVER


def test_a_name_twice_in_the_configuration_is_refused(device):
    table = device("dog", more='labels = ["cat", "cat"]\n')
    with pytest.raises(ConfigError, match=r"task.labels: has the name 'cat' twice"):
        device_task(table)


FORGED = {
    "a name": ["cat", "cat"],
    "an empty name": [""],
    "a terminal escape": ["\x1b[2J"],
    "a long name": ["x" * (MAX_LABEL + 1)],
    "many names": [str(number) for number in range(MAX_LABELS + 1)],
    "numbers": [1, 2],
}


@pytest.mark.parametrize("names", FORGED.values(), ids=FORGED)
def test_names_that_cannot_be_are_refused_and_not_noted(device, names):
    message, context = greet(device("dog", "fox"), names)
    with pytest.raises(PayloadError, match="labels"):
        app.app(message=message, context=context)
    assert not (app._root(context) / node.LABELS).exists()


def test_a_damaged_note_is_no_note(device):
    table = device("dog", "fox")
    message, context = greet(table, SERVER)
    app.app(message=message, context=context)
    path = app._root(context) / node.LABELS
    assert json.loads(path.read_text())["labels"] == list(SERVER)
    path.write_text(path.read_text()[:-5])
    with pytest.raises(DataError, match="has no class names of this run"):
        labels.follow(path.parent, 1, ModelCache(device_task(table)))


def test_what_a_folder_leaves_out_is_told_before_a_device_joins(device, tmp_path):
    table = device("dog", "fox")
    (tmp_path / "images" / "dog" / "notes.txt").write_text("no image")
    remarks = try_device(device_task(table))
    assert any("files are no images by their endings" in text for text in remarks)
