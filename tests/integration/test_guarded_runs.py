"""A whole run whose accuracy does not hold below a size stops there and says so."""

from dataclasses import replace

import pytest
from helpers.small_runs import events, figures, only_run, run_small, small_settings

import fedprune.client.rounds.round
import fedprune.server.runs.loop
from fedprune.client.rounds.measure import validate
from fedprune.server.runs.events import (
    CutChecked,
    NetworkCut,
    RoundFinished,
    RunFinished,
    WarningGiven,
)
from fedprune.simulations.runs.api import simulate

pytestmark = pytest.mark.slow

HOLDS = 0.7  # share of the parameters below which the accuracy falls by 40 points
LIMIT = {"prune.max_accuracy_drop": 0.1, "rounds.cuts": 2, "prune.budget.params": 0.5}


def falling(model, examples, task):
    """Validate as ever, but the accuracy is 0.9, and 0.5 below a size."""
    found = validate(model, examples, task)
    dense = sum(one.numel() for one in task.build_model().parameters())
    size = sum(one.numel() for one in model.parameters())
    share = 0.9 if size >= HOLDS * dense else 0.5
    return replace(found, loss_sum=0.5 * found.count, metric_sum=share * found.count)


@pytest.fixture(autouse=True)
def falls(monkeypatch):
    monkeypatch.setattr(fedprune.client.rounds.round, "validate", falling)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Return a run that stopped above its budget."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fedprune.client.rounds.round, "validate", falling)
        return run_small(tmp_path_factory.mktemp("stopped"), LIMIT)


def test_cuts_stop_at_the_smallest_size_that_holds(stopped):
    result, summary = stopped, stopped.summary
    left = summary["params_final"] / summary["params_dense"]
    assert HOLDS <= left < 1.0
    assert summary["budget_met"] is False
    assert summary["budget_used"]["params"] > 1.0
    checks = events(result.directory, CutChecked)
    verdicts = [check.verdict.value for check in checks]
    assert verdicts[0] == "rolled back"
    assert verdicts[-2:] == ["stopped", "kept"]
    assert checks[-1].final == 1
    assert summary["rollbacks"] == sum("k" not in v or "back" in v for v in verdicts)
    cuts = events(result.directory, NetworkCut)
    assert summary["cuts"] == len(cuts) - summary["rollbacks"] >= 1
    held = [round(cut.density, 4) for cut in cuts if cut.density >= HOLDS]
    assert round(left, 4) == min(held)
    (line,) = summary["warnings"]
    assert f"budget not met: params {left:.4f} (asked 0.5)" in line
    assert [e.text for e in events(result.directory, WarningGiven)] == [line]
    page = (result.directory / "report.html").read_text(encoding="utf-8")
    assert "no more is cut" in page
    assert "Checks of the cuts" in page
    # The final rounds and the closing one follow: the run has ended as any other.
    assert [e.phase for e in events(result.directory, RoundFinished)][-2:] == [
        "finetune"
    ] * 2
    assert len(events(result.directory, RunFinished)) == 1


def test_a_network_of_which_no_cut_holds_stays_whole(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "HOLDS", 1.0)
    summary = run_small(tmp_path, LIMIT).summary
    assert (summary["cuts"], summary["budget_met"]) == (0, False)
    assert summary["params_final"] == summary["params_dense"]


def test_a_run_that_holds_meets_its_budget(tmp_path):
    summary = run_small(tmp_path, LIMIT | {"prune.max_accuracy_drop": 0.5}).summary
    assert (summary["budget_met"], summary["rollbacks"]) == (True, 0)
    assert summary["warnings"] == []


class Stop(Exception):  # noqa: N818 - not an error of the program
    """The run ends here, as if it had been killed."""


@pytest.mark.parametrize("after", [4, 8])
def test_a_run_is_resumed_to_the_same_bits(stopped, tmp_path, monkeypatch, after):
    plan_round = fedprune.server.runs.loop.plan_round

    def stopping(state, run_spec, attempt=0):
        if state.round == after:
            raise Stop
        return plan_round(state, run_spec, attempt)

    with monkeypatch.context() as patch:
        patch.setattr(fedprune.server.runs.loop, "plan_round", stopping)
        with pytest.raises(Stop):
            simulate(config=small_settings(tmp_path, LIMIT))
    resumed = simulate(resume_from=only_run(tmp_path))
    assert figures(resumed.summary) == figures(stopped.summary)
    found, wanted = (events(r.directory, CutChecked) for r in (resumed, stopped))
    assert found == wanted
