"""When a round closes, and whose answers count."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprune.server.rounds.waiting.closing import (
    NEVER,
    SLACK_S,
    Arrival,
    Cause,
    Patience,
    close,
    why_late,
)

USUAL = Patience(goal=10, minimum=2, quorum=0.5, grace=2.0, deadline_s=1000.0)


def patience(**changes):
    known = {name: getattr(USUAL, name) for name in USUAL.__slots__}
    return Patience(**known | changes)


def coming(*seconds, refused=()):
    """Return arrivals of the clients c0, c1, ...; None = never."""
    return [
        Arrival(
            client_id=f"c{n}",
            seconds=NEVER if one is None else float(one),
            accepted=one is not None and n not in refused,
        )
        for n, one in enumerate(seconds)
    ]


CASES = {
    "all have answered": (coming(60, 50, 70), {}, (70.0, Cause.ALL, [])),
    "the goal is accepted": (
        coming(60, 50, 70, 55),
        {"goal": 3},
        (60.0, Cause.GOAL, ["c2"]),
    ),
    "of two at a time the first in order": (
        coming(60, 60, 60),
        {"goal": 2},
        (60.0, Cause.GOAL, ["c2"]),
    ),
    "grace after half of them": (
        coming(60, 50, 600, None),
        {},
        (120.0, Cause.GRACE, ["c2", "c3"]),
    ),
    "an answer in the grace period counts": (
        coming(60, 50, 120, None),
        {},
        (120.0, Cause.GRACE, ["c3"]),
    ),
    "a fast quorum leaves ten seconds": (
        coming(1, 1, 10.9, 11.1),
        {},
        (1 + SLACK_S, Cause.GRACE, ["c3"]),
    ),
    "too few answers wait for the deadline": (
        coming(60, None, None, None),
        {},
        (1000.0, Cause.DEADLINE, ["c1", "c2", "c3"]),
    ),
    "the deadline comes before the grace period ends": (
        coming(600, 600, None, 1000.5),
        {},
        (1000.0, Cause.DEADLINE, ["c2", "c3"]),
    ),
    "an answer at the deadline counts": (
        coming(1000, None, None, None),
        {},
        (1000.0, Cause.DEADLINE, ["c1", "c2", "c3"]),
    ),
    "a quorum of one is no grace period": (
        coming(60, 60, 60, None),
        {"quorum": 1.0},
        (1000.0, Cause.DEADLINE, ["c3"]),
    ),
    "the minimum is waited for": (
        coming(60, 60, 300, None, None),
        {"minimum": 3},
        (600.0, Cause.GRACE, ["c3", "c4"]),
    ),
    "refusals at once bring the end no nearer": (
        coming(0, 0, 60, 61, 100, None, refused=(0, 1)),
        {},
        (122.0, Cause.GRACE, ["c5"]),
    ),
    "a refusal does not hold a round up": (
        coming(60, 61, 0, 0, None, refused=(2, 3)),
        {"quorum": 0.6},
        (122.0, Cause.GRACE, ["c4"]),
    ),
    "no client answers": (
        coming(None, None),
        {},
        (1000.0, Cause.DEADLINE, ["c0", "c1"]),
    ),
    "all fail at once": (
        coming(0, 0, refused=(0, 1)),
        {},
        (0.0, Cause.ALL, []),
    ),
}


@pytest.mark.parametrize(("arrivals", "changes", "wanted"), CASES.values(), ids=CASES)
def test_a_round_closes_at_the_first_of_four_times(arrivals, changes, wanted):
    found = close(arrivals, patience(**changes))
    assert (found.seconds, found.cause, list(found.late)) == wanted


def test_a_tenth_of_thirty_are_three():
    arrivals = coming(*[1.0] * 3, *[None] * 27)
    found = close(arrivals, patience(quorum=0.1, goal=30))
    assert (found.seconds, found.cause) == (11.0, Cause.GRACE)


def test_the_counted_are_in_the_order_in_which_they_came():
    found = close(coming(70, 50, 600, 60), patience())
    assert found.counted == ("c1", "c3", "c0")
    assert found.last == 70.0


SECONDS = st.one_of(st.none(), st.integers(0, 2000))


@given(st.lists(SECONDS, min_size=1, max_size=12), st.data())
def test_every_client_is_counted_or_late_and_each_counted_one_came_in_time(
    seconds, data
):
    refused = data.draw(st.sets(st.integers(0, 11)))
    limits = patience(
        goal=data.draw(st.integers(1, 12)),
        minimum=data.draw(st.integers(1, 12)),
        quorum=data.draw(st.floats(0.01, 1.0)),
        grace=data.draw(st.floats(1.0, 5.0)),
    )
    arrivals = coming(*seconds, refused=refused)
    found = close(arrivals, limits)
    assert sorted((*found.counted, *found.late)) == sorted(
        a.client_id for a in arrivals
    )
    by_name = {a.client_id: a for a in arrivals}
    assert all(by_name[name].seconds <= found.seconds for name in found.counted)
    if found.cause is not Cause.GOAL:
        assert all(by_name[name].seconds > found.seconds for name in found.late)
    accepted = sum(by_name[name].accepted for name in found.counted)
    assert accepted <= limits.goal
    if found.cause is Cause.GRACE:
        assert accepted >= limits.minimum
    assert found.seconds <= limits.deadline_s


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=12), st.integers(0, 11))
def test_an_answer_that_came_late_does_not_change_what_was_decided_without_it(
    seconds, cut
):
    """Devices ask the rule again with each answer: it never takes a decision back."""
    arrivals = coming(*seconds)
    whole = close(arrivals, patience())
    known = sorted(arrivals, key=lambda one: one.seconds)[: cut + 1]
    names = {one.client_id for one in known}
    away = [
        Arrival(client_id=one.client_id, seconds=NEVER, accepted=False)
        for one in arrivals
        if one.client_id not in names
    ]
    part = close([*known, *away], patience())
    assert set(part.counted) <= set(whole.counted)
    if whole.seconds < known[-1].seconds:
        assert part.seconds == whole.seconds


@pytest.mark.parametrize(
    ("seconds", "changes", "text"),
    [
        ((60, 60, None), {"goal": 2}, "client c2: not waited for: 2 answers were"),
        ((60, 60, None), {}, r"client c2: no answer within 120 s, .*rounds\.grace"),
        ((60, None, None), {}, r"c2: no answer within 1000 s \(rounds\.deadline_s\)"),
    ],
)
def test_a_late_client_is_told_why(seconds, changes, text):
    limits = patience(**changes)
    assert re.search(text, why_late("c2", close(coming(*seconds), limits), limits))
