"""A fault plan is the same on both engines, after a resume, and with any clock."""

import json
from dataclasses import replace

import pytest
from helpers.processes import child, module
from helpers.small_runs import (
    events,
    figures,
    read_summary,
    run_small,
)

from fedprune.common.errors import FedPruneError
from fedprune.server.runs.events import (
    ClientAnswered,
    ClientsPutAside,
    LateArrived,
    RoundFinished,
)
from fedprune.simulations.engines import worker
from fedprune.simulations.runs.api import simulate

pytestmark = pytest.mark.slow

FAULTY = {
    "task.clients": 8,
    "rounds.cohort": 5,
    "rounds.over_select": 1.4,
    "rounds.minimum": 2,
    "rounds.warmup": 3,
    "rounds.finetune": 2,
    "rounds.cuts": 1,
    "rounds.final": 3,
    "rounds.put_aside": 2,
    "faults.stragglers": 0.25,
    "faults.drop_out": 0.15,
    "faults.crash": 0.1,
    "faults.hang": 0.05,
    "faults.corrupt": 0.1,
    "faults.clock_s": 1e8,
}

# Stragglers answer at 132 s, some rounds after their own.
PLANS = {
    "drop": FAULTY,
    "use": {**FAULTY, "rounds.late": "use", "faults.slowdown": 2.2},
}


def told(directory):
    """Return what each client's round ended as, and which late answers came."""
    answered = events(directory, ClientAnswered)
    came = events(directory, LateArrived)
    return [*(replace(event, seconds=0.0) for event in answered), *came]


@pytest.fixture(scope="module", params=PLANS)
def late(request):
    return request.param


@pytest.fixture(scope="module")
def here(late, tmp_path_factory):
    return run_small(tmp_path_factory.mktemp("here"), PLANS[late])


def test_late_answers_are_used_where_that_is_wanted(here, late):
    came = events(here.directory, LateArrived)
    used = sum(len(event.used) for event in came)
    assert here.summary["late_used"] == used
    assert (used > 0) == (late == "use")


def test_a_run_with_faults_counts_every_outcome_and_ends_with_a_network(here, late):
    summary = here.summary
    rounds = events(here.directory, RoundFinished)
    assert summary["rounds"] == len(rounds) == 10
    assert all(r.asked == r.accepted + r.refused + r.failed + r.late for r in rounds)
    assert all(2 <= r.accepted <= 5 for r in rounds)
    answered = events(here.directory, ClientAnswered)
    outcomes = [event.status.value for event in answered]
    for status in ("refused", "failed", "late"):
        assert summary[status] == outcomes.count(status) > 0
    assert summary["virtual_seconds"] == sum(r.virtual_seconds for r in rounds)
    assert summary["virtual_seconds"] >= 60.0 * len(rounds)
    # Where late answers are used, one that has arrived ends the absence.
    for aside in events(here.directory, ClientsPutAside) if late == "drop" else ():
        asked = {e.client for e in answered if aside.round < e.round < aside.back}
        assert not asked & set(aside.clients)


def test_clocks_that_are_years_off_change_nothing(here, late, tmp_path):
    right = run_small(tmp_path, PLANS[late] | {"faults.clock_s": 0.0})
    assert right.summary["model_sha256"] == here.summary["model_sha256"]
    assert told(right.directory) == told(here.directory)


def test_a_resumed_run_meets_the_faults_that_it_would_have_met(
    here, late, tmp_path, monkeypatch
):
    honest, calls = worker.run_round, []

    def stops(*arguments):
        calls.append(1)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return honest(*arguments)

    monkeypatch.setattr(worker, "run_round", stops)
    with pytest.raises((KeyboardInterrupt, FedPruneError)):
        run_small(tmp_path, PLANS[late])
    monkeypatch.undo()
    (run,) = tmp_path.iterdir()
    found = simulate(resume_from=run)
    assert figures(found.summary) == figures(here.summary)
    assert told(run) == told(here.directory)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_ray_meets_the_same_faults_bit_for_bit(here, late, tmp_path):
    plan = PLANS[late]
    changes = [f"{key}={json.dumps(value)}" for key, value in plan.items()]
    script = module("ray_script", str(tmp_path), "2", *changes)
    with child(script, tmp_path) as running:
        assert running.wait(300) == 0, running.output
    runs = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert figures(read_summary(runs["2"])) == figures(here.summary)
    assert told(runs["2"]) == told(here.directory)
