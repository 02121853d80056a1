"""The data set in a task: clients, messages, trust, whole runs, devices."""

import cloudpickle
import numpy as np
import pytest
import torch
from helpers.hf_data import batch, datasets, load, png, save
from helpers.small_runs import SMALL

from fedprune.client.device import node
from fedprune.client.device.task import device_task, try_device
from fedprune.common.config import load_config
from fedprune.common.errors import ConfigError, DataError
from fedprune.common.models.zoo import Logits
from fedprune.common.tasks.check_data import check_data
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.common.trust import named_code
from fedprune.simulations.runs.api import simulate

D = datasets
SPEAKERS = ["bo", "al", "cy", "bo", "al", "bo"] * 8
NATURAL = {"task.partition.kind": "natural", "task.partition.column": "who"}


def speakers():
    stream = np.random.default_rng(0)
    labels = [k % 2 for k in range(len(SPEAKERS))]
    values = stream.normal(size=len(labels)) + np.array(labels) * 4 - 2
    return {
        "a": values.tolist(),
        "b": [k / 64 for k in range(len(labels))],
        "label": labels,
        "who": SPEAKERS,
    }


@pytest.fixture
def place(tmp_path):
    return save(tmp_path / "d", train=speakers(), test=speakers())


def task(place, **changes):
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    return LoadedTask(load_config(None, {"task.data": f"hf-dataset:{place}"} | changes))


def natural(place):
    return task(place, **NATURAL, task__clients=0, task__inputs=["a", "b"])


# ---- clients of the data


def test_each_client_has_the_examples_that_name_it(place):
    found = natural(place)
    assert found.clients == ("al", "bo", "cy")
    for name in found.clients:
        data = found.client_data(name)
        rows = np.flatnonzero(np.array(SPEAKERS) == name)
        both = [
            float(value) * 64
            for part in (data.train, data.validation)
            for value in (batch(part).inputs[:, 1] if len(part) else ())
        ]
        assert sorted(both) == rows.tolist()
        assert found.sizes[name] == len(rows)


def test_the_fingerprint_of_natural_clients_knows_who_has_which_example(tmp_path):
    rows = speakers()
    found = set()
    for name, who in (("one", SPEAKERS), ("two", [*SPEAKERS[1:], SPEAKERS[0]])):
        place = save(tmp_path / name, train=rows | {"who": who}, test=rows)
        found.add(natural(place).fingerprint())
    assert len(found) == 2


def test_integers_and_classes_name_clients_too(tmp_path):
    rows = {"a": [1.0, 2.0, 3.0], "label": [0, 1, 0], "who": [2, 0, 2]}
    names = D.ClassLabel(names=["x", "y", "z"])
    kinds = {"a": D.Value("float32"), "label": D.Value("int64")}
    for feature, wanted in ((D.Value("int32"), ("0", "2")), (names, ("x", "z"))):
        path = save(
            tmp_path / str(wanted), kinds | {"who": feature}, train=rows, test=rows
        )
        assert natural_names(path) == wanted


def natural_names(path):
    return task(path, **NATURAL, task__clients=0, task__inputs=["a"]).clients


BAD = {
    "numbers with fractions": ([0.5, 1.5], ConfigError, "holds no names"),
    "missing names": (["al", None], DataError, "'who' has no value in 1 of 2"),
}


@pytest.mark.parametrize(("who", "kind", "message"), BAD.values(), ids=BAD)
def test_a_column_that_names_no_clients_is_one_line(tmp_path, who, kind, message):
    rows = {"a": [1.0, 2.0], "label": [0, 1], "who": who}
    path = save(tmp_path / "d", train=rows, test=rows)
    with pytest.raises(kind, match=message):
        natural_names(path)


def test_clients_are_named_without_reading_their_inputs(tmp_path):
    images = [{"bytes": b"broken", "path": None}] * 100
    images[:1] = [{"bytes": png(np.zeros((4, 4), np.uint8)), "path": None}]
    rows = {"image": images, "label": [0] * 100, "who": ["al", "bo"] * 50}
    kinds = {"image": D.Image(), "label": D.Value("int64"), "who": D.Value("string")}
    path = save(tmp_path / "d", kinds, train=rows, test=rows)
    found = task(path, **NATURAL, task__clients=0, task__input_shape=[1, 4, 4])
    assert found.sizes == {"al": 50, "bo": 50}


# ---- processes


def test_a_task_that_has_loaded_its_data_travels_without_them(place):
    found = natural(place)
    assert len(found.train)
    assert found.sizes
    data = cloudpickle.dumps(found)
    assert len(data) < 10_000
    again = cloudpickle.loads(data)
    assert again.fingerprint() == found.fingerprint()


def test_the_labels_of_arrays_and_of_this_source_are_dealt_alike(place):
    found = task(place, task__inputs=["a", "b"])
    assert sorted(np.concatenate([*found.parts.values()])) == list(range(len(SPEAKERS)))
    assert found.train.targets.tolist() == speakers()["label"]


