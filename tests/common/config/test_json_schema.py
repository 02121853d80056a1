"""The schema for editors says of each key what a run says."""

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest

from fedprune.common.config import Config, config_to_toml, parse_config
from fedprune.common.config.json_schema import config_schema
from fedprune.common.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
EXPERIMENTS = sorted((ROOT / "simulations" / "experiments").glob("*.toml"))
SCHEMA = config_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

# One wrong key or value each, which a run refuses and an editor must mark.
TYPOS = [
    "[rounds]\ncohrt = 3\n",
    "[round]\nwarmup = 3\n",
    "[task]\nmomentum = 0.9\n",
    "seed = 3\n",
    "client = 3\n",
    '[task]\npartition = { kind = "iid", alfa = 1 }\n',
    "[task]\npartition = 'iid'\n",
    "[prune.budget]\nparam = 0.5\n",
    "[client]\npenalty = 'bnl1'\n",
    "[client]\npenalty = 'bn-l1+grp'\n",
    "[client]\npenalty = 'none+group'\n",
    "[prune]\nimportance = 'taylor+l1'\n",
    '[client]\nlr = "0.1"\n',
    "[client]\nlr = 0\n",
    "[client]\nlr = [0.1, 0.2]\n",
    "[rounds]\nwarmup = 3.5\n",
    "[rounds]\nwarmup = true\n",
    "[run]\ndeterministic = 1\n",
    "[update]\nupdate_density = 0\n",
    "[prune]\nbudget = { params = 0.5, flops = 1.5 }\n",
    "[client]\nmomentum = 1\n",
    '[client]\noptimizer = "rmsprob"\n',
    "[task]\nignore = [1]\n",
    "[task]\nmodel = ''\n",
    "[run]\nname = 'a/b'\n",
    "[run]\ncontrols = ['dense', 'sparse']\n",
]
GOOD = [
    "",
    "[client]\npenalty = 'l1+group'\n",
    "[client]\npenalty = 'mine.py:shrink'\n",
    "[prune]\nimportance = 'package.module:score'\nmax_accuracy_drop = 0.02\n",
    "[prune]\nbudget = { latency = 0.4 }\nlatency_table = 'latency.json'\n",
    "[client]\nlr = 1\nepochs = 1\n",
    "[privacy]\nepsilon = 8\n[run]\ncontrols = []\n",
    "[task]\ninput_shape = [1, 8, 8]\nlabels = ['a', 'b']\n",
]


def faults(text):
    return [fault.message for fault in VALIDATOR.iter_errors(tomllib.loads(text))]


@pytest.mark.parametrize("text", TYPOS)
def test_what_a_run_refuses_the_schema_refuses(text):
    with pytest.raises(ConfigError):
        parse_config(text)
    assert len(faults(text)) >= 1


@pytest.mark.parametrize("text", GOOD)
def test_what_a_run_accepts_the_schema_accepts(text):
    parse_config(text)
    assert faults(text) == []


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.name)
def test_the_experiments_fit_the_schema(path):
    assert faults(path.read_text(encoding="utf-8")) == []


def test_every_default_fits_the_schema():
    assert len(EXPERIMENTS) > 5
    assert faults(config_to_toml(Config())) == []


def test_every_key_has_its_help_and_tables_take_no_other_key():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    sections = {
        name: SCHEMA["$defs"][item["$ref"].rpartition("/")[2]]
        for name, item in SCHEMA["properties"].items()
    }
    for name, model in Config():
        keys = sections[name]["properties"]
        assert [*keys] == [key for key, _ in model]
        assert [key for key, item in keys.items() if not item["description"]] == []
        assert sections[name]["additionalProperties"] is False
    assert SCHEMA["additionalProperties"] is False
    # TOML has no null, and an editor would offer it.
    assert "null" not in json.dumps(SCHEMA)


def test_choices_and_ranges_are_those_of_the_keys():
    client, update = (
        SCHEMA["$defs"][name]["properties"] for name in ("Client", "Update")
    )
    assert client["optimizer"]["enum"] == ["sgd", "adam", "adamw", "rmsprop"]
    assert "l0" in client["penalty"]["anyOf"][0]["enum"]
    density = update["update_density"]
    assert (density["exclusiveMinimum"], density["maximum"]) == (0, 1)
    assert density["default"] == Config().update.update_density
