"""A round's questions: who is asked, and exactly what each of them lacks."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.tiny_federation import (
    Tiny,
    make_setting,
    make_task,
    plan_for,
    start,
    tiny_structure,
)

from fedprune.common import codec
from fedprune.common.config import Update
from fedprune.common.messages import Phase, Statistics
from fedprune.common.methods.schedule import learning_rate
from fedprune.common.models.weights_file import save_weights
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
from fedprune.server.rounds.ledger import ClientLedger, Ledgers
from fedprune.server.rounds.plan import (
    asked,
    draw_cohort,
    plan_round,
    rate_of,
    update_density,
)
from fedprune.server.rounds.state import Snapshot
from fedprune.server.rounds.waiting.absence import Lateness
from fedprune.server.rounds.waiting.closing import Patience

CUTTING = Cursor(phase=Phase.SPARSIFY, index=1, step=0.5)
TUNING = Cursor(phase=Phase.FINETUNE, index=1, cycle=1, progress=0.5, step=0.5)


def prepare(cursor=CUTTING, **changes):
    task = make_task(**changes)
    run_spec = make_setting(task)
    return replace(start(task, run_spec), cursor=cursor), run_spec


def many(**changes):
    return make_setting(make_task(task__clients=30, rounds__cohort=8, **changes))


def test_a_cohort_is_drawn_without_replacement_from_all_clients():
    run_spec = many()
    cohorts = [draw_cohort(run_spec, round_, 0, {}) for round_ in range(1, 40)]
    assert all(len(set(cohort)) == 8 for cohort in cohorts)
    assert {c for cohort in cohorts for c in cohort} == set(run_spec.clients)
    assert len(set(cohorts)) > 30


def test_a_cohort_depends_on_seed_round_and_attempt_alone():
    first = draw_cohort(many(), 3, 0, {})
    assert draw_cohort(many(), 3, 0, {}) == first
    assert draw_cohort(many(), 4, 0, {}) != first
    assert draw_cohort(many(), 3, 1, {}) != first
    assert draw_cohort(many(run__seed=1), 3, 0, {}) != first


@pytest.mark.parametrize(
    ("over_select", "count"), [(1.0, 8), (1.2, 10), (1.5, 12), (10.0, 30)]
)
def test_more_are_asked_by_the_over_selection_but_never_more_than_there_are(
    over_select, count
):
    run_spec = many(rounds__over_select=over_select)
    assert len(draw_cohort(run_spec, 1, 0, {})) == count


def test_a_tenth_more_of_ten_is_one_more():
    """As floats 10 * 1.1 is more than 11."""
    rounds = many(rounds__over_select=1.1).config.rounds
    assert asked(rounds.model_copy(update={"cohort": 10}), 30) == 11


def test_clients_that_are_put_aside_are_replaced_until_the_second_attempt():
    run_spec = many()
    whole = draw_cohort(run_spec, 3, 0, {})
    away = {whole[0]: Lateness(rounds=2, back=4), whole[1]: Lateness(rounds=1)}
    first = draw_cohort(run_spec, 3, 0, away)
    assert len(first) == len(whole)
    assert whole[0] not in first
    assert draw_cohort(run_spec, 3, 1, away) == draw_cohort(run_spec, 3, 1, {})
    assert draw_cohort(run_spec, 4, 0, away) == draw_cohort(run_spec, 4, 0, {})


def test_a_round_waits_as_the_keys_and_the_measured_rounds_say():
    task = make_task(rounds__minimum=3, rounds__quorum=0.75, rounds__grace=1.5)
    run_spec = make_setting(task)
    state = replace(start(task, run_spec), pace=(100.0,))
    assert plan_round(state, run_spec).patience == Patience(
        goal=4, minimum=3, quorum=0.75, grace=1.5, deadline_s=300.0
    )
    assert plan_round(state, run_spec, 1).patience.deadline_s == 600.0
    assert plan_round(state, run_spec, 1).request.attempt == 1


def test_over_selection_is_covered_by_the_bounds_of_the_sums():
    task = make_task(task__clients=30, rounds__cohort=8, rounds__over_select=1.5)
    run_spec = make_setting(task)
    work = plan_round(start(task, run_spec), run_spec)
    request = work.request
    assert request.limits.clients == len(request.assignments) == 12
    assert work.patience.goal == 8


def teacher_of(state, run_spec, seed=5):
    """Return a snapshot as the server keeps it: decoded weights of a broadcast."""
    spec = run_spec.structure.spec(state.keep)
    weights = np.random.default_rng(seed).normal(size=spec.size).astype(np.float32)
    broadcast, decoded = encode_network(
        state.plan, weights, None, spec, run_spec.config.broadcast.values
    )
    return Snapshot(
        round=1,
        plan=state.plan,
        weights=decoded,
        digest=broadcast.digest,
        statistics=None,
    )


def test_each_client_is_sent_what_it_lacks_and_nothing_else():
    state, run_spec = prepare(TUNING)
    teacher = teacher_of(state, run_spec)
    a, b, c, d = run_spec.clients
    known = {
        a: ClientLedger(acknowledged=3, structure=True, teacher=teacher.digest),
        b: ClientLedger(acknowledged=2, structure=True, teacher=b"0" * 16),
        c: ClientLedger(acknowledged=0, structure=False, teacher=teacher.digest),
    }
    state = replace(state, round=3, dense=teacher, previous=teacher)
    state = replace(state, ledgers=Ledgers.of(known))
    work = plan_round(state, run_spec)
    plans = {name: plan_for(work, n) for n, name in enumerate(run_spec.clients)}
    text = run_spec.structure.to_json()
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
            run_spec.structure.digest,
            teacher.digest,
        )
    assert len(work.request.variants) == 4


def test_clients_that_lack_the_same_share_one_encoded_plan():
    state, run_spec = prepare()
    work = plan_round(state, run_spec)
    assert len(work.request.variants) == 1
    assert {assignment.variant for assignment in work.request.assignments} == {0}


@pytest.mark.parametrize("values", ["grid", "float32"])
def test_a_teacher_that_is_sent_again_decodes_to_the_bits_that_it_promises(values):
    state, run_spec = prepare(TUNING, broadcast__values=values)
    for seed in range(5):
        teacher = teacher_of(state, run_spec, seed)
        work = plan_round(replace(state, dense=teacher, previous=teacher), run_spec)
        sent = plan_for(work).teacher_broadcast
        assert sent is not None
        decoded = codec.decode_weights(sent.weights, work.spec)
        assert decoded.tobytes() == teacher.weights.tobytes()


def test_without_distillation_no_teacher_is_kept_or_sent():
    state, run_spec = prepare(TUNING, distill__weight=0.0)
    teacher = teacher_of(state, run_spec)
    state = replace(state, dense=teacher, previous=teacher)
    plan = plan_for(plan_round(state, run_spec))
    assert (plan.teacher, plan.teacher_broadcast) == (b"", None)
    assert plan.settings.distill_weight == 0.0
    cutting = plan_round(replace(state, cursor=CUTTING), run_spec)
    assert not plan_for(cutting).keep_broadcast


def test_only_a_fine_tune_round_has_a_teacher_and_only_the_first_cut_keeps_one():
    state, run_spec = prepare(distill__teacher="dense")
    taught = teacher_of(state, run_spec)
    taught = replace(state, dense=taught, previous=taught)
    cases = {
        "first cut": replace(state, cursor=CUTTING),
        "cut": replace(taught, cursor=CUTTING),
        "tune": replace(taught, cursor=TUNING),
        "closing": replace(taught, cursor=replace(TUNING, final=True, closing=True)),
    }
    found = {}
    for name, state in cases.items():
        plan = plan_for(plan_round(state, run_spec))
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
    state, run_spec = prepare(TUNING, distill__teacher="previous")
    dense, previous = teacher_of(state, run_spec), teacher_of(state, run_spec, 6)
    state = replace(state, dense=dense, previous=previous)
    assert plan_for(plan_round(state, run_spec)).teacher == previous.digest
    cutting = plan_round(replace(state, cursor=CUTTING), run_spec)
    assert plan_for(cutting).keep_broadcast


def test_the_broadcast_is_on_its_grid_and_the_server_keeps_what_the_grid_loses():
    state, run_spec = prepare()
    before = state.weights.copy()
    work = plan_round(state, run_spec)
    plan = plan_for(work)
    decoded = codec.decode_weights(plan.broadcast.weights, work.spec)
    assert decoded.tobytes() == work.weights.tobytes()
    assert plan.broadcast.digest == weights_digest(work.weights)
    assert not np.array_equal(work.weights, state.weights)
    np.testing.assert_allclose(work.weights, state.weights, atol=0.01)
    assert state.weights.tobytes() == before.tobytes()


def test_a_float32_broadcast_loses_nothing():
    state, run_spec = prepare(broadcast__values="float32")
    assert plan_round(state, run_spec).weights.tobytes() == state.weights.tobytes()


def test_the_same_state_is_planned_to_the_same_bytes():
    state, run_spec = prepare()
    one, two = (plan_round(state, run_spec).request for _ in range(2))
    assert one == two


def phases(**changes):
    """Return the settings of each round of a run without clients."""
    state, run_spec = prepare(**changes)
    rounds = run_spec.config.rounds
    cursor = Cursor(phase=Phase.WARMUP, step=0.5)
    teacher = teacher_of(state, run_spec)
    state = replace(state, dense=teacher, previous=teacher)
    state = replace(
        state, statistics=plan_statistics(run_spec), importance=np.ones(16, np.float32)
    )
    found, cuts = [], 0
    while not cursor.done:
        work = plan_round(replace(state, round=len(found), cursor=cursor), run_spec)
        found.append((cursor, work.plan))
        cuts += is_cutting(cursor, rounds)
        cursor = after_round(cursor, rounds, met=cuts == rounds.cuts)
    return found, rounds


def plan_statistics(run_spec):
    moments = run_spec.structure.spec(run_spec.structure.full()).moments
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


def own_draws(draws):
    return draws + 1.0


@pytest.mark.parametrize("criterion", ["random", f"{__file__}:own_draws", "l2"])
def test_random_channels_are_not_shrunk_before_they_are_cut(criterion):
    found, _ = phases(prune__importance=criterion)
    sparsified = [p for cursor, p in found if cursor.phase is Phase.SPARSIFY]
    aimed = criterion == "l2"
    assert sparsified
    for plan in sparsified:
        assert (plan.targets is not None) == aimed
        assert (plan.settings.penalty != "none") == aimed
        assert (plan.settings.strength > 0.0) == aimed


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, "bn-l1+group"),
        ({"task__weights": "a.safetensors"}, "none"),
        ({"task__weights": "a.safetensors", "client__penalty": "group"}, "group"),
        ({"client__penalty": "none"}, "none"),
        ({"client__strength": 0.0}, "none"),
    ],
)
def test_pretrained_weights_have_no_penalty_unless_one_is_asked_for(
    settings, wanted, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    save_weights(tmp_path / "a.safetensors", Tiny(), {})
    found, _ = phases(**settings)
    sparsified = [p for cursor, p in found if cursor.phase is Phase.SPARSIFY]
    assert {plan.settings.penalty for plan in sparsified} == {wanted}
    for plan in sparsified:
        assert (plan.targets is None) == (wanted == "none")
        assert (plan.settings.strength == 0.0) == (wanted == "none")


def test_the_penalty_aims_at_the_least_important_channels_of_each_group():
    state, run_spec = prepare()
    importance = np.arange(16, 0, -1, dtype=np.float32)
    plan = plan_round(replace(state, importance=importance), run_spec).plan
    assert plan.targets is not None
    for group in run_spec.structure.groups:
        aimed = plan.targets[group.units]
        # Importance falls with the number: what is aimed at lies at the end.
        assert aimed.tolist() == sorted(aimed.tolist())


@pytest.mark.parametrize("progress", [0.0, 0.125])
def test_the_penalty_aims_at_what_all_later_cuts_would_take(progress):
    cursor = Cursor(phase=Phase.SPARSIFY, index=1, step=0.125, progress=progress)
    state, run_spec = prepare(cursor=cursor, rounds__cuts=8)
    importance = np.arange(16, 0, -1, dtype=np.float32)
    plan = plan_round(replace(state, importance=importance), run_spec).plan
    next_, last = (
        choose_next(
            run_spec.structure,
            run_spec.config,
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
    state, run_spec = prepare()
    assert state.importance is None
    assert plan_round(state, run_spec).plan.targets is None


def test_the_learning_rate_falls_over_the_whole_run():
    found, rounds = phases(client__lr_schedule="cosine", client__lr=0.1)
    rates = [plan.settings.lr for _, plan in found]
    assert rates == sorted(rates, reverse=True)
    assert (rates[0], rates[rounds.total - 1]) == pytest.approx((0.1, 0.005))


def test_a_rewound_rate_falls_over_the_warmup_and_again_over_the_rest():
    _, run_spec = prepare(client__lr=0.1, client__lr_rewind=0.04, rounds__warmup=4)
    config = run_spec.config
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
