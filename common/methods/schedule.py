"""Schedules: a density that falls over the cuts, a learning rate over the rounds."""

from math import cos, inf, isfinite, nan, pi

from fedprune.common.errors import ConfigError
from fedprune.common.methods.kinds import RATE_SCHEDULE, SCHEDULE
from fedprune.common.methods.method import Kind
from fedprune.common.methods.registry import find, method

_LAST = 20.0  # first learning rate over the last one of "cosine"


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
    """Any power of the remaining progress: ``end + (1 - end) * (1 - t)**power``.

    TensorFlow Model Optimization's ``PolynomialDecay``; 3 is cubic, 1 linear.
    """
    return end + (1.0 - end) * float((1.0 - progress) ** power)


@method(SCHEDULE)
def linear(progress: float, end: float) -> float:
    """Equal steps: ``1 - (1 - end) * t``."""
    return 1.0 - (1.0 - end) * progress


@method(SCHEDULE)
def geometric(progress: float, end: float) -> float:
    """Equal factors from step to step: ``end**t``.

    >>> [round(geometric(t / 4, 0.25), 3) for t in range(5)]
    [1.0, 0.707, 0.5, 0.354, 0.25]
    """
    return float(end**progress)


@method(SCHEDULE)
def constant(progress: float, end: float) -> float:
    """The end density at once: TensorFlow Model Optimization's ``ConstantSparsity``.

    A cut removes at most ``prune.step_cap`` of a group, so the first cuts may not reach
    it.
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


def density_at(name: str, end: float, progress: float, *, power: float = 3.0) -> float:
    """Return the density at a position of a schedule: 1 at progress 0, ``end`` at 1.

    Args:
        name: A registered schedule (``fedprune.common.methods.schedule``), or a
            user's own, whose value is clamped to ``end``..1; at progress 1 it is
            ``end``, whatever the schedule says: the last cut meets the budget.
        end: Density at the end, 0 < end <= 1.
        progress: Position, 0 <= progress <= 1.
        power: Power of "polynomial", > 0.

    Raises:
        ConfigError: If the schedule returns no finite number.

    Examples:
        >>> [round(density_at("cubic", 0.25, t / 4), 3) for t in range(5)]
        [1.0, 0.566, 0.344, 0.262, 0.25]
        >>> [round(density_at("polynomial", 0.25, t / 4, power=1), 3) for t in range(5)]
        [1.0, 0.812, 0.625, 0.438, 0.25]
    """
    found = find(SCHEDULE, name)(progress=progress, end=end, power=power)
    number = _number(SCHEDULE, name, found)
    # The rounding of 1 - (1 - end) would be another target than the last one.
    return end if progress >= 1.0 else min(max(number, end), 1.0)


def learning_rate(name: str, start: float, round_: int, rounds: int) -> float:
    """Return the learning rate of a round, from 1 to ``rounds``.

    Later rounds have the last value; a run of one round has the first.

    Examples:
        >>> [round(learning_rate("cosine", 0.1, r, 3), 4) for r in (1, 2, 3, 9)]
        [0.1, 0.0525, 0.005, 0.005]
    """
    progress = min((round_ - 1) / (rounds - 1), 1.0) if rounds > 1 else 0.0
    found = find(RATE_SCHEDULE, name)(progress=progress, start=start)
    return _number(RATE_SCHEDULE, name, found)


def _number(kind: Kind, name: str, found: object) -> float:
    """Return what a schedule returned.

    Raises:
        ConfigError: If it is no finite number.
    """
    try:
        number = float(found)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = nan
    least = 0.0 if kind is RATE_SCHEDULE else -inf
    if isinstance(found, str) or not isfinite(number) or number <= least:
        wanted = "a finite number" + (" above 0" if least == 0.0 else "")
        msg = f"{kind.key} '{name}' returned {found!r}; want {wanted}"
        raise ConfigError(msg)
    return number
