"""A device: its own data and configuration, what it keeps, what it refuses to run."""

import json
import os
import re

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    RecordDict,
)
from flwr.supercore.task_identity import TaskIdentity
from helpers.bundles import zipped
from helpers.log_lines import texts

from fedprune.client import app, executor
from fedprune.client.device import check, node
from fedprune.client.device.node import parse_share
from fedprune.client.device.predict import predict
from fedprune.client.device.service import Device
from fedprune.client.device.task import (
    device_task,
    drop_old_runs,
    take_final,
    try_device,
)
from fedprune.client.rounds.model_cache import ModelCache
from fedprune.common import codec
from fedprune.common.artifacts.load import load_model
from fedprune.common.errors import ConfigError, DataError, PayloadError
from fedprune.common.flower.bundle import APP_TOML
from fedprune.common.flower.payload import ARRAY, RECORD, RUN, STRUCTURE, STYPE
from fedprune.common.models.flat import get_weights
from fedprune.common.pruning.plan import full_plan
from fedprune.common.structure.tracing.find import find_structure
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.server.rounds.broadcast import encode_network

EXAMPLES = 60
CONFIG = """\
[task]
model = "mlp"
clients = 3
outputs = 4
input_shape = [6]
[rounds]
cohort = 3
minimum = 1
"""


@pytest.fixture(autouse=True)
def _identity(monkeypatch):
    """Let messages be made here as in a task of Flower's."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture
def place(tmp_path):
    """Write a device's configuration and data."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, EXAMPLES)  # class 3 is held by others
    inputs = rng.normal(size=(EXAMPLES, 6)).astype("float32")
    np.savez(
        tmp_path / "own.npz",
        x_train=inputs[10:], y_train=labels[10:],
        x_test=inputs[:10], y_test=labels[:10],
    )  # fmt: skip
    (tmp_path / "fedprune.toml").write_text(CONFIG, encoding="utf-8")
    return tmp_path


def table(place, **changes):
    return {
        node.CLIENT_ID: "edge-01",
        node.CONFIG: str(place / "fedprune.toml"),
        node.DATA: f"npz:{place / 'own.npz'}",
        node.SHARE: "",
        node.STATE: str(place / "state"),
    } | changes


def test_a_device_holds_all_of_its_own_data(place):
    task = device_task(table(place))
    data = task.client_data("edge-01")
    assert len(data.train) + len(data.validation) == EXAMPLES - 10
    assert task.clients == ("edge-01",)
    assert task.num_outputs == 4


def test_a_share_is_what_a_simulation_deals_to_that_client(place):
    task = device_task(table(place, share="1/3"))
    plain = LoadedTask(task.config)
    assert np.array_equal(task.parts["edge-01"], plain.parts["client-001"])


@pytest.mark.parametrize("text", ["3/3", "1", "a/b", "-1/3", "1/0", "1/3/4"])
def test_a_share_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match="K/N"):
        parse_share(text)


def test_a_class_beyond_the_outputs_is_refused(place):
    task = device_task(table(place, config=""))
    small = task.config.model_copy(
        update={"task": task.config.task.model_copy(update={"outputs": 2})}
    )
    with pytest.raises(DataError, match=r"needs 3 outputs; task\.outputs is 2"):
        _ = LoadedTask(small).dataset


def test_a_share_without_examples_is_refused_at_start(place):
    rng = np.random.default_rng(0)
    np.savez(
        place / "own.npz",
        x_train=rng.normal(size=(3, 6)).astype("float32"), y_train=np.array([0, 0, 0]),
        x_test=rng.normal(size=(3, 6)).astype("float32"), y_test=np.array([0, 0, 0]),
    )  # fmt: skip
    tasks = [device_task(table(place, share=f"{k}/3")) for k in range(3)]
    empty = [task for task in tasks if not len(task.parts["edge-01"])]
    assert empty
    with pytest.raises(DataError, match="edge-01 has no example"):
        try_device(empty[0])


NET = """\
import sys
from torch import nn

class Net(nn.Sequential):
    def forward(self, x):
        sys.stdout.write("said by the network")
        sys.stderr.write("warned by the network")
        return END(super().forward(x))

def make():
    return Net(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
"""
UNFIT = {
    "other inputs": (
        ("input_shape = [6]", "input_shape = [7]"), "", DataError,
        r"the data's inputs have shape \[6\]; task.input_shape is \[7\]",
    ),
    "classes for a squared error": (
        ("[task]", '[task]\nloss = "mse"'), "", DataError,
        "gives .8, 4. for 8 examples, and the targets are integers",
    ),
    "two outputs": (("", ""), "lambda y: (y, y)", ConfigError, "returns a tuple of 2"),
    "too few": (("", ""), "lambda y: y[:, :3]", ConfigError, "gives 3 outputs"),
}  # fmt: skip


