"""Schedules: progress 0..1 -> a number.  A schedule is a function."""

from math import cos, pi


def density_at(kind: str, end: float, progress: float) -> float:
    """Return the density that a cut aims at: 1 at progress 0, ``end`` at 1.

    "cubic": ``end + (1 - end) * (1 - t)**3`` (Zhu & Gupta 2017, arXiv:1710.01878,
    Eq. 1, with density = 1 - sparsity); "linear": ``1 - (1 - end) * t``;
    "geometric": ``end**t``, equal shares of what is left.

    Args:
        kind: Name of the schedule.
        end: Density at the end, 0 < end <= 1.
        progress: Position t, 0 <= t <= 1.

    Examples:
        >>> [round(density_at("cubic", 0.25, t / 4), 3) for t in range(5)]
        [1.0, 0.566, 0.344, 0.262, 0.25]
        >>> [round(density_at("geometric", 0.25, t / 4), 3) for t in range(5)]
        [1.0, 0.707, 0.5, 0.354, 0.25]
    """
    if kind == "cubic":
        return end + (1.0 - end) * (1.0 - progress) ** 3
    if kind == "linear":
        return 1.0 - (1.0 - end) * progress
    return float(end**progress)


def learning_rate(kind: str, start: float, round_: int, rounds: int) -> float:
    """Return the learning rate of a round, from 1 to ``rounds``.

    "constant", or "cosine": half a cosine from ``start`` down to a twentieth of it
    (Loshchilov & Hutter 2017, arXiv:1608.03983, Eq. 5); rounds beyond the plan keep
    the last value.

    Examples:
        >>> [round(learning_rate("cosine", 0.1, r, 3), 4) for r in (1, 2, 3, 9)]
        [0.1, 0.0525, 0.005, 0.005]
    """
    if kind == "constant" or rounds <= 1:
        return start
    least = start / 20.0
    done = min((round_ - 1) / (rounds - 1), 1.0)
    return least + (start - least) * 0.5 * (1.0 + cos(pi * done))
