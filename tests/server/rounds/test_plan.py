"""A round's questions: who is asked, and exactly what each of them lacks."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.tiny_federation import (
    make_setting,
    make_task,
    plan_for,
    start,
    tiny_structure,
)

from fedprune.common import codec
from fedprune.common.config import Update
from fedprune.common.messages import Phase, Statistics
from fedprune.common.schedule import learning_rate
from fedprune.common.spec import weights_digest
from fedprune.server.rounds.broadcast import encode_network
from fedprune.server.rounds.cut import choose_next
from fedprune.server.rounds.cycle import (
    Cursor,
    after_round,
    is_cutting,
    is_frozen,
    is_previewing,
)
from fedprune.server.rounds.plan import draw_cohort, plan_round, rate_of, update_density
from fedprune.server.rounds.state import Known, Snapshot

CUTTING = Cursor(phase=Phase.SPARSIFY, index=1, step=0.5)
TUNING = Cursor(phase=Phase.FINETUNE, index=1, cycle=1, progress=0.5, step=0.5)


def prepare(cursor=CUTTING, **changes):
    task = make_task(**changes)
    setting = make_setting(task)
    return replace(start(task, setting), cursor=cursor), setting


def many(**changes):
    return make_setting(make_task(task__clients=30, rounds__cohort=8, **changes))


def test_a_cohort_is_drawn_without_replacement_from_all_clients():
    setting = many()
    cohorts = [draw_cohort(setting, round_, 0) for round_ in range(1, 40)]
    assert all(len(set(cohort)) == 8 for cohort in cohorts)
    assert {c for cohort in cohorts for c in cohort} == set(setting.clients)
    assert len(set(cohorts)) > 30


def test_a_cohort_depends_on_seed_round_and_attempt_alone():
    first = draw_cohort(many(), 3, 0)
    assert draw_cohort(many(), 3, 0) == first
    assert draw_cohort(many(), 4, 0) != first
    assert draw_cohort(many(), 3, 1) != first
    assert draw_cohort(many(run__seed=1), 3, 0) != first


@pytest.mark.parametrize(
    ("over_select", "asked"), [(1.0, 8), (1.2, 10), (1.5, 12), (10.0, 30)]
)
def test_more_are_asked_by_the_over_selection_but_never_more_than_there_are(
    over_select, asked
):
    setting = many(rounds__over_select=over_select)
    assert len(draw_cohort(setting, 1, 0)) == asked


def test_over_selection_is_covered_by_the_bounds_of_the_sums():
    task = make_task(task__clients=30, rounds__cohort=8, rounds__over_select=1.5)
    setting = make_setting(task)
    work = plan_round(start(task, setting), setting)
    asking = work.asking
    assert asking.limits.clients == len(asking.orders) == 12
    assert work.goal == 8


def teacher_of(state, setting, seed=5):
    """Return a snapshot as the server keeps it: decoded weights of a broadcast."""
    spec = setting.structure.spec(state.keep)
    weights = np.random.default_rng(seed).normal(size=spec.size).astype(np.float32)
    broadcast, decoded = encode_network(
        state.plan, weights, None, spec, setting.config.broadcast.values
    )
    return Snapshot(
        round=1,
        plan=state.plan,
        weights=decoded,
        digest=broadcast.digest,
        statistics=None,
        loss=1.0,
    )


def test_each_client_is_sent_what_it_lacks_and_nothing_else():
    state, setting = prepare(TUNING)
    teacher = teacher_of(state, setting)
    a, b, c, d = setting.clients
    known = {
        a: Known(acknowledged=3, structure=True, teacher=teacher.digest),
        b: Known(acknowledged=2, structure=True, teacher=b"0" * 16),
        c: Known(acknowledged=0, structure=False, teacher=teacher.digest),
    }
    state = replace(state, round=3, dense=teacher, previous=teacher, known=known)
    work = plan_round(state, setting)
    plans = {name: plan_for(work, n) for n, name in enumerate(setting.clients)}
    text = setting.structure.to_json()
    held = {
        name: (plan.structure_json == text, plan.teacher_broadcast is not None)
        for name, plan in plans.items()
    }
    assert held == {
        a: (False, False),
        b: (False, True),
        c: (True, False),
        d: (True, True),
    }
    assert {name: plan.acknowledged for name, plan in plans.items()} == {
        a: 3, b: 2, c: 0, d: 0,
    }  # fmt: skip
    for name, plan in plans.items():
        assert (plan.client_id, plan.round) == (name, 4)
        assert (plan.structure, plan.teacher) == (
            setting.structure.digest,
            teacher.digest,
        )
    assert len(work.asking.variants) == 4


def test_clients_that_lack_the_same_share_one_encoded_plan():
    state, setting = prepare()
    work = plan_round(state, setting)
    assert len(work.asking.variants) == 1
    assert {order.variant for order in work.asking.orders} == {0}


@pytest.mark.parametrize("values", ["grid", "float32"])
def test_a_teacher_that_is_sent_again_decodes_to_the_bits_that_it_promises(values):
    state, setting = prepare(TUNING, broadcast__values=values)
    for seed in range(5):
        teacher = teacher_of(state, setting, seed)
        work = plan_round(replace(state, dense=teacher, previous=teacher), setting)
        sent = plan_for(work).teacher_broadcast
        assert sent is not None
        decoded = codec.decode_weights(sent.weights, work.spec)
        assert decoded.tobytes() == teacher.weights.tobytes()


def test_without_distillation_no_teacher_is_kept_or_sent():
    state, setting = prepare(TUNING, distill__weight=0.0)
    teacher = teacher_of(state, setting)
    state = replace(state, dense=teacher, previous=teacher)
    plan = plan_for(plan_round(state, setting))
    assert (plan.teacher, plan.teacher_broadcast) == (b"", None)
    assert plan.settings.distill_weight == 0.0
    cutting = plan_round(replace(state, cursor=CUTTING), setting)
    assert not plan_for(cutting).keep_broadcast


def test_only_a_fine_tune_round_has_a_teacher_and_only_the_first_cut_keeps_one():
    state, setting = prepare(distill__teacher="dense")
    taught = teacher_of(state, setting)
    taught = replace(state, dense=taught, previous=taught)
    cases = {
        "first cut": replace(state, cursor=CUTTING),
        "cut": replace(taught, cursor=CUTTING),
        "tune": replace(taught, cursor=TUNING),
        "closing": replace(taught, cursor=replace(TUNING, final=True, closing=True)),
    }
    found = {}
    for name, state in cases.items():
        plan = plan_for(plan_round(state, setting))
        found[name] = (
            bool(plan.teacher),
            plan.settings.distill_weight,
            plan.keep_broadcast,
        )
    assert found == {
        "first cut": (False, 0.0, True),
        "cut": (False, 0.0, False),
        "tune": (True, 0.5, False),
        "closing": (False, 0.0, False),
    }


def test_the_previous_network_teaches_where_that_is_asked_for():
    state, setting = prepare(TUNING, distill__teacher="previous")
    dense, previous = teacher_of(state, setting), teacher_of(state, setting, 6)
    state = replace(state, dense=dense, previous=previous)
    assert plan_for(plan_round(state, setting)).teacher == previous.digest
    cutting = plan_round(replace(state, cursor=CUTTING), setting)
    assert plan_for(cutting).keep_broadcast


def test_the_broadcast_is_on_its_grid_and_the_server_keeps_what_the_grid_loses():
    state, setting = prepare()
    before = state.weights.copy()
    work = plan_round(state, setting)
    plan = plan_for(work)
    decoded = codec.decode_weights(plan.broadcast.weights, work.spec)
    assert decoded.tobytes() == work.weights.tobytes()
    assert plan.broadcast.digest == weights_digest(work.weights)
    assert not np.array_equal(work.weights, state.weights)
    np.testing.assert_allclose(work.weights, state.weights, atol=0.01)
    assert state.weights.tobytes() == before.tobytes()


def test_a_float32_broadcast_loses_nothing():
    state, setting = prepare(broadcast__values="float32")
    assert plan_round(state, setting).weights.tobytes() == state.weights.tobytes()


def test_the_same_state_is_planned_to_the_same_bytes():
    state, setting = prepare()
    one, two = (plan_round(state, setting).asking for _ in range(2))
    assert one == two


def phases(**changes):
    """Return the settings of each round of a run without clients."""
    state, setting = prepare(**changes)
    rounds = setting.config.rounds
    cursor = Cursor(phase=Phase.WARMUP, step=0.5)
    teacher = teacher_of(state, setting)
    state = replace(state, dense=teacher, previous=teacher)
    state = replace(
        state, statistics=plan_statistics(setting), importance=np.ones(16, np.float32)
    )
    found, cuts = [], 0
    while not cursor.done:
        work = plan_round(replace(state, round=len(found), cursor=cursor), setting)
        found.append((cursor, work.plan))
        cuts += is_cutting(cursor, rounds)
        cursor = after_round(cursor, rounds, met=cuts == rounds.cuts)
    return found, rounds


def plan_statistics(setting):
    moments = setting.structure.spec(setting.structure.full()).moments
    mean = np.zeros(moments, dtype=np.float32)
    return Statistics(num_examples=10, mean=mean, variance=mean + 1)


def test_each_phase_has_its_settings():
    found, rounds = phases(rounds__warmup=2, rounds__sparsify=2, rounds__final=3)
    for cursor, plan in found:
        settings = plan.settings
        sparsifying = cursor.phase is Phase.SPARSIFY
        scoring = is_cutting(cursor, rounds) or is_previewing(cursor, rounds)
        assert plan.phase is cursor.phase
        assert (settings.penalty != "none") == sparsifying
        assert (settings.strength > 0) == sparsifying
        assert settings.importance == ("taylor" if scoring else "")
        assert settings.epochs == (0 if cursor.closing else 1)
        assert settings.freeze == is_frozen(cursor, rounds)
        assert settings.measure != settings.freeze
        assert (plan.targets is not None) == sparsifying
        if plan.targets is not None:
            assert plan.targets.shape == (tiny_structure().units,)
            assert 0 < plan.targets.sum() < tiny_structure().units
    assert found[-1][1].settings.measure


@pytest.mark.parametrize("criterion", ["l1", "l2", "gamma", "random"])
def test_a_criterion_of_the_server_asks_clients_for_no_scores(criterion):
    found, _ = phases(prune__importance=criterion)
    assert {plan.settings.importance for _, plan in found} == {""}


def test_the_penalty_aims_at_the_least_important_channels_of_each_group():
    state, setting = prepare()
    importance = np.arange(16, 0, -1, dtype=np.float32)
    plan = plan_round(replace(state, importance=importance), setting).plan
    assert plan.targets is not None
    for group in setting.structure.groups:
        aimed = plan.targets[group.units]
        # Importance falls with the number: what is aimed at lies at the end.
        assert aimed.tolist() == sorted(aimed.tolist())


@pytest.mark.parametrize("progress", [0.0, 0.125])
def test_the_penalty_aims_at_what_all_later_cuts_would_take(progress):
    cursor = Cursor(phase=Phase.SPARSIFY, index=1, step=0.125, progress=progress)
    state, setting = prepare(cursor=cursor, rounds__cuts=8)
    importance = np.arange(16, 0, -1, dtype=np.float32)
    plan = plan_round(replace(state, importance=importance), setting).plan
    next_, last = (
        choose_next(
            setting.structure,
            setting.config,
            None,
            state.plan,
            importance,
            progress=end,
        )
        for end in (cursor.target, 1.0)
    )
    assert next_.sum() > last.sum()
    assert plan.targets is not None
    assert plan.targets.tolist() == (~last).tolist()


def test_without_an_importance_the_penalty_aims_at_all_channels():
    state, setting = prepare()
    assert state.importance is None
    assert plan_round(state, setting).plan.targets is None


def test_the_learning_rate_falls_over_the_whole_run():
    found, rounds = phases(client__lr_schedule="cosine", client__lr=0.1)
    rates = [plan.settings.lr for _, plan in found]
    assert rates == sorted(rates, reverse=True)
    assert (rates[0], rates[rounds.total - 1]) == pytest.approx((0.1, 0.005))


def test_a_rewound_rate_falls_over_the_warmup_and_again_over_the_rest():
    _, setting = prepare(client__lr=0.1, client__lr_rewind=0.04, rounds__warmup=4)
    config = setting.config
    total = config.rounds.total
    rates = [rate_of(round_, config) for round_ in range(1, total + 1)]
    assert rates[:4] == [learning_rate("cosine", 0.1, r, 4) for r in range(1, 5)]
    assert rates[4:] == [
        learning_rate("cosine", 0.04, r, total - 4) for r in range(1, total - 3)
    ]
    plain = config.model_copy(
        update={"client": config.client.model_copy(update={"lr_rewind": 0.0})}
    )
    assert rate_of(5, plain) == learning_rate("cosine", 0.1, 5, total)


def test_a_small_network_sends_at_least_the_fewest_entries():
    update = Update(update_density=0.1, min_entries=50)
    assert [update_density(update, n) for n in (2000, 500, 100, 20)] == [
        0.1,
        0.1,
        0.5,
        1.0,
    ]
