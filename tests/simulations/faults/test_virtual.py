"""Rounds in virtual time: who counts, for both kinds of sums."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.tiny_federation import make_setting, make_task, start

from fedprune.common.errors import RoundError
from fedprune.server.rounds.answers import aggregate
from fedprune.server.rounds.finish import count_failed_attempt, finish_round
from fedprune.server.rounds.plan import plan_round
from fedprune.server.rounds.records import Status
from fedprune.server.rounds.waiting.absence import Lateness
from fedprune.server.rounds.waiting.closing import Cause
from fedprune.server.rounds.waiting.collecting import collect
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