def test_names_and_scaling_travel_with_the_network(tmp_path):
    image = {"bytes": png(np.zeros((4, 4), np.uint8)), "path": None}
    rows = {"image": [image] * 4, "label": ["no", "yes"] * 2}
    kinds = {"image": D.Image(), "label": D.Value("string")}
    found = task(save(tmp_path / "d", kinds, train=rows, test=rows)).describe()
    assert found.labels == ("no", "yes")
    assert (found.offset, found.scale, found.stored) == (127.5, 1 / 127.5, "uint8")


def test_a_network_of_transformers_takes_tokens_by_name():
    class Result:
        def __init__(self, logits):
            self.logits = logits

    class Named(torch.nn.Module):
        def forward(self, input_ids, attention_mask=None):
            return Result(input_ids * (2 if attention_mask is None else attention_mask))

    ids, mask = torch.ones(2, 3), torch.zeros(2, 3)
    network = Logits(Named())
    assert (network({"input_ids": ids, "attention_mask": mask}) == 0).all()
    assert (network(ids) == 2).all()


# ---- configuration and trust


def test_a_tokenizer_is_code_that_a_configuration_names():
    config = load_config(None, {"task.tokenizer": "tok.py:letters"})
    assert named_code(config)["task.tokenizer"] == "tok.py:letters"
    config = load_config(None, {"task.data": "hf-dataset:owner/name"})
    assert "task.data" not in named_code(config)


@pytest.mark.parametrize("end", ["", ":small"])
def test_paths_beside_a_configuration_are_found(tmp_path, end):
    (tmp_path / "d").mkdir()
    (tmp_path / "tok.py").touch()
    text = f'[task]\ndata = "hf-dataset:d{end}"\ntokenizer = "tok.py:make"\n'
    (tmp_path / "run.toml").write_text(text)
    found = load_config(tmp_path / "run.toml").task
    assert found.data == f"hf-dataset:{tmp_path / 'd'}{end}"
    assert found.tokenizer == f"{tmp_path / 'tok.py'}:make"


def settings(place, folder, **changes):
    """Return the settings of a run of the clients that the data name."""
    kept = SMALL | NATURAL | {"task.model": "mlp", "distill.weight": 0.0}
    sizes = {"task.clients": 3, "rounds.cohort": 3, "rounds.cuts": 1}
    data = {"task.data": f"hf-dataset:{place}", "task.inputs": ["a", "b"]}
    return kept | sizes | data | {"run.dir": str(folder)} | changes


REFUSED = {
    "a tokenizer that is not there": (
        {"task.tokenizer": "none.py:make"}, ConfigError, "no file 'none.py'",
    ),
    "a column that is not there": (
        {"task.inputs": ["aa"]}, ConfigError, "did you mean 'a'",
    ),
    "numbers that are missing": (
        {"task.inputs": ["c"]}, DataError, "'c' has no value in 1 of",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_data_that_cannot_be_used_are_refused_before_a_folder_is_made(
    tmp_path, changes, kind, message
):
    rows = speakers() | {"c": [None, *[0.5] * (len(SPEAKERS) - 1)]}
    place = save(tmp_path / "d", train=rows, test=rows)
    with pytest.raises(kind, match=message) as caught:
        simulate(config=settings(place, tmp_path / "runs") | changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_what_was_guessed_and_what_is_unusual_reaches_the_user(place):
    said = " ".join(check_data(task(place, task__partition={"column": "who"})))
    assert "the targets are the column 'label'" in said
    assert "the inputs are the columns 'a', 'b'" in said


# ---- whole runs


@pytest.mark.slow
def test_a_run_over_the_clients_of_the_data_learns_and_prunes(place, tmp_path):
    result = simulate(config=settings(place, tmp_path / "runs"))
    assert result.summary["accuracy_final"] > 0.8
    assert result.summary["params_final"] < result.summary["params_dense"]


# ---- devices

DEVICE = """\
[task]
model = "mlp"
outputs = 2
input_shape = [2]
inputs = ["a", "b"]
target = "label"
partition = { kind = "natural", column = "who" }
"""


def device(place, **changes):
    (place.parent / "device.toml").write_text(DEVICE)
    node_config = {
        node.CLIENT_ID: "bo",
        node.CONFIG: str(place.parent / "device.toml"),
        node.DATA: f"hf-dataset:{place}",
        node.SHARE: "",
        node.STATE: str(place.parent / "state"),
    }
    return device_task(node_config | changes)


def test_a_device_reads_the_examples_of_its_name(place):
    found = device(place)
    assert found.sizes == {"bo": SPEAKERS.count("bo")}
    try_device(found)
    with pytest.raises(DataError, match="client zo has no example"):
        try_device(device(place, **{node.CLIENT_ID: "zo"}))


def test_a_device_is_told_what_was_guessed(place):
    found = device(place)
    (place.parent / "device.toml").write_text(DEVICE.replace('target = "label"\n', ""))
    found = device_task(
        {
            node.CLIENT_ID: "bo",
            node.CONFIG: str(place.parent / "device.toml"),
            node.DATA: f"hf-dataset:{place}",
        }
    )
    assert "the targets are the column 'label'" in " ".join(try_device(found))


def test_equal_fingerprints_of_copies_in_other_places(place, tmp_path):
    other = save(tmp_path / "elsewhere", train=speakers(), test=speakers())
    keys = {"inputs": ("a", "b")}
    assert load(place, **keys).fingerprint() == load(other, **keys).fingerprint()
