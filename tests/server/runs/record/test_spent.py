"""What a run has spent, in figures and in words."""

import json
import re

import pytest
from helpers.some_events import MAIN, SPENT, at
from helpers.tiny_federation import make_config

from fedprune.common.config import load_config
from fedprune.common.errors import ConfigError
from fedprune.server.runs.record.spent import (
    MULTIPLIER,
    planned_figures,
    planned_lines,
    privacy_figures,
    privacy_line,
)


def test_the_last_round_says_what_all_have_spent():
    events = [at(SPENT, 1, epsilon=1.0), at(SPENT, 2), at(SPENT, 9, run="dense")]
    assert SPENT.run == MAIN
    found = privacy_figures(events)
    assert found == {
        "epsilon": 2.5,
        "epsilon_planned": 8.0,
        "delta": 1e-5,
        "noise_multiplier": 1.25,
    }
    line = privacy_line({"privacy": found})
    assert "epsilon 2.50 at delta 1e-05" in line
    assert "1.25 times" in line


@pytest.mark.parametrize("privacy", [None, "8", {"epsilon": "8"}, {}])
def test_without_noise_there_is_nothing_to_say(privacy):
    assert privacy_figures([]) is None
    assert privacy_line({"privacy": privacy}) == ""


def test_the_noise_of_a_run_is_planned_before_it():
    pytest.importorskip("dp_accounting")
    few = planned_figures(make_config(rounds__final=1), 8.0, None)
    many = planned_figures(make_config(rounds__final=30), 8.0, None)
    assert json.loads(json.dumps(few))["epsilon"] == 8.0
    assert many[MULTIPLIER] > few[MULTIPLIER]


@pytest.mark.parametrize("local", [False, True])
def test_planned_figures_are_numbers_with_keys_of_one_word(local):
    pytest.importorskip("dp_accounting")
    config = load_config(None, ["privacy.preset=strict"] if local else [])
    found = planned_figures(config, None if local else 8.0, None)
    assert {type(value) for value in found.values()} <= {int, float}
    assert [key for key in found if not re.fullmatch(r"[a-z]+(_[a-z]+)*", key)] == []
    lines = list(planned_lines(found))
    (noise,) = [line for line in lines if "sum of the deltas" in line]
    assert f": {found[MULTIPLIER]:.4g} x privacy.clip" in noise
    assert lines[0].startswith("epsilon against the server: " if local else "epsilon: ")
    assert lines[-1].startswith("counted: ")


def test_without_an_epsilon_that_is_what_is_said():
    with pytest.raises(ConfigError, match=r"^no epsilon is given.*want --epsilon E"):
        planned_figures(make_config(), None, None)


@pytest.mark.parametrize(
    "given", [(None, None), (0.0, None), (-1.0, None), (8.0, 1.0), (float("nan"), None)]
)
def test_a_wish_that_makes_no_sense_is_one_line(given):
    with pytest.raises(ConfigError, match="want --epsilon") as error:
        planned_figures(make_config(), *given)
    assert "\n" not in str(error.value)