def with_network(place, end):
    """Let the device's configuration name a network that ends in another way."""
    (place / "net.py").write_text(NET.replace("END", f"({end})"), encoding="utf-8")
    path = place / "fedprune.toml"
    text = path.read_text(encoding="utf-8")
    text = text.replace('"mlp"', f'"{place / "net.py"}:make"')
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("case", UNFIT.values(), ids=UNFIT)
def test_a_device_whose_data_do_not_fit_does_not_join(place, monkeypatch, capsys, case):
    change, end, kind, message = case
    if end:
        with_network(place, end)
    (place / "fedprune.toml").write_text(
        (place / "fedprune.toml").read_text(encoding="utf-8").replace(*change, 1),
        encoding="utf-8",
    )
    with pytest.raises(kind, match=message):
        try_device(device_task(table(place)))
    monkeypatch.setattr("sys.argv", ["check", json.dumps(table(place))])
    with pytest.raises(SystemExit) as caught:
        check.main()
    assert caught.value.code == kind.exit_code
    last = capsys.readouterr().err.splitlines()[-1]  # is what its user is shown
    assert re.search(message, last)
    assert "warned by" not in last


def test_a_device_that_holds_one_class_is_no_news(place):
    with np.load(place / "own.npz") as file:
        arrays = dict(file)
    np.savez(place / "own.npz", **arrays | {"y_train": 0 * arrays["y_train"]})
    assert try_device(device_task(table(place))) == ()


@pytest.mark.slow
def test_what_a_check_remarks_is_shown_and_what_the_network_says_is_not(place, capfd):
    with_network(place, "lambda y: y.softmax(1)")
    device_of(place).check()
    out, err = capfd.readouterr()
    (said,) = texts(out)
    assert said.startswith("warning: the network's outputs look like probabilities; ")
    assert err == ""
    assert "said by" not in out


@pytest.mark.slow
def test_a_check_that_fails_is_one_line_before_anything_is_started(place, capfd):
    with_network(place, "lambda y: {'scores': y}")
    with pytest.raises(ConfigError, match=r"^the network returns a dict with scores;"):
        device_of(place).check()
    assert capfd.readouterr() == ("", "")
    assert not (place / "state" / "flower").exists()


def device_of(place):
    return Device(
        client_id="edge-01", config=place / "fedprune.toml", share="", host="h", port=1,
        data=f"npz:{place / 'own.npz'}", tls=None, state=place / "state",
    )  # fmt: skip


def final_of(task):
    """Return structure JSON and broadcast of a task's first network."""
    model = task.build_model()
    structure = find_structure(model, task.example())
    plan = full_plan(structure)
    spec = structure.spec(plan.keep)
    broadcast, _ = encode_network(plan, get_weights(model), None, spec, "float32")
    return structure.to_json(), codec.encode_broadcast(broadcast)


def test_the_final_network_stands_alone_and_predicts(place):
    task = device_task(table(place))
    structure, blob = final_of(task)
    found = take_final(place / "state", ModelCache(task), structure, blob)
    assert found.examples == 10
    path = place / "state" / node.FINAL
    model = load_model(path)
    assert sum(weight.numel() for weight in model.parameters()) == found.params
    predictions = predict(path, f"npz:{place / 'own.npz'}", limit=7)
    rows = predictions.rows
    assert [row["target"] for row in rows] == task.dataset.test.targets[:7].tolist()
    right = sum(row["prediction"] == row["target"] for row in rows)
    assert (predictions.metric, predictions.value) == ("accuracy", right / 7)
    assert right <= 10 * found.accuracy
    lines = (place / "state" / node.EVALUATIONS).read_text().splitlines()
    assert json.loads(lines[0])["accuracy"] == found.accuracy


def test_a_changed_final_network_is_refused_and_nothing_is_written(place):
    task = device_task(table(place))
    structure, blob = final_of(task)
    with pytest.raises(PayloadError):
        take_final(place / "new", ModelCache(task), structure, blob[:-20] + bytes(20))
    assert not (place / "new").exists()


def test_predictions_need_inputs_of_the_network(place):
    task = device_task(table(place))
    take_final(place / "state", ModelCache(task), *final_of(task))
    np.savez(
        place / "other.npz",
        x_train=np.zeros((4, 5)), y_train=np.zeros(4, int),
        x_test=np.zeros((4, 5)), y_test=np.zeros(4, int),
    )  # fmt: skip
    with pytest.raises(DataError, match=r"has inputs of \(5,\)"):
        predict(place / "state" / node.FINAL, f"npz:{place / 'other.npz'}", limit=1)


