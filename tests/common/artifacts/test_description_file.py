"""Label names and preprocessing in the files of a network."""

import json
from dataclasses import replace

import pytest
from helpers.finished_run import a_run

import fedprune
from fedprune.common import codec
from fedprune.common.artifacts import (
    description_metadata,
    read_description,
    read_model_file,
    write_labels,
    write_model_file,
)
from fedprune.common.artifacts.load import load_model
from fedprune.common.codec.frame import Kind, seal, unseal
from fedprune.common.config import load_config
from fedprune.common.description import Description
from fedprune.common.errors import ConfigError, IntegrityError, PayloadError
from fedprune.common.tasks.described import declared_description
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.simulations.export.packing import write_fpz

FACTS = Description(
    labels=("Katze", "犬", 'a, "b"'), offset=127.5, scale=1 / 127.5, stored="uint8"
)
SOME = [
    FACTS,
    Description(labels=("a", "b")),
    Description(stored="int64"),
    Description(offset=-3.5, scale=0.1, stored="float32"),
    Description(offset=(0.0, 0.1, 1e-9), scale=2.0, stored="uint8"),
    Description(offset=(124.0, 116.0), scale=(0.1, 0.3), stored="uint8"),
    Description(),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return a_run(tmp_path_factory.mktemp("runs"), "mlp", description=FACTS)[0]


def packed_as(run, path):
    task = LoadedTask(load_config())
    source = run.model / "final.safetensors"
    write_fpz(source, path, values="grid", task=task, finetune=0, load=load_model)
    return path


@pytest.mark.parametrize("facts", SOME)
def test_a_description_survives_as_metadata(facts, tmp_path):
    metadata = description_metadata(facts)
    assert all(isinstance(value, str) for value in metadata.values())
    assert read_description(tmp_path, metadata) == facts


def test_both_kinds_of_file_tell_their_description(run, tmp_path):
    path = run.model / "final.safetensors"
    assert fedprune.describe_model(path) == FACTS
    assert fedprune.describe_model(str(path)) == FACTS
    assert fedprune.describe_model(packed_as(run, tmp_path / "a.fpz")) == FACTS
    with pytest.raises(ConfigError, match="is a folder"):
        fedprune.describe_model(run.model)


def test_files_without_a_description_still_load(tmp_path):
    folder, _ = a_run(tmp_path, "mlp")
    path = folder.model / "final.safetensors"
    assert not {"labels", "offset", "scale", "stored"} & read_model_file(path)[1].keys()
    assert fedprune.describe_model(path) == Description()
    packed = packed_as(folder, tmp_path / "a.fpz")
    assert fedprune.describe_model(packed) == Description()
    for file in (path, packed):
        assert not load_model(file).training


HOSTILE = {
    "labels that are no list": ({"labels": '{"a": 1}'}, "labels"),
    "labels that are no JSON": ({"labels": "[" * 1000}, "labels"),
    "a label that is a number": ({"labels": "[1]"}, "labels"),
    "a label with an escape": ({"labels": '["\\u001b[31m"]'}, "labels"),
    "half of a surrogate pair": ({"labels": '["\\ud800"]'}, "labels"),
    "70 000 labels": ({"labels": json.dumps(["a"] * 70_000)}, "labels"),
    "an offset that is no number": ({"offset": "x"}, "offset"),
    "an offset of a million digits": ({"offset": "1" * 1_000_000}, "offset"),
    "a scale that is not finite": ({"scale": "inf"}, "scale"),
    "a scale of 0": ({"scale": "0"}, "scale"),
    "a type with a slash": ({"stored": "/etc"}, "stored"),
}


@pytest.mark.parametrize(("change", "key"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_metadata_are_refused_by_their_key(run, tmp_path, change, key):
    tensors, metadata = read_model_file(run.model / "final.safetensors")
    with pytest.raises(IntegrityError, match=f"metadata {key}: ") as caught:
        write_model_file(tmp_path / "x.safetensors", tensors, {**metadata, **change})
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("gone", ["offset", "scale", "stored"])
def test_a_part_of_the_preprocessing_alone_is_refused(tmp_path, gone):
    metadata = description_metadata(FACTS)
    del metadata[gone]
    with pytest.raises(IntegrityError, match=f"metadata {gone}: missing"):
        read_description(tmp_path, metadata)


def test_a_packed_file_that_says_nothing_has_the_bytes_that_it_had(run, tmp_path):
    data = packed_as(run, tmp_path / "a.fpz").read_bytes()
    model = codec.decode_model(data)
    assert codec.encode_model(model) == data
    silent = codec.encode_model(replace(model, description=Description()))
    assert len(unseal(silent, Kind.MODEL, 1 << 24)) == 7
    both = codec.encode_model(replace(model, run="2026-a"))
    found = codec.decode_model(both)
    assert (found.run, found.description) == ("2026-a", FACTS)


FORGED = {
    "no list": "x",
    "three fields": [["a"], 0.0, 1.0],
    "labels that are no texts": [[1], 0.0, 1.0, "uint8"],
    "an integer as offset": [[], 0, 1.0, "uint8"],
    "a scale of 0": [[], 0.0, 0.0, "uint8"],
    "a channel with a scale of 0": [[], 0.0, [1.0, 0.0], "uint8"],
    "numbers of no channel": [[], [], 1.0, "uint8"],
    "more offsets than scales": [[], [0.0, 1.0], [1.0, 1.0, 1.0], "uint8"],
    "lists in a list": [[], [[0.0]], 1.0, "uint8"],
    "a type of two lines": [[], 0.0, 1.0, "a\nb"],
    "nothing": [[], 0.0, 1.0, ""],
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
def test_a_forged_description_of_a_packed_file_is_refused(run, tmp_path, forged):
    data = packed_as(run, tmp_path / "a.fpz").read_bytes()
    items = unseal(data, Kind.MODEL, 1 << 24)
    with pytest.raises(PayloadError, match=r"model\.description"):
        codec.decode_model(seal(Kind.MODEL, [*items[:-1], forged]))


def test_labels_are_a_json_list_in_order_and_no_file_without_any(tmp_path):
    path = tmp_path / "labels.json"
    assert not write_labels(path, Description(stored="uint8"))
    assert not path.exists()
    assert write_labels(path, FACTS)
    assert json.loads(path.read_text(encoding="utf-8")) == list(FACTS.labels)


class Odd(fedprune.Task):
    """A task that says anything of its inputs."""

    found = None

    def describe(self):
        return self.found


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, "Odd.describe returns a NoneType"),
        (Description(scale=0.0), r"Odd\.describe: scale"),
        (Description(offset="x"), r"Odd\.describe"),
        (Description(labels=("a",) * 11), "11 label names, .* 10 outputs"),
        (
            Description(offset=(1.0, 2.0, 3.0)),
            r"Odd\.describe: .* 3 channels, and an input has 1",
        ),
    ],
)
def test_an_own_description_is_checked(found, message):
    task = Odd()
    task.found = found
    with pytest.raises(ConfigError, match=message):
        LoadedTask(load_config(), given=task).describe()


def test_an_own_description_is_made_printable_and_plain():
    task = Odd()
    task.found = Description(labels=("a\nb",), offset=1, stored="uint8")
    found = LoadedTask(load_config(), given=task).describe()
    assert found == Description(labels=("a\\nb",), offset=1.0, stored="uint8")
    assert declared_description(LoadedTask(load_config(), given=task)) == found


def test_a_server_declares_labels_and_nothing_of_data_that_it_has_not():
    config = load_config(
        None, ['task.labels=["a", "b"]', "task.data=nowhere.npz", "task.outputs=2"]
    )
    assert declared_description(LoadedTask(config)) == Description(labels=("a", "b"))
