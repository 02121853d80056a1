"""An absence is one line when it begins and one when it ends, not one a round."""

from helpers.some_events import CLIENT, ROUND, at

from fedprune.server.rounds.records import Status
from fedprune.server.runs.events import describe
from fedprune.server.runs.events.presence import Presence

GONE = "client edge-03 failed: it is away"


def answer(number, status=Status.ACCEPTED, reason="", client="edge-03", **fields):
    changed = {"client": client, "status": status, "reason": reason}
    return at(CLIENT, number, **changed, **fields)


def said(*events):
    presence = Presence()
    return [line for event in events for line in presence.lines(event)]


def test_a_client_that_is_away_for_rounds_is_said_twice():
    events = [
        answer(3),
        answer(4, Status.LATE, "client edge-03: no answer within 12 s"),
        *(answer(n, Status.FAILED, GONE) for n in (5, 6, 7)),
        answer(8, Status.LATE, "client edge-03: no answer within 13 s"),
        answer(9),
        answer(10),
    ]
    assert said(*events) == [
        "round 4: client edge-03: no answer within 12 s",
        f"round 5: {GONE}",
        "round 9: edge-03 is back; it missed rounds 4 to 8",
    ]


def test_each_absence_is_said_anew_and_each_client_by_itself():
    events = [
        answer(1, Status.FAILED, GONE),
        answer(1, Status.FAILED, GONE, client="b"),
        answer(2),
        answer(3, Status.FAILED, GONE),
    ]
    assert said(*events) == [
        f"round 1: {GONE}",
        f"round 1: client b failed: {GONE}",
        "round 2: edge-03 is back; it missed round 1",
        f"round 3: {GONE}",
    ]


def test_refusals_for_other_reasons_are_all_said():
    events = [answer(n, Status.REFUSED, f"edge-03: fault {n}") for n in (1, 2)]
    assert len(said(*events)) == 2


def test_other_events_are_said_as_ever_and_those_of_controls_end_no_absence():
    round_ = at(ROUND, 2)
    away = answer(1, Status.FAILED, GONE)
    assert said(away, answer(1, run="dense"), round_) == [
        f"round 1: {GONE}",
        describe(round_),
    ]


def test_a_name_cannot_write_to_the_terminal():
    events = [
        answer(1, Status.FAILED, "x", client="\x1b[2J"),
        answer(2, client="\x1b[2J"),
    ]
    assert not any("\x1b" in line for line in said(*events))
