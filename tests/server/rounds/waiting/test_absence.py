"""Clients that are put aside, and when they come back."""

from fedprune.common.config import Rounds
from fedprune.server.rounds.waiting.absence import (
    Lateness,
    fewest,
    lateness,
    newly_aside,
    noted,
    present,
)
from fedprune.server.rounds.waiting.closing import Cause, Closing


def closed(counted, late, cause=Cause.GRACE):
    return Closing(
        seconds=9.0, cause=cause, counted=tuple(counted), late=tuple(late), last=5.0
    )


def test_a_client_is_put_aside_when_it_is_late_twice_in_a_row():
    first = noted({}, closed("a", "b"), 1, 5)
    assert first == {"b": Lateness(rounds=1)}
    assert newly_aside({}, first, 1) == ()
    second = noted(first, closed("a", "b"), 2, 5)
    assert second == {"b": Lateness(rounds=2, back=8)}
    assert newly_aside(first, second, 2) == ("b",)
    asked = [present("ab", second, round_, 1) for round_ in range(2, 10)]
    assert [round_ for round_, who in enumerate(asked, start=2) if "b" in who] == [8, 9]


def test_an_answer_in_time_between_two_late_ones_clears_it():
    absences = noted({}, closed("a", "b"), 1, 5)
    absences = noted(absences, closed("ab", ""), 2, 5)
    assert absences == {}
    assert noted(absences, closed("a", "b"), 3, 5) == {"b": Lateness(rounds=1)}


def test_a_client_that_was_not_asked_keeps_its_record():
    before = {"b": Lateness(rounds=1)}
    assert noted(before, closed("a", ""), 2, 5) == before


def test_a_client_that_is_back_is_put_aside_after_two_more_late_answers():
    before = {"b": Lateness(rounds=2, back=8)}
    once = noted(before, closed("a", "b"), 8, 5)
    assert once == {"b": Lateness(rounds=1)}
    twice = noted(once, closed("a", "b"), 9, 5)
    assert twice == {"b": Lateness(rounds=2, back=15)}
    assert newly_aside(once, twice, 9) == ("b",)


def test_who_is_asked_though_put_aside_and_late_again_stays_away_longer():
    before = {"b": Lateness(rounds=2, back=8)}
    assert noted(before, closed("a", "b"), 5, 5) == {"b": Lateness(rounds=3, back=11)}


def test_no_client_is_late_for_a_round_that_has_its_goal():
    before = {"b": Lateness(rounds=1), "a": Lateness(rounds=1)}
    found = noted(before, closed("a", "bc", Cause.GOAL), 4, 5)
    assert found == {"b": Lateness(rounds=1)}


def test_zero_rounds_put_no_client_aside():
    absences = {}
    for round_ in range(1, 6):
        absences = noted(absences, closed("a", "b"), round_, 0)
    assert present("ab", absences, 6, 0) == ("a", "b")


def test_an_engine_without_a_closing_changes_nothing():
    before = {"b": Lateness(rounds=1)}
    assert noted(before, None, 2, 5) is before


def test_enough_clients_are_left_those_that_come_back_soonest_first():
    aside = {
        "a": Lateness(rounds=2, back=9),
        "b": Lateness(rounds=5, back=7),
        "d": Lateness(rounds=3, back=7),
    }
    assert present("abcde", aside, 5, 0) == ("c", "e")
    assert present("abcde", aside, 5, 3) == ("c", "d", "e")
    assert present("abcde", aside, 5, 4) == ("b", "c", "d", "e")
    assert present("abcde", aside, 5, 9) == tuple("abcde")
    used = [present("abcde", aside, 5, least, late="use") for least in (0, 3, 4)]
    assert used == [("c", "e"), ("a", "c", "e"), ("a", "c", "d", "e")]
    dropped = [
        fewest(Rounds(minimum=least), asked)
        for least, asked in ((5, 10), (5, 5), (2, 3), (1, 4))
    ]
    assert dropped == [9, 5, 3, 4]


def test_where_late_answers_are_used_who_is_late_once_is_left_to_finish():
    rounds = Rounds(late="use")
    absences = noted({}, closed("a", "b"), 1, 5, times=lateness(rounds))
    assert present("ab", absences, 2, 1) == ("a",)
    assert absences == {"b": Lateness(rounds=1, back=7)}
    assert noted({}, closed("a", "b"), 1, 5, times=lateness(Rounds()))["b"].back == 0
    used = Rounds(late="use", minimum=5)
    assert [fewest(used, asked) for asked in (5, 6, 10, 20)] == [5, 6, 8, 13]