def test_of_earlier_runs_only_the_last_stays(tmp_path):
    for age, name in enumerate(["main-a", "main-b", "main-c"]):
        (tmp_path / name / "shared").mkdir(parents=True)
        os.utime(tmp_path / name, (age, age))
    (tmp_path / "logs").mkdir()
    drop_old_runs(tmp_path, "main-new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["logs", "main-c"]


ABOUT = {"seed": 0, "validation": 0.1}


def hello(place, about=ABOUT, **run_config):
    content = RecordDict({RUN: ConfigRecord(about)})
    message = Message(content, 5, "query.hello")
    message.metadata.__dict__["_message_id"] = "m1"
    context = Context(
        run_id=1,
        node_id=5,
        node_config=table(place),
        state=RecordDict(),
        run_config=run_config,
    )
    return message, context


def test_a_device_says_its_own_name_whatever_the_server_configures(place):
    message, context = hello(place, set="task.model=os:system", config="x")
    reply = app.app(message=message, context=context)
    said = dict(reply.content.config_records["fedprune"])
    assert said == {"client-id": "edge-01", "examples": 45}


def test_a_device_deals_its_data_as_the_run_says_and_not_its_own_file(place):
    path = place / "fedprune.toml"
    path.write_text(f"{CONFIG}[client]\nvalidation = 0.5\n[run]\nseed = 9\n")
    message, context = hello(place, ABOUT | {"validation": 0.2})
    said = app.app(message=message, context=context).content.config_records
    assert said["fedprune"]["examples"] == 40


@pytest.mark.parametrize(
    "change",
    [{"seed": -1}, {"seed": 0.5}, {"validation": 1.0}, {"validation": float("nan")}],
)
def test_a_greeting_that_says_what_cannot_be_is_refused(place, change):
    message, context = hello(place, ABOUT | change)
    with pytest.raises(PayloadError, match=next(iter(change))):
        app.app(message=message, context=context)
    message, context = hello(place, {})
    with pytest.raises(PayloadError, match="seed"):
        app.app(message=message, context=context)


def test_a_final_network_is_tried_on_the_test_part_of_its_run(place):
    """The fold that a run tests on follows its seed, and not the device's own."""
    own = {node.DATA: "digits", node.CONFIG: "", node.STATE: str(place / "digits")}
    task = device_task(table(place, **own)).under(3, 0.1)
    wanted = ModelCache(task)
    structure, blob = final_of(task)
    message, context = hello(place, ABOUT | {"seed": 3})
    message.metadata.__dict__["_message_type"] = "query.deliver"
    message.content[RECORD] = ArrayRecord(
        {name: Array("uint8", (len(data),), STYPE, data)
         for name, data in ((ARRAY, blob), (STRUCTURE, structure))}
    )  # fmt: skip
    context.node_config.update(own)
    said = app.app(message=message, context=context).content.config_records
    found = take_final(place / "wanted", wanted, structure, blob)
    assert said["fedprune"]["accuracy"] == found.accuracy


NOISE = """
[privacy]
local_noise = 0.5
[update]
stateless = true
[run]
controls = []
"""


def test_a_device_that_hides_its_answers_tells_no_number_of_examples(place):
    (place / "fedprune.toml").write_text(CONFIG + NOISE)
    message, context = hello(place)
    said = app.app(message=message, context=context).content.config_records
    assert said["fedprune"]["examples"] == 1


def test_a_device_that_hides_its_answers_tells_no_figure_of_the_final_network(place):
    path = place / "fedprune.toml"
    path.write_text(CONFIG + NOISE)
    structure, blob = final_of(device_task(table(place)))
    message, context = hello(place)
    message.metadata.__dict__["_message_type"] = "query.deliver"
    message.content[RECORD] = ArrayRecord(
        {name: Array("uint8", (len(data),), STYPE, data)
         for name, data in ((ARRAY, blob), (STRUCTURE, structure))}
    )  # fmt: skip
    said = app.app(message=message, context=context).content.config_records
    assert said["fedprune"]["examples"] == 0
    assert np.isnan(said["fedprune"]["accuracy"])
    assert (place / "state" / node.FINAL).exists()


def test_the_executor_runs_installed_code_for_our_app_only(place, capsys):
    ours = zipped(**{"pyproject.toml": APP_TOML, ".info/CONTENT": ""})
    message, context = hello(place)
    reply, why = executor.answer(message, context, ours)
    assert (why, reply.has_error()) == ("", False)
    theirs = zipped(
        **{"pyproject.toml": APP_TOML, ".info/CONTENT": "", "client/app.py": "boom"}
    )
    reply, why = executor.answer(message, context, theirs)
    assert reply.has_error()
    assert "client/app.py" in why == reply.error.reason
    assert "refused" in capsys.readouterr().out


def test_whatever_goes_wrong_becomes_a_reply_with_the_reason(place, monkeypatch):
    ours = zipped(**{"pyproject.toml": APP_TOML, ".info/CONTENT": ""})
    message, context = hello(place)
    context.node_config[node.CONFIG] = str(place / "gone.toml")
    reply, _ = executor.answer(message, context, ours)
    assert reply.has_error()
    assert "gone.toml" in reply.error.reason
