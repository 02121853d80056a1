"""The server's half of a round: answers in, a new state out, or none at all."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.states import state_from_bytes, state_to_bytes
from helpers.tiny_federation import (
    ask_all,
    forward_to,
    make_setting,
    make_task,
    start,
    tiny_structure,
)

from fedprune.common.aggregate import Accumulator
from fedprune.common.errors import ConfigError, RoundError
from fedprune.common.messages import Phase, SparseDelta, Statistics, Validation
from fedprune.common.pruning.importance import weight_scores, zero_units
from fedprune.common.pruning.plan import check_plan, child_plan
from fedprune.common.pruning.remap import remap, remap_moments
from fedprune.server.rounds.cycle import Cursor, is_cutting
from fedprune.server.rounds.engine import PartialAggregate, decoded_update
from fedprune.server.rounds.finish import Answers, finish_round
from fedprune.server.rounds.ledger import ClientLedger, Ledgers
from fedprune.server.rounds.plan import plan_round
from fedprune.server.rounds.records import ClientRecord, Status, Validations
from fedprune.server.rounds.state import Snapshot, model_sha256, new_state
from fedprune.server.rounds.waiting.collecting import collect
from fedprune.simulations.engines.engines import InProcessEngine

WARM = Cursor(phase=Phase.WARMUP, index=1, step=0.5)
CUTTING = Cursor(phase=Phase.SPARSIFY, index=1, step=0.5)
# The guard decides at the end of this round.
GUARDED = Cursor(phase=Phase.FINETUNE, index=1, cycle=1, progress=0.5, step=0.5)
CLOSING = Cursor(phase=Phase.FINETUNE, index=3, final=True, closing=True)


class Server:
    """A server in front of one round."""

    def __init__(self, cursor=WARM, **changes):
        self.task = make_task(**changes)
        self.run_spec = make_setting(self.task)
        self.state = replace(start(self.task, self.run_spec), cursor=cursor)

    @property
    def work(self):
        return plan_round(self.state, self.run_spec)

    def answers(self, deltas, **fields):
        """Return answers whose deltas, each float[size], carry ten examples each."""
        work = self.work
        total = Accumulator(work.spec.size, work.request.limits)
        records = []
        for number, dense in enumerate(deltas):
            indices = np.flatnonzero(dense)
            delta = SparseDelta(
                size=len(dense),
                indices=indices,
                values=np.asarray(dense, dtype=np.float32)[indices],
            )
            total.add(delta, 10)
            given = {"loss": 1.0, "num_examples": 10, **fields}
            records.append(
                ClientRecord(
                    client_id=f"client-{number:03d}", status=Status.ACCEPTED, **given
                )
            )
        return Answers(records=tuple(records), total=total)

    def finish(self, answers):
        return finish_round(self.state, self.work, answers, self.run_spec)

    def noise(self, count=4, seed=0):
        rng = np.random.default_rng(seed)
        size = self.work.spec.size
        return [rng.normal(scale=0.01, size=size).astype(np.float32)] * count


def refused(answers, *numbers):
    """Return the answers, some of them refused."""
    records = tuple(
        replace(r, status=Status.REFUSED, reason="field 'x': bad")
        if n in numbers
        else r
        for n, r in enumerate(answers.records)
    )
    return replace(answers, records=records)


def test_the_mean_delta_is_added_to_the_exact_weights_and_not_to_the_broadcast():
    server = Server()
    deltas = server.noise(1) + server.noise(1, seed=1)
    after, _ = server.finish(server.answers(deltas))
    exact = server.state.weights
    assert not np.array_equal(exact, server.work.weights)
    np.testing.assert_allclose(
        after.weights - exact, np.mean(deltas, axis=0), atol=1e-6
    )
    assert after.round == 1


def test_too_few_answers_leave_the_state_as_it_was():
    server = Server(rounds__minimum=3)
    before = state_to_bytes(server.state, "x")
    answers = refused(server.answers(server.noise()), 1, 2)
    with pytest.raises(RoundError, match=r"'x'.*2 of 4 answers.*rounds\.minimum is 3"):
        server.finish(answers)
    kept = state_from_bytes(before, "x", "before")
    assert kept.weights.tobytes() == server.state.weights.tobytes()
    assert (server.state.round, dict(server.state.ledgers)) == (0, {})
    after, _ = server.finish(refused(server.answers(server.noise()), 1))
    assert after.round == 1


def test_the_loss_is_the_mean_over_the_examples_of_the_accepted():
    server = Server()
    answers = server.answers(server.noise(3))
    a, b, c = answers.records
    records = (
        replace(a, loss=1.0, num_examples=15),
        replace(b, loss=2.0, num_examples=10),
        replace(c, loss=900.0, status=Status.REFUSED),
    )
    _, report = server.finish(replace(answers, records=records))
    assert report.loss == 1.4


def test_totals_count_the_bytes_of_everybody_and_the_messages_of_the_accepted():
    server = Server()
    answers = server.answers(server.noise(), bytes_up=100, bytes_down=7, bytes_fixed=30)
    records = list(refused(answers, 1).records)
    records[2] = replace(records[2], status=Status.FAILED, bytes_up=0, bytes_fixed=0)
    answers = replace(answers, records=tuple(records), bytes_simulation=5)
    after, _ = server.finish(answers)
    totals = after.totals
    assert (totals.bytes_up, totals.bytes_down, totals.bytes_fixed) == (300, 28, 90)
    assert (totals.messages_up, totals.refused, totals.failed) == (2, 1, 1)
    assert totals.bytes_simulation == 5


def test_the_ledger_notes_who_holds_what_and_sends_all_again_to_who_failed():
    server = Server(cursor=CUTTING)
    old = ClientLedger(acknowledged=4, structure=True, teacher=b"t" * 16, held=4)
    ledgers = Ledgers.of({f"client-00{n}": old for n in (0, 1, 2)})
    server.state = replace(server.state, round=5, ledgers=ledgers)
    answers = server.answers(server.noise(), importance=np.ones(16, np.float32))
    records = list(refused(answers, 1).records)
    records[2] = replace(records[2], status=Status.LATE)
    answers = replace(answers, records=tuple(records))
    kept = server.work.plan.broadcast.digest
    after, _ = server.finish(answers)
    assert dict(after.ledgers) == {
        "client-000": ClientLedger(
            acknowledged=6, structure=True, teacher=kept, held=6
        ),
        "client-001": ClientLedger(acknowledged=4),
        "client-002": ClientLedger(acknowledged=4),
        "client-003": ClientLedger(
            acknowledged=6, structure=True, teacher=kept, held=6
        ),
    }


def test_a_client_that_was_not_asked_keeps_its_line_in_the_ledger():
    server = Server()
    line = ClientLedger(acknowledged=1, structure=True, teacher=b"t" * 16)
    ledgers = Ledgers.of({"client-009": line})
    server.state = replace(server.state, round=3, ledgers=ledgers)
    after, _ = server.finish(server.answers(server.noise()))
    assert after.ledgers["client-009"] == line


def test_statistics_are_pooled_and_stay_when_no_client_measured():
    server = Server()
    answers = server.answers(server.noise(2))
    ones = np.ones(server.work.spec.moments, dtype=np.float32)
    measured = [
        replace(r, statistics=Statistics(num_examples=8, mean=m * ones, variance=ones))
        for r, m in zip(answers.records, (0.0, 2.0), strict=True)
    ]
    after, report = server.finish(replace(answers, records=tuple(measured)))
    assert after.statistics is report.measured.statistics
    np.testing.assert_allclose(after.statistics.mean, ones)
    np.testing.assert_allclose(after.statistics.variance, 2 * ones)
    server.state = replace(after, cursor=WARM)
    later, _ = server.finish(server.answers(server.noise(2)))
    assert later.statistics is after.statistics


def median_answers(server, rows):
    """Return answers for the median: rows of {position: value}."""
    work = server.work
    answers = server.answers(server.noise(len(rows)))
    individual_updates = []
    for number, row in enumerate(rows):
        delta = SparseDelta(
            size=work.spec.size,
            indices=np.asarray(sorted(row), dtype=np.int64),
            values=np.float32([row[place] for place in sorted(row)]),
        )
        name = f"client-{number:03d}"
        individual_updates.append(decoded_update(name, delta))
    return replace(answers, individual_updates=tuple(individual_updates))


def median_server(cursor=WARM):
    return Server(cursor, robust__aggregate="median", update__values="float32")


def test_the_median_is_taken_over_the_senders_and_scaled_by_their_share():
    server = median_server()
    rows = [{0: 1.0, 5: 8.0}, {0: 2.0, 5: -2.0}, {0: 600.0}, {0: 4.0, 9: 3.0}]
    after, _ = server.finish(median_answers(server, rows))
    moved = after.weights - server.state.weights
    wanted = np.zeros_like(moved)
    wanted[0] = 3.0  # the middle of 1, 2, 4, 600
    wanted[5] = 3.0 * 2 / 4  # two of four sent it
    wanted[9] = 3.0 * 1 / 4
    np.testing.assert_allclose(moved, wanted, atol=1e-6)


@pytest.mark.parametrize(
    "result", ["None", "deltas", "deltas[0, 1:]", "deltas[0] + np.inf", "1.0"]
)
def test_a_rule_of_ones_own_has_to_give_a_finite_number_for_each_weight(
    result, tmp_path
):
    path = tmp_path / "mine.py"
    path.write_text(f"import numpy as np\n\n\ndef f(deltas):\n    return {result}\n")
    server = Server(WARM, robust__aggregate=f"{path}:f", update__values="float32")
    with pytest.raises(ConfigError, match=r"mine.py:f' returned .*finite numbers"):
        server.finish(median_answers(server, [{0: 1.0}, {1: 2.0}]))


def test_a_rule_of_ones_own_on_the_sum_is_asked_for_the_sum(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def f(total):\n    return 2 * total.mean_delta()\n")
    moved = []
    for rule in ("mean", f"{path}:f"):
        changes = {"robust__aggregate": rule, "robust__max_norm": 0.0}
        server = Server(WARM, update__values="float32", **changes)
        assert not server.work.request.individual_updates
        after, _ = server.finish(server.answers(server.noise(2)))
        moved.append(after.weights - server.state.weights)
    np.testing.assert_allclose(moved[1], 2 * moved[0], rtol=1e-5, atol=1e-7)


def test_the_median_does_not_depend_on_the_order_of_the_answers():
    server = median_server()
    rng = np.random.default_rng(0)
    rows = [
        {int(p): float(rng.normal()) for p in rng.choice(50, 20, replace=False)}
        for _ in range(4)
    ]
    answers = median_answers(server, rows)
    turned = replace(answers, individual_updates=answers.individual_updates[::-1])
    one, two = (server.finish(a)[0].weights.tobytes() for a in (answers, turned))
    assert one == two


def test_a_median_over_clients_that_send_nothing_moves_nothing():
    server = median_server(CLOSING)
    after, _ = server.finish(median_answers(server, [{}, {}, {}]))
    assert after.weights.tobytes() == server.state.weights.tobytes()
    assert after.cursor.done


def test_a_sparsify_round_ends_with_exact_zeros_in_what_is_sent_next():
    server = Server(CUTTING, rounds__sparsify=2, client__strength=3.0)
    importance = np.arange(16, dtype=np.float32)
    server.state = replace(server.state, importance=importance)
    targets = server.work.plan.targets
    assert targets.any()
    after, _ = server.finish(server.answers(server.noise()))
    sent = plan_round(after, server.run_spec).weights
    structure = tiny_structure()
    assert zero_units(structure, after.keep, sent).tolist() == targets.tolist()


def test_a_warmup_round_shrinks_nothing():
    server = Server(client__strength=1.0)
    after, _ = server.finish(server.answers(server.noise()))
    assert not zero_units(tiny_structure(), after.keep, after.weights).any()


def test_the_last_warmup_round_takes_up_a_first_importance():
    server = Server()
    votes = np.arange(16, dtype=np.float32)
    after, _ = server.finish(server.answers(server.noise(), importance=votes))
    np.testing.assert_allclose(after.importance, votes / votes.sum(), rtol=1e-6)
    assert after.cursor.phase is Phase.SPARSIFY


def cut(**changes):
    """Return a server before a cut, the state after it, and the report."""
    server = Server(CUTTING, **changes)
    moments = server.work.spec.moments
    server.state = replace(server.state, round=7)
    votes = np.linspace(1.0, 2.0, 16, dtype=np.float32)
    answers = server.answers(server.noise(), importance=votes)
    mean = np.arange(moments, dtype=np.float32)
    moments = Statistics(num_examples=10, mean=mean, variance=mean + 1)
    validation = Validation(loss_sum=3.0, metric_sum=5.0, count=6)
    records = tuple(
        replace(r, validation=validation, statistics=moments) for r in answers.records
    )
    after, report = server.finish(replace(answers, records=records))
    return server, after, report


def test_a_cut_slices_weights_and_statistics_alike():
    server, after, _ = cut(client__strength=0.0)
    structure, full = tiny_structure(), tiny_structure().full()
    assert 0 < after.keep.sum() < 16
    moved = server.state.weights + server.noise(1)[0]
    wanted = remap(moved.astype(np.float32), structure, full, after.keep)
    np.testing.assert_allclose(after.weights, wanted, atol=1e-6)
    mean = np.arange(24, dtype=np.float32)
    np.testing.assert_allclose(
        after.statistics.mean, remap_moments(mean, structure, full, after.keep)
    )
    np.testing.assert_allclose(after.statistics.variance, after.statistics.mean + 1)
    # The next plan can be made: everything has the size of the smaller network.
    assert plan_round(after, server.run_spec).spec.size == len(after.weights)


def test_a_cut_takes_the_least_important_units_and_makes_a_child_plan():
    # A budget that one cut does not reach: the schedule continues.
    server, after, report = cut(client__strength=0.0, prune__budget={"params": 0.3})
    structure = tiny_structure()
    assert after.plan.parent == server.state.plan.digest
    check_plan(structure, after.plan)
    for group in structure.groups:
        kept = after.keep[group.units]
        # Votes rise with the number: what is cut lies at the start.
        assert kept.tolist() == sorted(kept.tolist())
    assert report.choice.plan is after.plan
    assert sorted(report.choice.votes) == [f"client-00{n}" for n in range(4)]
    assert after.cursor == replace(
        CUTTING, phase=Phase.FINETUNE, index=1, cycle=1, progress=0.5
    )


def test_a_cut_remembers_the_network_that_was_sent_as_teacher_and_way_back():
    server, after, _ = cut()
    teacher = after.previous
    assert teacher.round == after.round == 8
    assert teacher.weights.tobytes() == server.work.weights.tobytes()
    assert teacher.digest == server.work.plan.broadcast.digest
    assert teacher.plan is server.state.plan
    assert teacher.validations.losses.tolist() == [0.5] * 4
    assert after.dense is teacher
    assert after.zero_shares == (0.0,)


def test_a_later_cut_remembers_the_network_before_the_first_one_as_well():
    server, first, _ = cut()
    server.state = replace(server.state, dense=replace(first.previous, round=3))
    votes = np.linspace(1.0, 2.0, 16, dtype=np.float32)
    after, _ = server.finish(server.answers(server.noise(), importance=votes))
    assert after.dense is server.state.dense
    assert after.previous.round == after.round


def test_scores_of_refused_clients_do_not_count():
    server = Server(CUTTING)
    votes = np.linspace(1.0, 2.0, 16, dtype=np.float32)
    answers = server.answers(server.noise(), importance=votes)
    liar = replace(
        answers.records[0],
        status=Status.REFUSED,
        importance=votes[::-1].copy() * 1e6,
    )
    answers = replace(answers, records=(liar, *answers.records[1:]))
    _, report = server.finish(answers)
    assert "client-000" not in report.choice.votes
    np.testing.assert_allclose(report.choice.consensus, votes / votes.sum(), rtol=1e-5)


def test_the_server_scores_the_broadcast_and_not_what_came_of_it():
    server = Server(CUTTING, prune__importance="l2", client__strength=0.0)
    structure, full = tiny_structure(), tiny_structure().full()
    rng = np.random.default_rng(0)
    wanted = weight_scores(structure, full, server.work.weights, "l2", rng)
    grown = rng.normal(size=server.work.spec.size)
    _, report = server.finish(server.answers([grown] * 4))
    np.testing.assert_allclose(
        report.choice.consensus, wanted / wanted.sum(), rtol=1e-5
    )
    assert report.choice.votes == {}


def test_one_hostile_scorer_does_not_change_what_is_cut():
    plain = Server(CUTTING)
    votes = np.linspace(1.0, 2.0, 16, dtype=np.float32)
    answers = plain.answers(plain.noise(), importance=votes)
    liar = replace(answers.records[0], importance=votes[::-1].copy() * 1e30)
    hostile = replace(answers, records=(liar, *answers.records[1:]))
    kept = [plain.finish(a)[0].keep.tolist() for a in (answers, hostile)]
    assert kept[0] == kept[1]


def validated(loss, correct=0.5, count=100, clients=4):
    """Return the validations of clients that all measured the same."""
    return Validations(
        clients=tuple(f"client-{number:03d}" for number in range(clients)),
        losses=np.full(clients, loss),
        metrics=np.full(clients, correct),
        counts=np.full(clients, count, dtype=np.int64),
    )


def guarded(loss_after, *, loss_before=1.0, cursor=GUARDED, count=100, **changes):
    """Return a server whose last cut is validated now, and its answers."""
    correct, reference = changes.pop("correct", (0.5, 0.5))
    server = Server(cursor, prune__max_loss_increase=0.2, **changes)
    structure, full = server.run_spec.structure, server.state.plan
    keep = full.keep.copy()
    keep[[0, 9]] = False
    before = Snapshot(
        round=3,
        plan=full,
        weights=server.work.weights,
        digest=server.work.plan.broadcast.digest,
        statistics=Statistics(
            num_examples=9,
            mean=np.ones(24, dtype=np.float32),
            variance=np.ones(24, dtype=np.float32),
        ),
        validations=None if loss_before is None else validated(loss_before, reference),
    )
    server.state = replace(
        server.state,
        round=4,
        plan=child_plan(structure, full, keep),
        weights=remap(before.weights, structure, full.keep, keep),
        previous=before,
        dense=before,
        importance=np.ones(16, dtype=np.float32),
    )
    validation = Validation(
        loss_sum=loss_after * count, metric_sum=correct * count, count=count
    )
    return server, server.answers(server.noise(), validation=validation)


def test_a_cut_that_cost_too_much_is_undone():
    server, answers = guarded(1.5)
    before = server.state.previous
    after, report = server.finish(answers)
    assert after.weights.tobytes() == before.weights.tobytes()
    assert after.statistics is before.statistics
    assert after.keep.all()
    assert after.plan.rollback
    assert after.plan.parent == before.plan.digest
    assert after.previous is None
    assert after.totals.rollbacks == 1
    assert report.check.verdict == "rolled back"
    assert (report.check.loss.found.before, report.check.loss.found.after) == (1.0, 1.5)
    assert report.warning == ""
    assert after.cursor == replace(
        GUARDED, phase=Phase.SPARSIFY, cycle=0, progress=0.0, step=0.25
    )
    # The next plan can be made, and says that units come back.
    plan = plan_round(after, server.run_spec).plan
    assert plan.broadcast.plan.rollback


def test_what_was_not_sent_in_undone_rounds_is_dropped():
    server, answers = guarded(1.5)
    after, _ = server.finish(answers)
    assert plan_round(after, server.run_spec).plan.settings.since == after.round == 5
    later = replace(after, round=7, restarted=6)  # whichever is later
    assert plan_round(later, server.run_spec).plan.settings.since == 6
    server, answers = guarded(1.0)
    stays, _ = server.finish(answers)
    assert plan_round(stays, server.run_spec).plan.settings.since == 0


def test_a_rollback_still_counts_the_round_and_its_answers():
    server, answers = guarded(1.5)
    after, _ = server.finish(answers)
    assert after.round == 5
    assert after.ledgers["client-000"].acknowledged == 5
    assert after.totals.messages_up == 4


@pytest.mark.parametrize(
    ("loss_after", "loss_before"),
    [(1.2, 1.0), (1.25, 1.0), (0.5, 1.0), (1.5, None), (1.5, 1e30)],
)
def test_a_cut_that_cost_little_or_cannot_be_validated_stays(loss_after, loss_before):
    server, answers = guarded(loss_after, loss_before=loss_before)
    after, report = server.finish(answers)
    assert (report.check.verdict, report.warning) == ("kept", "")
    assert (report.check.loss is None) == (loss_before is None)
    assert not after.plan.rollback
    assert after.keep.sum() == 14
    assert after.cursor.progress == 0.5


def test_without_a_validation_the_cut_stays():
    server, answers = guarded(9.0, count=0)
    after, report = server.finish(answers)
    assert (report.check.loss, report.check.accuracy) == (None, None)
    assert report.check.verdict == "kept"
    assert np.isnan(report.score.loss)
    assert after.keep.sum() == 14


def test_at_the_smallest_step_the_guard_warns_and_the_cut_stays():
    server, answers = guarded(1.5, cursor=replace(GUARDED, step=0.125))
    after, report = server.finish(answers)
    assert report.check.verdict == "warned"
    assert "1.5000 after the cut, 1.0000 before it" in report.warning
    assert after.keep.sum() == 14
    assert after.totals.rollbacks == 0


def test_a_cut_that_took_nothing_is_not_undone():
    server, answers = guarded(1.5)
    full = server.state.previous.plan
    state = replace(server.state, plan=full, weights=server.state.previous.weights)
    server.state = state
    answers = server.answers(server.noise(), validation=answers.records[0].validation)
    after, report = server.finish(answers)
    assert (report.check, report.warning) == (None, "")
    assert not after.plan.rollback


def test_losses_beyond_all_bounds_cannot_stop_the_run():
    server, answers = guarded(1.0)
    huge = Validation(loss_sum=1.7e308, metric_sum=-1.7e308, count=100)
    records = tuple(replace(r, validation=huge) for r in answers.records)
    after, report = server.finish(replace(answers, records=records))
    assert report.score.loss == 1e30
    assert after.totals.rollbacks == 1
    data = state_to_bytes(after, "x")
    assert state_from_bytes(data, "x", "x").cursor == after.cursor


LIMIT = {"prune__max_accuracy_drop": 0.1, "correct": (0.5, 0.8)}


def test_a_cut_that_lost_too_much_accuracy_is_undone_whatever_the_loss_says():
    server, answers = guarded(0.5, **LIMIT)
    after, report = server.finish(answers)
    assert report.check.verdict == "rolled back"
    assert not report.check.loss.broken
    assert report.check.accuracy.worse == pytest.approx(0.3)
    assert after.cursor.phase is Phase.SPARSIFY
    assert after.keep.all()


def test_the_guard_works_where_the_budget_is_met_by_the_cut_that_it_checks():
    cursor = replace(GUARDED, progress=1.0, before=0.25)
    server, answers = guarded(0.5, cursor=cursor, **LIMIT)
    after, report = server.finish(answers)
    assert report.check.verdict == "rolled back"
    assert (after.cursor.progress, after.cursor.step) == (0.25, 0.25)


def test_at_the_smallest_step_the_cuts_stop_at_the_network_that_held():
    server, answers = guarded(0.5, cursor=replace(GUARDED, step=0.125), **LIMIT)
    before = server.state.previous
    after, report = server.finish(answers)
    assert report.check.verdict == "stopped"
    assert after.weights.tobytes() == before.weights.tobytes()
    assert after.keep.all()
    assert after.plan.rollback
    assert (after.cursor.final, after.cursor.index, after.cursor.cycle) == (True, 1, 0)
    assert after.totals.rollbacks == 1
    assert "budget not met: params 1.0000 (asked 0.5)" in report.warning
    assert (
        "prune.max_accuracy_drop = 0.1: 0.8000 before the first cut" in report.warning
    )
    assert plan_round(after, server.run_spec).plan.broadcast.plan.rollback


def test_a_mask_is_chosen_where_the_cuts_stop():
    mask = {"prune__mask": {"kind": "unstructured", "density": 0.5}}
    cursor = replace(GUARDED, step=0.125)
    server, answers = guarded(0.5, cursor=cursor, **LIMIT, **mask)
    after, _ = server.finish(answers)
    assert after.mask.plan == after.plan.digest


def test_a_metric_that_falls_when_better_is_limited_from_above():
    server, answers = guarded(0.5, prune__max_accuracy_drop=0.1, correct=(0.8, 0.5))
    _, report = server.finish(answers)
    assert report.check.verdict == "kept"
    server.run_spec = replace(server.run_spec, higher_is_better=False)
    _, report = server.finish(answers)
    assert report.check.accuracy.worse == pytest.approx(0.3)
    assert report.check.verdict == "rolled back"


def test_r_squared_below_zero_has_a_limit_too():
    fallen = {"correct": (-0.5, 0.5), "prune__max_accuracy_drop": 0.5}
    server, answers = guarded(0.5, **fallen)
    _, report = server.finish(answers)
    # 1.5^2 and 0.5 * 0.5 for one example each, 400 of both.
    assert report.check.accuracy.found.error == pytest.approx((2.5 / 400) ** 0.5)
    assert report.check.verdict == "rolled back"


def test_without_a_limit_the_accuracy_is_measured_and_nothing_follows():
    server, answers = guarded(0.5, correct=(0.1, 0.9))
    _, report = server.finish(answers)
    assert report.check.accuracy.worse == pytest.approx(0.8)
    assert report.check.verdict == "kept"


@pytest.mark.parametrize(
    ("correct", "verdict"), [((0.75, 0.8), "kept"), ((0.5, 0.8), "warned")]
)
def test_the_final_network_is_checked_and_stays(correct, verdict):
    limit = {**LIMIT, "correct": correct}
    server, answers = guarded(9.0, cursor=CLOSING, **limit)
    after, report = server.finish(answers)
    assert report.check.verdict == verdict
    assert after.keep.sum() == 14
    assert after.cursor.done
    assert report.check.loss.allowed is None
    wanted = "the final network breaks prune.max_accuracy_drop = 0.1: 0.8000 before"
    assert (wanted in report.warning) == (verdict == "warned")


@pytest.mark.parametrize("cursor", [GUARDED, CLOSING])
def test_a_limit_that_no_client_can_measure_is_told(cursor):
    server, answers = guarded(0.5, cursor=cursor, **LIMIT)
    unmeasured = replace(server.state.dense, validations=None)
    server.state = replace(server.state, dense=unmeasured, previous=unmeasured)
    _, report = server.finish(answers)
    assert report.check.accuracy is None
    assert "prune.max_accuracy_drop = 0.1 is not checked" in report.warning
    server, answers = guarded(0.5, cursor=cursor, loss_before=None)
    assert server.finish(answers)[1].warning == ""


def test_cuts_that_stop_say_that_no_fresh_weights_follow():
    fresh = {"prune__restart": "fresh"}
    cursor = replace(GUARDED, step=0.125)
    server, answers = guarded(0.5, cursor=cursor, **LIMIT, **fresh)
    after, report = server.finish(answers)
    assert after.weights.tobytes() == server.state.previous.weights.tobytes()
    assert "its weights stay" in report.warning


def test_without_a_limit_the_closing_round_checks_nothing():
    server, answers = guarded(9.0, cursor=CLOSING, correct=(0.1, 0.9))
    _, report = server.finish(answers)
    assert (report.check, report.warning) == (None, "")


class Losing:
    """An engine that loses a client, or answers for one twice."""

    def __init__(self, engine, change):
        self.engine, self.change = engine, change

    def ask(self, work):
        for part in self.engine.ask(work):
            yield replace(part, records=self.change(part.records))


@pytest.mark.parametrize(
    "change",
    [lambda records: records[1:], lambda records: (records[0], *records)],
    ids=["lost", "twice"],
)
def test_sums_that_miss_or_repeat_a_client_are_not_used(tmp_path, change):
    server = Server()
    engine = Losing(InProcessEngine(server.task, tmp_path), change)
    with pytest.raises(RoundError, match="round 1: asked"):
        collect(server.work, engine)


def test_an_engine_that_yields_nothing_is_noticed():
    class Silent:
        def ask(self, _):
            yield from ()

    with pytest.raises(RoundError, match="answered for"):
        collect(Server().work, Silent())


def test_parts_are_added_and_records_come_in_the_order_of_their_ids(tmp_path):
    server = Server()
    work = server.work
    whole = ask_all(work, server.task, tmp_path / "one")
    engine = InProcessEngine(server.task, tmp_path / "two")

    class Split:
        def ask(self, work):
            request = work.request
            for assignment in reversed(request.assignments):
                individual = replace(request, assignments=(assignment,))
                yield from engine.ask(replace(work, request=individual))
            empty = Accumulator(work.spec.size, request.limits)
            yield PartialAggregate(records=(), total=empty, bytes_simulation=5)

    parts = collect(work, Split())
    assert parts.total.delta_sum.tobytes() == whole.total.delta_sum.tobytes()
    assert [r.client_id for r in parts.records] == list(server.run_spec.clients)
    assert parts.bytes_simulation == 5


@pytest.mark.slow
def test_a_whole_run_meets_its_budget_and_ends(tmp_path):
    task = make_task()
    run_spec = make_setting(task)
    cuts = []

    def is_done(cursor):
        cuts.append(is_cutting(cursor, task.config.rounds))
        return cursor.done

    state = forward_to(start(task, run_spec), run_spec, task, tmp_path, is_done)
    assert state.round == len(cuts) - 1
    assert sum(cuts) - state.totals.rollbacks >= 1
    size = run_spec.structure.spec(run_spec.structure.full()).size
    assert len(state.weights) <= 0.5 * size
    assert state.statistics is not None
    assert state.totals.refused == state.totals.failed == 0


def test_weights_of_another_size_are_refused_at_the_start():
    structure = tiny_structure()
    with pytest.raises(ValueError, match="3 weights for a network of"):
        new_state(structure, np.zeros(3, np.float32), WARM, Server().state.plan)


def test_the_hash_of_a_model_depends_on_plan_weights_and_statistics():
    server, answers = guarded(1.0)
    del answers
    base = server.state.previous
    other_plan = replace(base.plan, keep=server.state.keep)
    variants = [
        base,
        replace(base, weights=base.weights + np.float32(1e-3)),
        replace(base, plan=other_plan),
        replace(base, statistics=None),
    ]
    assert len({model_sha256(one) for one in variants}) == 4
    assert model_sha256(replace(base, round=9)) == model_sha256(base)
