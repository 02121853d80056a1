"""``kill -9`` at any moment: the resumed run ends as if nothing had happened."""

import json
import signal
from dataclasses import replace

import pytest
from helpers.crash_script import CONTROLLED, DAMAGES, LATE, TRAPS, UNDISTURBED
from helpers.processes import child, module
from helpers.small_runs import events, figures, read_summary

from fedprune.server.runs.events import (
    ClientAnswered,
    NetworkCut,
    RoundFinished,
    WarningGiven,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Play all cases in one process that forks: importing torch takes the most time."""
    folder = tmp_path_factory.mktemp("crash")
    with child(module("crash_script", str(folder)), folder) as script:
        assert script.wait(360) == 0, script.output
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("moment", TRAPS)
def test_a_run_killed_is_resumed_to_the_same_bits(cases, moment):
    case = cases[moment]
    undisturbed = cases[CONTROLLED if moment in LATE else UNDISTURBED]["run"]
    assert case["ended"] == -signal.SIGKILL
    assert "summary.json" not in case["left"]
    assert ("dense-journal.jsonl" in case["left"]) == (moment in LATE)
    assert case["resumed"] == 0
    assert figures(read_summary(case["run"])) == figures(read_summary(undisturbed))
    assert rounds(case["run"]) == rounds(undisturbed)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(cases, damage):
    case = cases[damage]
    undisturbed = cases[UNDISTURBED]["run"]
    assert (case["ended"], case["resumed"]) == (-signal.SIGKILL, 0)
    (warning,) = events(case["run"], WarningGiven)
    assert "main-round-00002.safetensors is truncated or changed" in warning.text
    assert "the one before it is used" in warning.text
    assert figures(read_summary(case["run"])) == figures(read_summary(undisturbed))
    assert rounds(case["run"]) == rounds(undisturbed)


def rounds(run):
    """Return what every round logged, but for times: each round exactly once."""
    timed = (*events(run, RoundFinished), *events(run, ClientAnswered))
    return [*(replace(event, seconds=0.0) for event in timed), *events(run, NetworkCut)]
