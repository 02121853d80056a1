"""Laws of a whole run in this process: guard, penalty, median, participation, order."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from helpers.small_runs import PARTIAL, events, figures, run_small

import fedprune.client.rounds.evaluate
import fedprune.simulations.engines.engines
import fedprune.simulations.engines.worker
from fedprune.client.rounds.round import run_round
from fedprune.client.rounds.score import score
from fedprune.common import codec
from fedprune.common.messages import Phase
from fedprune.common.sparsity.sparsify import sparsify
from fedprune.server.runs.events import (
    ClientAnswered,
    CutChecked,
    CutRolledBack,
    NetworkCut,
    WarningGiven,
)

BUDGET = {"prune.budget.params": 0.5}


@pytest.mark.slow
def test_an_undisturbed_run_leaves_all_that_it_promises(tmp_path):
    result = run_small(tmp_path, {"run.controls": ["dense"]})
    names = ("manifest.json", "config.toml", "events.jsonl", "metrics.csv")
    names += ("structure.json", "plan.json", "summary.json")
    names += ("model/final.safetensors", "model/dense.safetensors")
    names += ("model/before_cut.safetensors",)
    for name in names:
        assert (result.directory / name).stat().st_size > 0, name
    summary = result.summary
    assert summary["cuts"] == len(events(result.directory, NetworkCut)) == 2
    assert summary["params_final"] <= 0.5 * summary["params_dense"]
    share = summary["params_final"] / summary["params_dense"]
    assert summary["budget_used"] == {"params": round(share / 0.5, 4)}
    assert summary["budget_used"]["params"] >= 0.98
    assert not events(result.directory, WarningGiven)
    assert 0 < summary["bytes_up"] < summary["bytes_up_control"]
    sent = [e.bytes_up for e in events(result.directory, ClientAnswered) if is_main(e)]
    assert sum(sent) == summary["bytes_up"]


@pytest.mark.slow
def test_a_run_says_which_widths_leave_its_budget_unused(tmp_path):
    # 12 and 24 channels by 8: 8 of the first are 0.69 of the weights, or less.
    settings = {"prune.width_multiple": 8, "prune.budget.params": 0.8}
    result = run_small(tmp_path, settings)
    assert result.summary["budget_used"]["params"] < 0.98
    said = [e.text for e in events(result.directory, WarningGiven)]
    assert len(said) == 1
    assert "budget params = 0.8 ends at" in said[0]
    assert "the smallest step back, 8 to 12 channels of '0', ends at" in said[0]
    assert "multiples of 8: a smaller prune.width_multiple" in said[0]


def is_main(event):
    return event.run == "main"


def inverted(*arguments, **options):
    """Score as honest clients do and send the opposite: the best channel goes first."""
    honest = score(*arguments, **options)
    return honest.max() - honest


@pytest.mark.slow
def test_hostile_scores_are_rolled_back_and_the_budget_is_met_all_the_same(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(fedprune.client.rounds.evaluate, "score", inverted)
    well_trained = {
        "rounds.warmup": 8,
        "client.epochs": 2,
        "update.update_density": 0.5,
        "client.strength": 0.0,
        "distill.weight": 0.0,
        "prune.max_loss_increase": 0.0,
        "prune.step_cap": 1.0,
    }
    result = run_small(tmp_path, well_trained | BUDGET)
    rollbacks = events(result.directory, CutRolledBack)
    cuts = events(result.directory, NetworkCut)
    assert rollbacks
    assert result.summary["rollbacks"] == len(rollbacks)
    steps = [cut.step for cut in cuts]
    checks = [c for c in events(result.directory, CutChecked) if c.verdict != "kept"]
    for back, check in zip(rollbacks, checks, strict=False):  # the last may be warned
        assert (back.round, back.cycle) == (check.round, check.cycle)
        rise = check.loss_after - check.loss_before
        assert rise > 0.05 + 2 * check.loss_error
        undone = next(c for c in reversed(cuts) if c.round < back.round)
        again = next(c for c in cuts if c.round > back.round)
        assert again.step == back.step == undone.step / 2
    assert min(steps) >= 0.25 * steps[0]
    assert result.summary["params_final"] <= 0.5 * result.summary["params_dense"]
    assert result.summary["cuts"] == len(cuts) - len(rollbacks)


@pytest.mark.slow
def test_the_penalty_makes_exact_zeros_in_the_broadcast(tmp_path):
    def zeros(strength):
        changes = {"client.strength": strength, "rounds.sparsify": 3}
        return run_small(tmp_path, changes).summary["zero_share_broadcast"]

    assert zeros(0.0) == 0.0
    assert zeros(0.9) > 0.05


@pytest.mark.slow
def test_the_median_withstands_a_client_that_the_mean_follows(tmp_path, monkeypatch):
    def boosted(opened, cache, store):
        answer = run_round(opened, cache, store)
        if opened.plan.client_id != "client-000":
            return answer
        return boost(answer, opened)

    def boost(answer, opened):
        """Return the answer with every sent entry turned round and made huge."""
        fields = list(codec.unseal(answer, codec.Kind.UPDATE, len(answer)))
        plan, spec = opened.plan, opened.spec
        rng = np.random.default_rng(plan.round)
        chosen = sparsify(
            rng.normal(scale=3.0, size=spec.size).astype(np.float32),
            plan.settings.update_density,
        )
        forged = codec.quantise_delta(chosen, spec, plan.settings.values)
        fields[7] = codec.encode_delta(forged, opened.side_info)
        return codec.seal(codec.Kind.UPDATE, fields)

    monkeypatch.setattr(fedprune.simulations.engines.worker, "run_round", boosted)
    trained = {"rounds.warmup": 8, "rounds.cuts": 0, "rounds.final": 0}
    # The median is over those who send an entry: here everybody sends nearly all.
    trained |= {"client.epochs": 3, "update.update_density": 1.0}
    trained |= {"update.values": "int8"}
    trained |= {"task.partition.kind": "iid"}
    # About the rule alone: shortened, such a delta does no harm to the mean either.
    trained |= {"robust.max_norm": 0.0}

    def accuracy(rule):
        result = run_small(tmp_path / rule, trained | {"robust.aggregate": rule})
        (refused,) = (e for e in events(result.directory, ClientAnswered) if e.reason)
        # The closing round trains nothing: the only one where such a delta shows.
        assert refused.round == result.summary["rounds"]
        assert "client-000: field 'delta" in refused.reason
        return result.summary["accuracy_final"]

    assert accuracy("median") > accuracy("mean") + 0.3


@pytest.fixture
def plans(monkeypatch):
    """Collect every plan that a client is sent, by round and client."""
    seen = {}

    def watched(opened, cache, store):
        seen[opened.plan.round, opened.plan.client_id] = opened.plan
        return run_round(opened, cache, store)

    monkeypatch.setattr(fedprune.simulations.engines.worker, "run_round", watched)
    return seen


@pytest.mark.slow
def test_a_client_that_lacks_the_teacher_is_sent_it_once_and_it_is_counted(
    tmp_path, plans
):
    result = run_small(tmp_path, PARTIAL)
    down = {
        (e.round, e.client): e.bytes_down
        for e in events(result.directory, ClientAnswered)
    }
    (cut,) = events(result.directory, NetworkCut)
    holders = {name for (round_, name) in plans if round_ == cut.round}
    times = defaultdict(int)
    for (round_, name), plan in sorted(plans.items()):
        if not plan.teacher:
            assert plan.teacher_broadcast is None
            continue
        sent = plan.teacher_broadcast is not None
        assert sent == (name not in holders), (round_, name)
        times[name] += sent
        holders.add(name)
        if sent:
            extra = len(plan.teacher_broadcast.weights) + len(plan.structure_json)
            others = [
                down[key]
                for key, other in plans.items()
                if key[0] == round_ and other.teacher_broadcast is None
            ]
            assert all(down[round_, name] > other + extra / 2 for other in others)
    assert max(times.values()) == 1
    assert any(plan.phase is Phase.FINETUNE for plan in plans.values())
    assert result.summary["bytes_down"] == sum(down.values())


@pytest.mark.slow
def test_the_teacher_that_is_sent_is_the_broadcast_that_others_kept(tmp_path, plans):
    run_small(tmp_path, PARTIAL)
    kept = {p.broadcast.digest: p.broadcast for p in plans.values() if p.keep_broadcast}
    sent = [p.teacher_broadcast for p in plans.values() if p.teacher_broadcast]
    assert sent
    for teacher in sent:
        mine, theirs = kept[teacher.digest], teacher
        assert mine.plan.digest == theirs.plan.digest
        # Its moments were measured since, and go to those who hold it as well.
        assert theirs.statistics is None
    moments = {
        (p.teacher, p.teacher_statistics.mean.tobytes())
        for p in plans.values()
        if p.teacher
    }
    assert len(moments) == len({teacher for teacher, _ in moments}) > 0


class Shuffled(fedprune.simulations.engines.worker.Worker):
    """Plays the clients in the opposite order, as other workers would."""

    def play(self, request):
        return super().play(replace(request, assignments=request.assignments[::-1]))


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, PARTIAL], ids=["all", "partial"])
def test_the_order_in_which_clients_are_played_changes_nothing(
    tmp_path, monkeypatch, changes
):
    one = run_small(tmp_path, changes)
    monkeypatch.setattr(fedprune.simulations.engines.engines, "Worker", Shuffled)
    two = run_small(tmp_path, changes)
    assert figures(one.summary) == figures(two.summary)


@pytest.mark.slow
def test_another_seed_is_another_run(tmp_path):
    one = run_small(tmp_path).summary["model_sha256"]
    two = run_small(tmp_path, {"run.seed": 1}).summary["model_sha256"]
    assert one != two
