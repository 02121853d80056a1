"""Events of one kind, and of one of the two runs."""

from dataclasses import replace

from helpers.some_events import CLIENT, ROUND, WARNING, at

from fedprune.server.runs.events import (
    DENSE,
    OfRound,
    RoundFinished,
    of_kind,
    of_run,
)

BESIDE = replace(ROUND, run=DENSE, bytes_up=50)
EVENTS = (ROUND, CLIENT, BESIDE, at(ROUND, 4), WARNING)


def test_events_of_a_kind_come_in_order_and_from_both_runs():
    assert list(of_kind(EVENTS, RoundFinished)) == [ROUND, BESIDE, at(ROUND, 4)]
    assert tuple(of_kind(EVENTS, OfRound)) == EVENTS


def test_rounds_of_the_federation_and_of_its_control_are_never_mixed():
    assert of_run(EVENTS, RoundFinished) == [ROUND, at(ROUND, 4)]
    assert of_run(EVENTS, RoundFinished, DENSE) == [BESIDE]
