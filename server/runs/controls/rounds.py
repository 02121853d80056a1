"""The number of rounds of a control that fit into the bytes of a run."""

from collections.abc import Sequence
from dataclasses import dataclass

MOST = 4  # times the rounds of the run, so that a control ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The length of a control of equal bytes.

    Attributes:
        rounds: Its rounds, the closing one included, >= 2.
        capped: Whether more would fit into the bytes, and the cap forbids them.
        over: Whether even its fewest rounds do not fit.
    """

    rounds: int
    capped: bool = False
    over: bool = False


def fit_rounds(spent: Sequence[int], head: int, budget: int, run_rounds: int) -> Fit:
    """Return how many rounds fit, measured by the control of equal rounds.

    That control's first rounds (``head``: the first one, which carries the structure,
    or all up to its cut) and its closing round are paid once; what is left is divided
    by the mean of the other rounds.  An estimate: updates of a longer schedule have
    other lengths, so the bytes that are spent in the end are stated beside it.

    Args:
        spent: Bytes up and down of each round of the control of equal rounds, the
            closing round last, at least one.
        head: Number of its first rounds that do not repeat, >= 1.
        budget: Bytes up and down of the run.
        run_rounds: Rounds of the run, the closing one included.

    >>> fit_rounds([30, 10, 10, 10, 5], 1, 100, 10)
    Fit(rounds=8, capped=False, over=False)
    >>> fit_rounds([3, 1, 1, 1, 1], 1, 100, 10)
    Fit(rounds=40, capped=True, over=False)
    >>> fit_rounds([90, 90, 90, 1], 1, 50, 10)
    Fit(rounds=2, capped=False, over=True)
    """
    head = min(head, max(len(spent) - 1, 1))
    once, repeated = spent[:head], spent[head:-1]
    each = max(sum(repeated) / len(repeated) if repeated else once[-1], 1.0)
    left = budget - sum(once) - spent[-1]
    if left < 0:  # not even these: as many of them as fit, and one that trains
        trained = max(int((budget - spent[-1]) // max(once)), 1)
        return Fit(rounds=trained + 1, over=max(once) + spent[-1] > budget)
    rounds, most = head + int(left // each) + 1, MOST * run_rounds
    return Fit(rounds=min(rounds, most), capped=rounds > most)
