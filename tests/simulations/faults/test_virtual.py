"""Rounds in virtual time: who counts, for both kinds of sums."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.tiny_federation import make_setting, make_task, start

from fedprune.common.errors import ConfigError, IntegrityError, RoundError
from fedprune.server.rounds.answers import aggregate
from fedprune.server.rounds.finish import count_failed_attempt, finish_round
from fedprune.server.rounds.plan import plan_round
from fedprune.server.rounds.records import Status
from fedprune.server.rounds.steps.late import settle
from fedprune.server.rounds.waiting.absence import Lateness
from fedprune.server.rounds.waiting.closing import Cause
from fedprune.server.rounds.waiting.collecting import collect
from fedprune.server.runs.state_file import state_from_bytes, state_to_bytes
from fedprune.simulations.engines.engines import EngineSpec, InProcessEngine, engine_for
from fedprune.simulations.faults.plan import FaultPlan
from fedprune.simulations.faults.virtual import VirtualTime

QUICK = {"rounds__cuts": 0, "rounds__final": 12, "rounds__warmup": 0}


class Federation:
    """The tiny federation, round by round."""

    def __init__(self, root, **changes):
        self.task, self.root = make_task(**changes), root
        self.run_spec = make_setting(self.task)
        self.state = start(self.task, self.run_spec)

    @property
    def slow(self):
        return FaultPlan.of(self.task.config).stragglers(self.task.clients)

    def ask(self, attempt=0):
        work = plan_round(self.state, self.run_spec, attempt)
        spec = EngineSpec(task=self.task, root=self.root, workers=1, ray_address="")
        with engine_for(spec, "inprocess") as engine:
            return work, collect(work, engine)

    def round(self):
        work, answers = self.ask()
        self.state, _ = finish_round(self.state, work, answers, self.run_spec)
        return answers


def of(answers, status):
    return [r.client_id for r in answers.records if r.status is status]


def test_a_round_without_faults_is_that_of_the_plain_engine(tmp_path):
    one = Federation(tmp_path / "virtual", robust__max_norm=0.0)
    work, answers = one.ask()
    plain = collect(work, InProcessEngine(one.task, tmp_path / "plain"))
    assert answers.total.delta_sum.tobytes() == plain.total.delta_sum.tobytes()
    assert answers.individual_updates == plain.individual_updates == ()
    closing = answers.closing
    assert (closing.seconds, closing.cause, closing.virtual) == (60.0, Cause.ALL, True)


def test_stragglers_are_left_out_of_the_sum_and_named(tmp_path):
    one = Federation(tmp_path, faults__stragglers=0.25, robust__max_norm=0.0)
    (slow,) = one.slow
    work, answers = one.ask()
    assert of(answers, Status.LATE) == [slow]
    closing = answers.closing
    assert (closing.seconds, closing.cause) == (120.0, Cause.GRACE)
    (record,) = (r for r in answers.records if r.client_id == slow)
    assert record.bytes_up == record.num_examples == 0
    assert record.bytes_down > 1000
    assert "no answer within 120 s" in record.reason
    fast = [o for o in work.request.assignments if o.client_id != slow]
    few = replace(work, request=replace(work.request, assignments=tuple(fast)))
    plain = collect(few, InProcessEngine(one.task, tmp_path / "plain"))
    assert answers.total.delta_sum.tobytes() == plain.total.delta_sum.tobytes()
    assert answers.total.num_examples == plain.total.num_examples


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["mean", "median"])
def test_both_kinds_of_sums_leave_out_the_same_answers(tmp_path, rule):
    one = Federation(tmp_path, faults__stragglers=0.25, robust__aggregate=rule, **QUICK)
    one.round()
    work, answers = one.ask()
    assert work.request.individual_updates == (rule == "median")
    assert len(answers.accepted) == 3
    fast = [o for o in work.request.assignments if o.client_id not in one.slow]
    few = replace(work, request=replace(work.request, assignments=tuple(fast)))
    other = Federation(
        tmp_path / "other", faults__stragglers=0.25, robust__aggregate=rule, **QUICK
    )
    other.round()
    plain = collect(few, InProcessEngine(other.task, tmp_path / "other"))
    assert np.array_equal(aggregate(answers, work), aggregate(plain, few))


def test_a_slow_client_counts_when_the_grace_period_is_long_enough(tmp_path):
    one = Federation(tmp_path, faults__stragglers=0.25, rounds__grace=10.0)
    _, answers = one.ask()
    assert len(answers.accepted) == 4
    assert answers.closing.seconds == 600.0


@pytest.mark.slow
def test_no_more_answers_count_than_the_goal_and_the_first_change(tmp_path):
    one = Federation(tmp_path, rounds__cohort=2, rounds__over_select=2.0, **QUICK)
    chosen = set()
    for _ in range(8):
        answers = one.round()
        assert len(answers.accepted) == 2
        assert answers.total.num_clients == 2
        assert answers.closing.cause is Cause.GOAL
        assert answers.closing.seconds == 60.0
        chosen.add(tuple(of(answers, Status.ACCEPTED)))
    assert len(chosen) > 2
    assert one.state.absences == {}


@pytest.mark.slow
def test_a_slow_client_is_put_aside_after_two_rounds_and_comes_back(tmp_path):
    few = {"task__clients": 5, "rounds__cohort": 5, "rounds__minimum": 1}
    few["rounds__put_aside"] = 3
    one = Federation(tmp_path, faults__stragglers=0.2, **few, **QUICK)
    (slow,) = one.slow
    asked = [slow in {r.client_id for r in one.round().records} for _ in range(9)]
    assert asked == [True, True, False, False, False, True, True, False, False]
    assert one.state.absences == {slow: Lateness(rounds=2, back=11)}
    assert one.state.totals.late == 4
    assert one.state.totals.virtual_seconds == 4 * 120.0 + 5 * 60.0
    assert one.state.pace == (60.0,) * 9


def test_an_attempt_of_a_round_draws_its_own_faults(tmp_path):
    one = Federation(tmp_path, faults__drop_out=0.6, rounds__minimum=4, **QUICK)
    work, answers = one.ask()
    with pytest.raises(RoundError, match=r"rounds\.minimum is 4"):
        finish_round(one.state, work, answers, one.run_spec)
    again, others = one.ask(1)
    assert of(others, Status.LATE) != of(answers, Status.LATE)
    assert again.patience.deadline_s == 2 * work.patience.deadline_s == 7200.0
    state = count_failed_attempt(one.state, answers, one.run_spec)
    assert set(state.absences) == set(of(answers, Status.LATE))
    assert state.totals.virtual_seconds == answers.closing.seconds == 3600.0
    assert state.totals.late == len(state.absences)


@pytest.mark.parametrize(
    ("share", "status", "text"),
    [
        ("crash", Status.FAILED, "faults.crash"),
        ("corrupt", Status.REFUSED, "refused update"),
        ("hang", Status.LATE, "no answer within"),
        ("drop_out", Status.LATE, "no answer within"),
    ],
)
def test_each_fault_has_its_outcome_and_no_part_of_the_sum(
    tmp_path, share, status, text
):
    one = Federation(tmp_path, **{f"faults__{share}": 1.0})
    _, answers = one.ask()
    assert {r.status for r in answers.records} == {status}
    assert all(text in r.reason for r in answers.records)
    assert answers.total.num_clients == 0
    assert not answers.total.delta_sum.any()


def test_a_worker_that_is_lost_is_told_of_at_once(tmp_path):
    one = Federation(tmp_path, faults__stragglers=0.25)
    work = plan_round(one.state, one.run_spec)
    inner = InProcessEngine(one.task, tmp_path)
    seen = []

    class Losing:
        def ask(self, work):
            (part,) = inner.ask(work)
            yield replace(part, lost=("it",), bytes_simulation=7)
            seen.append("after")

    engine = VirtualTime(Losing(), FaultPlan.of(one.task.config), one.task.clients)
    first = next(engine.ask(work))
    assert (first.lost, first.bytes_simulation, seen) == (("it",), 7, [])


# Stragglers answer at 150 s, 30 s after a round of 120 s has closed without them.
LATE = {
    "rounds__late": "use",
    "faults__stragglers": 0.25,
    "faults__slowdown": 2.5,
    "robust__max_norm": 0.0,
    **QUICK,
}


class InMemory:
    """Parts of a state file."""

    def __init__(self):
        self.parts = {}

    def put(self, value, encode):
        data = encode(value)
        name = str(hash(data))
        self.parts[name] = data
        return name

    def get(self, name):
        return self.parts[name]


def after_one_round(tmp_path, **changes):
    one = Federation(tmp_path, **LATE | changes)
    one.round()
    (pending,) = one.state.pending
    assert (pending.round, pending.away_s) == (1, 30.0)
    return one, pending


@pytest.mark.parametrize("norm", [0.0, 1.0])
def test_a_late_answer_counts_in_the_round_in_which_it_arrives(tmp_path, norm):
    one, pending = after_one_round(tmp_path, robust__max_norm=norm)
    before = one.state
    (slow,) = one.slow
    assert pending.client_id == slow
    assert before.ledgers[slow].acknowledged == 0
    work, answers = one.ask()
    assert slow not in {record.client_id for record in answers.records}
    after, report = finish_round(before, work, answers, one.run_spec)
    (used,) = report.late.used
    assert used.num_examples == int(pending.num_examples / np.sqrt(2.0))
    own = [record.num_examples for record in answers.accepted]
    dense = np.zeros(len(before.weights))
    dense[pending.delta.indices] = pending.delta.values
    longest = norm * sorted(r.norm for r in answers.accepted)[1] if norm else np.inf
    dense *= min(1.0, longest / pending.norm)
    alone = aggregate(answers, work) * sum(own)
    wanted = (alone + dense * used.num_examples) / (sum(own) + used.num_examples)
    assert np.allclose(after.weights - before.weights, wanted, atol=1e-6)
    assert not np.allclose(after.weights - before.weights, alone / sum(own), atol=1e-5)
    # Its residual is the one behind that answer, and it may be asked again.
    assert after.ledgers[slow].acknowledged == 1
    assert after.pending == ()
    assert slow not in after.absences
    assert (after.totals.late, after.totals.late_used) == (1, 1)
    grown = after.totals.bytes_up - before.totals.bytes_up
    assert grown == pending.bytes_up + sum(r.bytes_up for r in answers.records)


def test_a_client_that_is_asked_again_has_no_late_answer(tmp_path):
    one = Federation(
        tmp_path, **LATE | {"rounds__put_aside": 1, "faults__slowdown": 9.0}
    )
    one.round()
    one.round()
    (pending,) = one.state.pending
    before = one.state
    work, answers = one.ask()
    assert pending.client_id in {record.client_id for record in answers.records}
    after, report = finish_round(before, work, answers, one.run_spec)
    assert report.late.arrived == ()
    # It is late again, and that answer is on its way.
    assert [(p.round, p.away_s) for p in after.pending] == [(3, 420.0)]
    assert after.totals.late_used == 0


def test_a_late_answer_of_another_network_is_not_used(tmp_path):
    one = Federation(
        tmp_path,
        **LATE | {"rounds__cuts": 1, "rounds__sparsify": 1, "rounds__final": 3},
    )
    work, answers = one.ask()
    assert [one.round for one in answers.awaited] == [1]
    one.state, _ = finish_round(one.state, work, answers, one.run_spec)
    # The cut leaves no use for it: its client is waited for no longer.
    assert one.state.pending == ()
    (slow,) = one.slow
    assert one.state.absences == {slow: Lateness(rounds=1)}
    assert slow in {record.client_id for record in one.ask()[1].records}


def test_fresh_weights_under_the_same_plan_use_no_late_answer(tmp_path):
    one = Federation(tmp_path, **LATE)
    work, answers = one.ask()
    settings = replace(work.plan.settings, since=1)
    later = replace(work, plan=replace(work.plan, round=2, settings=settings))
    settled = settle(answers.awaited, replace(answers, records=()), later, 0.5)
    assert (len(settled.used), len(settled.unused)) == (0, 1)


def test_the_closing_round_uses_no_late_answer_and_asks_all(tmp_path):
    one = Federation(tmp_path, **LATE | {"rounds__final": 1})
    one.round()
    assert one.state.cursor.closing
    assert one.state.pending == ()
    weights = one.state.weights
    assert len(one.round().records) == 4
    assert one.state.totals.late_used == 0
    assert np.array_equal(one.state.weights, weights)


def test_a_deadline_that_no_client_meets_fails_the_round_and_nothing_else(tmp_path):
    given = LATE | {"faults__stragglers": 0.0, "rounds__deadline_s": 30.0}
    one = Federation(tmp_path, **given)
    work, answers = one.ask()
    with pytest.raises(RoundError, match=r"no answer within 30 s"):
        finish_round(one.state, work, answers, one.run_spec)
    assert len(answers.awaited) == 4


def test_a_failed_attempt_loses_no_late_answer(tmp_path):
    one, pending = after_one_round(tmp_path)
    _, answers = one.ask()
    state = count_failed_attempt(one.state, answers, one.run_spec)
    assert [(p.client_id, p.away_s) for p in state.pending] == [
        (pending.client_id, 0.0)
    ]
    work, again = one.ask(1)  # it asks who was put aside, too
    assert pending.client_id in {record.client_id for record in again.records}
    _, report = finish_round(state, work, again, one.run_spec)
    assert report.late.arrived == ()


def test_what_is_on_its_way_is_in_the_checkpoint(tmp_path):
    one, pending = after_one_round(tmp_path)
    parts = InMemory()
    data = state_to_bytes(one.state, "x", parts)
    (read,) = state_from_bytes(data, "x", "c", parts).pending
    for name in ("client_id", "round", "network", "num_examples", "norm", "away_s"):
        assert getattr(read, name) == getattr(pending, name)
    assert np.array_equal(read.delta.indices, pending.delta.indices)
    assert np.array_equal(read.delta.values, pending.delta.values)
    work, answers = one.ask()
    ends = [
        finish_round(state, work, answers, one.run_spec)[0].weights
        for state in (one.state, replace(one.state, pending=(read,)))
    ]
    assert ends[0].tobytes() == ends[1].tobytes()


@pytest.mark.parametrize(
    ("indices", "values"),
    [
        ([0, 10**6], [1.0, 1.0]),
        ([-1, 3], [1.0, 1.0]),
        ([3, 3], [1.0, 1.0]),
        ([3], [1.0, 1.0]),
        ([3], [np.nan]),
    ],
)
def test_a_checkpoint_whose_late_answers_are_none_is_refused(tmp_path, indices, values):
    one, pending = after_one_round(tmp_path)
    false = replace(
        pending.delta,
        indices=np.array(indices, dtype=np.int64),
        values=np.array(values, dtype=np.float32),
    )
    state, parts = (
        replace(one.state, pending=(replace(pending, delta=false),)),
        InMemory(),
    )
    data = state_to_bytes(state, "x", parts)
    with pytest.raises(IntegrityError, match=r"pending\.0' is no delta of \d+ entries"):
        state_from_bytes(data, "x", "c", parts)


@pytest.mark.parametrize(
    "changes",
    [
        {"round": 0},
        {"round": 2},
        {"round": 1.0},
        {"num_examples": 0},
        {"num_examples": 1.5},
        {"bytes_up": -1},
        {"away_s": -1.0},
        {"away_s": float("inf")},
        {"away_s": float("nan")},
        {"away_s": "0"},
        {"client_id": 5},
        {"client_id": "client-9"},
        {"residual_lost": 1},
    ],
    ids=str,
)
def test_a_line_that_is_no_late_answer_is_refused(tmp_path, changes):
    one, pending = after_one_round(tmp_path)
    state, parts = (
        replace(one.state, pending=(replace(pending, **changes),)),
        InMemory(),
    )
    data = state_to_bytes(state, "x", parts)
    with pytest.raises(IntegrityError, match=r"pending\.0' is no late answer"):
        state_from_bytes(data, "x", "c", parts)


def test_the_norm_is_that_of_the_delta_and_a_client_has_one_answer(tmp_path):
    one, pending = after_one_round(tmp_path)
    parts = InMemory()
    state = replace(one.state, pending=(replace(pending, norm=0.0),))
    (read,) = state_from_bytes(
        state_to_bytes(state, "x", parts), "x", "c", parts
    ).pending
    assert read.norm == pending.norm
    data = state_to_bytes(replace(state, pending=(pending, pending)), "x", parts)
    with pytest.raises(IntegrityError, match="a client has two late answers"):
        state_from_bytes(data, "x", "c", parts)


def test_dropped_late_answers_leave_no_trace(tmp_path):
    one = Federation(tmp_path, **LATE | {"rounds__late": "drop"})
    one.round()
    assert one.state.pending == ()
    assert b"pending" not in state_to_bytes(one.state, "x", InMemory())


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"robust__aggregate": "median"}, "since robust.aggregate is"),
        ({"privacy__senders": 2}, "privacy needs sums"),
        ({"rounds__put_aside": 0}, None),
    ],
)
def test_late_answers_are_refused_where_answers_are_compared_or_hidden(changes, text):
    wanted = rf"rounds\.late: found \"use\".*{text}"
    if text is None:
        wanted = r"rounds\.put_aside: found 0, want >= 1"
    with pytest.raises(ConfigError, match=wanted):
        make_task(rounds__late="use", **changes)
