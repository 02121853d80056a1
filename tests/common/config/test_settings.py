"""Settings from Python say the same as a file, or are refused by their key."""

import re
from enum import StrEnum
from pathlib import Path

import numpy as np
import pytest

from fedprune.common.config import (
    DATA_VARIABLE,
    config_to_toml,
    expand_sweep,
    load_config,
    parse_config,
)
from fedprune.common.errors import ConfigError


class Kind(StrEnum):
    IID = "iid"


SAME = {
    "a nested mapping": (
        {"task": {"clients": 12, "partition": {"kind": "iid"}}},
        "[task]\nclients = 12\npartition = { kind = 'iid' }",
    ),
    "dotted keys": (
        {"task.clients": 12, "task.partition.kind": "iid"},
        "[task]\nclients = 12\npartition.kind = 'iid'",
    ),
    "both": (
        {"task": {"partition.kind": "iid"}, "task.clients": 12},
        "[task]\nclients = 12\npartition.kind = 'iid'",
    ),
    "a table": ({"task.partition": {"kind": "iid"}}, "[task.partition]\nkind = 'iid'"),
    "the budget of the first page": (
        {"prune.budget": {"params": 0.4}},
        "[prune]\nbudget = { params = 0.4 }",
    ),
    "a list": ({"task.ignore": ["a", "b"]}, "[task]\nignore = ['a', 'b']"),
    "a tuple": ({"task.ignore": ("a", "b")}, "[task]\nignore = ['a', 'b']"),
    "a path": ({"run.dir": Path("a/b")}, "[run]\ndir = 'a/b'"),
    "a numpy integer": ({"run.seed": np.int64(3)}, "[run]\nseed = 3"),
    "a numpy float": ({"client.lr": np.float32(0.5)}, "[client]\nlr = 0.5"),
    "a numpy float64": ({"client.lr": np.float64(0.1)}, "[client]\nlr = 0.1"),
    "a numpy boolean": (
        {"run.deterministic": np.bool_(0)},
        "[run]\ndeterministic = false",
    ),
    "numpy integers in a list": (
        {"task.input_shape": (np.int32(1), 8, 8)},
        "[task]\ninput_shape = [1, 8, 8]",
    ),
    "a kind of string": (
        {"task.partition.kind": Kind.IID, "task.model": np.str_("mlp")},
        "[task]\nmodel = 'mlp'\npartition.kind = 'iid'",
    ),
    "an empty section": ({"task": {}}, ""),
}

REFUSED = {
    "an object": ({"task.model": object()}, "task.model: found object, want a string"),
    "nothing": (
        {"task": {"weights": None}},
        "task.weights: found NoneType, want a string; leave the key out for its def",
    ),
    "an array": ({"client.lr": np.array(0.1)}, "client.lr: found ndarray, want a num"),
    "a set": ({"task.ignore": {"a"}}, "task.ignore: found set, want a list of strings"),
    "bytes": ({"run.dir": b"a"}, "run.dir: found bytes, want a string"),
    "a complex number": ({"client.lr": 1j}, "client.lr: found complex, want a number"),
    "a list for a number": (
        {"client": {"lr": [0.1, 0.2]}},
        (
            "client.lr: found a list [0.1, 0.2], want a number, > 0; several values "
            "are several runs: one call for each"
        ),
    ),
    "a list of lists for a list": (
        {"task.input_shape": [[1, 8, 8]]},
        "task.input_shape: found a list [[1, 8, 8]], want a list, each an integer, >=",
    ),
    "a mapping for a number": (
        {"client.lr": {"a": 1}},
        "client.lr: found { a = 1 }, want a number",
    ),
    "a number for a table": (
        {"task.partition": 3},
        "task.partition: found 3, want a t",
    ),
    "a number for a section": (
        {"task": 3},
        "task: found 3, want a table with use, model",
    ),
    "a key without a section": ({"clients": 3}, "clients: unknown key; "),
    "a misspelt key": (
        {"task": {"clientz": 3}},
        'task.clientz: unknown key; did you mean "task.clients"?',
    ),
    "a misspelt key of a table": (
        {"task.partition": {"alfa": 1.0}},
        'task.partition.alfa: unknown key; did you mean "task.partition.alpha"?',
    ),
    "an object for an unknown section": (
        {"tusk.model": object()},
        'tusk: unknown key; did you mean "task"?',
    ),
    "a key that is no string": ({3: 4}, 'found the key 3, want "section.key"'),
    "an inner key that is no string": ({"task": {3: 4}}, "task: found the key 3, want"),
    "an empty part of a key": ({"task.": 4}, "found the key 'task.', want"),
    "a key set twice": (
        {"task": {"clients": 3}, "task.clients": 3},
        "task.clients: set twice; want it once",
    ),
    "a table and its key": (
        {"task.partition.alpha": 1.0, "task": {"partition": {"kind": "iid"}}},
        "task.partition: set twice; want it once",
    ),
    "text that no file can hold": ({"run.dir": "\udcff"}, "run.dir: found '\\udcff'; "),
    "keys that do not fit": (
        {"rounds.cohort": 20},
        "rounds.cohort: found 20, want <= ",
    ),
}


@pytest.fixture(autouse=True)
def no_folder_of_data(monkeypatch):
    monkeypatch.delenv(DATA_VARIABLE, raising=False)


@pytest.mark.parametrize(("settings", "text"), SAME.values(), ids=SAME)
def test_settings_from_python_say_the_same_as_a_file(settings, text):
    config = load_config(None, settings)
    assert config == parse_config(text)
    assert parse_config(config_to_toml(config)) == config


@pytest.mark.parametrize(("settings", "message"), REFUSED.values(), ids=REFUSED)
def test_a_bad_setting_from_python_is_one_line_that_names_the_key(settings, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        load_config(None, settings)
    assert str(caught.value).startswith("Python settings: ")
    assert "--" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_go_over_a_file_key_by_key(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("[task]\nclients = 12\n[prune]\nbudget = { flops = 0.5 }\n")
    config = load_config(str(path), {"task": {"model": "mlp"}, "prune.floor": 3})
    assert (config.task.clients, config.task.model) == (12, "mlp")
    assert (config.prune.floor, config.prune.budget.flops) == (3, 0.5)


def test_lists_of_python_are_a_sweep_where_one_is_asked_for():
    runs = expand_sweep(None, {"client": {"lr": (np.float64(0.5), 0.25)}})
    assert [config.client.lr for _, config in runs] == [0.5, 0.25]


def test_the_path_of_a_configuration_may_be_a_string(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("[run]\nseed = 7\n")
    assert load_config(str(path)) == load_config(path)
    assert load_config(str(path)).run.seed == 7


@pytest.mark.parametrize("path", [3, b"a.toml", {"run.seed": 7}], ids=repr)
def test_what_is_no_path_is_refused(path):
    with pytest.raises(ConfigError, match="want the path of a configuration: a str or"):
        load_config(path)


def test_an_override_that_no_file_can_hold_is_refused():
    with pytest.raises(ConfigError, match="its bytes are not UTF-8"):
        load_config(None, ["run.dir=\udcff"])
