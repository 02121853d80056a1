"""The cycle: every phase in its place, and an end after whatever the guard does."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprune.common.config import Rounds
from fedprune.common.messages import Phase
from fedprune.server.rounds.cycle import (
    Cursor,
    after_rollback,
    after_round,
    first_cursor,
    is_cutting,
    is_frozen,
    is_guarded,
    is_previewing,
    may_roll_back,
    rounds_left,
)

DOCUMENTED = Rounds(warmup=3, sparsify=2, finetune=2, cuts=4, final=6)
LETTERS = {Phase.WARMUP: "W", Phase.SPARSIFY: "S", Phase.FINETUNE: "F"}


def name(cursor):
    if cursor.closing:
        return "closing"
    letter = "E" if cursor.final else LETTERS[cursor.phase]
    return f"{letter}{cursor.index}"


def walk(rounds, most=1000):
    """Return the cursors of a run whose budget the last planned cut meets."""
    cursor, found, cuts = first_cursor(rounds), [], 0
    while not cursor.done:
        assert len(found) < most
        found.append(cursor)
        cuts += is_cutting(cursor, rounds)
        cursor = after_round(cursor, rounds, met=cuts >= rounds.cuts)
    return found


def names(rounds):
    return " ".join(name(cursor) for cursor in walk(rounds))


def test_a_run_goes_through_its_phases_in_the_documented_order():
    assert names(DOCUMENTED) == (
        "W1 W2 W3 "
        "S1 S2 F1 F2 S1 S2 F1 F2 S1 S2 F1 F2 S1 S2 F1 F2 "
        "E1 E2 E3 E4 E5 E6 closing"
    )


@pytest.mark.parametrize(
    ("question", "numbers"),
    [
        (is_previewing, [3]),
        (is_cutting, [5, 9, 13, 17]),
        (is_guarded, [7, 11, 15, 19]),
        (is_frozen, [24, 25]),
        (lambda cursor, _: cursor.closing, [26]),
    ],
    ids=["previewing", "cutting", "guarded", "frozen", "closing"],
)
def test_each_step_is_taken_in_the_documented_rounds(question, numbers):
    cursors = enumerate(walk(DOCUMENTED), start=1)
    assert [n for n, c in cursors if question(c, DOCUMENTED)] == numbers


def test_a_run_without_cuts_scores_nothing():
    rounds = DOCUMENTED.model_copy(update={"cuts": 0})
    for cursor in walk(rounds):
        assert not is_previewing(cursor, rounds)
        assert not is_cutting(cursor, rounds)


def test_cuts_aim_at_equal_steps_of_the_schedule_and_the_last_at_its_end():
    cuts = [c for c in walk(DOCUMENTED) if is_cutting(c, DOCUMENTED)]
    assert [c.target for c in cuts] == [0.25, 0.5, 0.75, 1.0]
    assert [c.cycle for c in cuts] == [0, 1, 2, 3]


SMALL = st.integers(0, 4)
ROUNDS = st.builds(
    Rounds,
    warmup=SMALL,
    sparsify=st.integers(1, 3),
    finetune=SMALL,
    cuts=SMALL,
    final=SMALL,
)


@given(rounds=ROUNDS)
def test_without_rollbacks_a_run_takes_its_rounds_and_the_closing_one(rounds):
    cursors = walk(rounds)
    assert len(cursors) == rounds.total + 1
    assert sum(is_cutting(c, rounds) for c in cursors) == rounds.cuts
    assert [c.closing for c in cursors] == [False] * rounds.total + [True]
    if rounds.cuts:
        assert cursors[-1].progress == 1.0


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"finetune": 0}, "W1 S1 S1 E1 closing"),
        ({"warmup": 0}, "S1 F1 S1 F1 E1 closing"),
        ({"cuts": 0}, "W1 E1 closing"),
        ({"cuts": 0, "warmup": 0}, "E1 closing"),
        ({"final": 0}, "W1 S1 F1 S1 F1 closing"),
        ({"final": 0, "finetune": 0}, "W1 S1 S1 closing"),
        ({"cuts": 0, "final": 0}, "W1 closing"),
        ({"sparsify": 3, "cuts": 1}, "W1 S1 S2 S3 F1 E1 closing"),
    ],
)
def test_a_phase_of_no_rounds_is_left_out(changes, wanted):
    rounds = Rounds(warmup=1, sparsify=1, finetune=1, cuts=2, final=1)
    assert names(rounds.model_copy(update=changes)) == wanted


def test_a_budget_that_is_met_early_ends_the_cuts():
    cursor = first_cursor(DOCUMENTED)
    while not is_cutting(cursor, DOCUMENTED):
        cursor = after_round(cursor, DOCUMENTED, met=False)
    found = []
    while not cursor.done:
        cursor = after_round(cursor, DOCUMENTED, met=True)
        found.append(name(cursor))
    assert found[:3] == ["F1", "F2", "E1"]


def test_a_budget_that_is_not_met_by_the_planned_cuts_gets_further_ones():
    cursor, cuts = first_cursor(DOCUMENTED), 0
    while not cursor.done:
        cuts += is_cutting(cursor, DOCUMENTED)
        if cuts > 4:
            assert cursor.progress == 1.0
            assert cursor.target == 1.0
        cursor = after_round(cursor, DOCUMENTED, met=cuts >= 7)
    assert cuts == 7


def test_a_rollback_goes_back_in_front_of_the_cut_with_half_the_step():
    cursors = walk(DOCUMENTED)
    cut = next(c for c in cursors if is_cutting(c, DOCUMENTED) and c.cycle == 2)
    guarded = cut
    while not is_guarded(guarded, DOCUMENTED):
        guarded = after_round(guarded, DOCUMENTED, met=False)
    back = after_rollback(guarded)
    assert back == replace(
        cut, index=1, step=0.125, progress=0.5, before=0.5, phase=Phase.SPARSIFY
    )
    assert back.target == 0.625


def test_the_step_is_halved_twice_and_no_further():
    cursor = first_cursor(DOCUMENTED)
    for allowed in (True, True, False):
        assert may_roll_back(cursor, DOCUMENTED) == allowed
        cursor = after_rollback(cursor)


@given(
    rounds=ROUNDS,
    worse=st.lists(st.booleans(), max_size=60),
    needed=st.integers(0, 6),
)
def test_every_run_ends_whatever_the_guard_says(rounds, worse, needed):
    """``needed``: cuts at the end of the schedule until the budget is met."""
    verdicts = iter(worse)
    cursor, at_end, count, rollbacks = first_cursor(rounds), 0, 0, 0
    cycle = rounds.sparsify + rounds.finetune
    most = rounds.total + 1 + cycle * (3 * rounds.cuts + needed + 4)
    while not cursor.done:
        count += 1
        assert count <= most
        assert 0.0 <= cursor.progress <= 1.0
        assert cursor.cycle >= 0
        if (
            is_guarded(cursor, rounds)
            and may_roll_back(cursor, rounds)
            and next(verdicts, False)
        ):
            rollbacks += 1
            step, cursor = cursor.step, after_rollback(cursor)
            assert cursor.step == step / 2
            assert name(cursor) == "S1"
            continue
        if is_cutting(cursor, rounds):
            at_end += cursor.target == 1.0
        met = not rounds.cuts or at_end > needed
        cursor = after_round(cursor, rounds, met=met)
    assert cursor.final
    assert rollbacks <= 2
    if rounds.cuts:
        assert cursor.progress == 1.0


@given(rounds=ROUNDS)
def test_the_rounds_that_are_left_fall_by_one_a_round(rounds):
    left = [rounds_left(cursor, rounds) for cursor in walk(rounds)]
    assert left == list(range(rounds.total + 1, 0, -1))


def test_a_budget_that_is_met_early_leaves_fewer_rounds():
    cursor = first_cursor(DOCUMENTED)
    while not is_cutting(cursor, DOCUMENTED):
        cursor = after_round(cursor, DOCUMENTED, met=False)
    planned = rounds_left(cursor, DOCUMENTED) - 1
    early = rounds_left(after_round(cursor, DOCUMENTED, met=True), DOCUMENTED)
    cycles = DOCUMENTED.cuts - 1
    saved = cycles * (DOCUMENTED.sparsify + DOCUMENTED.finetune)
    assert early == planned - saved


@given(rounds=ROUNDS, more=st.integers(0, 3))
def test_cuts_that_the_budget_needs_beyond_the_schedule_are_counted(rounds, more):
    left = rounds_left(first_cursor(rounds), rounds, cuts=rounds.cuts + more)
    further = more * (rounds.sparsify + rounds.finetune) if rounds.cuts else 0
    assert left == rounds.total + 1 + further


def test_a_rollback_leaves_more_rounds():
    cursors = walk(DOCUMENTED)
    guarded = next(c for c in cursors if is_guarded(c, DOCUMENTED))
    kept = rounds_left(after_round(guarded, DOCUMENTED, met=False), DOCUMENTED)
    assert rounds_left(after_rollback(guarded), DOCUMENTED) > kept


def test_a_cursor_stands_for_one_round():
    cursors = walk(DOCUMENTED)
    assert len({(c.phase, c.index, c.cycle, c.final) for c in cursors}) == len(cursors)
    assert all(isinstance(cursor, Cursor) for cursor in cursors)
