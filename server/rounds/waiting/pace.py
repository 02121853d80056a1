"""The pace of a run: a deadline from the rounds that it has measured."""

from statistics import median

from fedprune.server.rounds.waiting.closing import Closing

Pace = tuple[float, ...]

FIRST_S = 3600.0  # deadline while nothing is measured; the quorum ends most rounds
LEAST_S = 60.0  # a shorter one would end a round at any hiccup of a network
TIMES = 3  # a round that scores or has a teacher takes twice as long as others
_KEPT = 15  # rounds


def deadline(explicit: float, pace: Pace, attempt: int) -> float:
    """Return the seconds after which a round closes, whatever is missing.

    Without a value of its own it is three times the usual seconds to the last answer
    that counts, and doubles with each attempt of the same round: a run whose rounds
    suddenly take longer goes on.

    Args:
        explicit: ``rounds.deadline_s``; 0 = as measured.
        pace: The measured rounds, oldest first.
        attempt: Number of the attempt, from 0.

    >>> deadline(0.0, (), 0), deadline(0.0, (30.0, 50.0, 900.0), 0)
    (3600.0, 150.0)
    >>> deadline(0.0, (1.0,), 1), deadline(7.0, (1.0,), 1)
    (120.0, 7.0)
    """
    if explicit > 0.0:
        return explicit
    usual = TIMES * median(pace) if pace else FIRST_S
    return max(usual, LEAST_S) * 2.0**attempt


def after(pace: Pace, closing: Closing | None) -> Pace:
    """Return the measured rounds with one more, at most 15.

    Counted are the seconds to the last answer that counts, not those to the end of the
    waiting: a round that ends at its deadline would lengthen the next one.

    Args:
        pace: Those before.
        closing: The end of the round; None = not measured.
    """
    if closing is None or not closing.counted:
        return pace
    return (*pace, closing.last)[-_KEPT:]
