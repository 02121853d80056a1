"""The deadline that follows the measured rounds."""

import pytest

from fedprune.server.rounds.waiting.closing import Cause, Closing
from fedprune.server.rounds.waiting.pace import after, deadline


def closed(last, counted=("a",)):
    return Closing(
        seconds=500.0, cause=Cause.DEADLINE, counted=counted, late=("b",), last=last
    )


@pytest.mark.parametrize(
    ("explicit", "pace", "attempt", "wanted"),
    [
        (0.0, (), 0, 3600.0),  # nothing measured yet
        (0.0, (30.0, 50.0, 900.0), 0, 150.0),  # the median: one outlier is nothing
        (0.0, (1.0,), 0, 60.0),  # never shorter
        (0.0, (50.0,), 1, 300.0),  # twice as long for a second attempt
        (0.0, (50.0,), 2, 600.0),
        (7.0, (50.0,), 2, 7.0),  # the key's own value stays
    ],
)
def test_a_deadline_is_three_usual_rounds_or_the_value_of_the_key(
    explicit, pace, attempt, wanted
):
    assert deadline(explicit, pace, attempt) == wanted


def test_a_round_that_ends_at_its_deadline_does_not_lengthen_the_next_one():
    pace = after((60.0,), closed(80.0))
    assert pace == (60.0, 80.0)


def test_rounds_without_an_answer_or_without_a_measure_leave_no_trace():
    assert after((60.0,), closed(0.0, ())) == (60.0,)
    assert after((60.0,), None) == (60.0,)


def test_the_last_fifteen_rounds_count():
    pace = ()
    for seconds in range(40):
        pace = after(pace, closed(float(seconds)))
    assert pace == tuple(float(seconds) for seconds in range(25, 40))
