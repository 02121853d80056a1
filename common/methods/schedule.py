"""Schedules: a density that falls over the cuts, a learning rate over the rounds."""

from math import cos, pi

from fedprune.common.methods.kinds import RATE_SCHEDULE, SCHEDULE
from fedprune.common.methods.registry import method

_LAST = 20.0  # the first rate over the last one of "cosine"


@method(SCHEDULE)
def cubic(progress: float, end: float) -> float:
    """Fast at first, then slower: ``end + (1 - end) * (1 - t)**3``.

    Zhu & Gupta 2017, arXiv:1710.01878, Eq. 1, with density = 1 - sparsity.

    >>> [round(cubic(t / 4, 0.25), 3) for t in range(5)]
    [1.0, 0.566, 0.344, 0.262, 0.25]
    """
    return polynomial(progress, end, 3.0)


@method(SCHEDULE)
def polynomial(progress: float, end: float, power: float) -> float:
    """Any power of what is left of the way: ``end + (1 - end) * (1 - t)**power``.

    TensorFlow Model Optimization's ``PolynomialDecay``; 3 is cubic, 1 linear.
    """
    return end + (1.0 - end) * float((1.0 - progress) ** power)


@method(SCHEDULE)
def linear(progress: float, end: float) -> float:
    """Equal steps: ``1 - (1 - end) * t``."""
    return 1.0 - (1.0 - end) * progress


@method(SCHEDULE)
def geometric(progress: float, end: float) -> float:
    """Equal shares of what is left: ``end**t``.

    >>> [round(geometric(t / 4, 0.25), 3) for t in range(5)]
    [1.0, 0.707, 0.5, 0.354, 0.25]
    """
    return float(end**progress)


@method(SCHEDULE)
def constant(progress: float, end: float) -> float:
    """The end at once: TensorFlow Model Optimization's ``ConstantSparsity``.

    A cut removes at most ``prune.step_cap`` of a group, so the first cuts may stop
    short of it.
    """
    return end if progress > 0.0 else 1.0


@method(RATE_SCHEDULE, "constant")
def constant_rate(start: float) -> float:
    """The same learning rate in every round."""
    return start


@method(RATE_SCHEDULE)
def cosine(progress: float, start: float) -> float:
    """Half a cosine down to a twentieth of the first rate.

    Loshchilov & Hutter 2017, arXiv:1608.03983, Eq. 5.
    """
    least = start / _LAST
    return least + (start - least) * 0.5 * (1.0 + cos(pi * progress))
