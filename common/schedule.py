"""Values of schedules: the density that a cut aims at, the learning rate of a round.

Density is the share kept, 0 < density <= 1; sparsity is 1 - density, in prose only.
"""

from math import isfinite
from typing import SupportsFloat

from fedprune.common.errors import ConfigError
from fedprune.common.methods.kinds import RATE_SCHEDULE, SCHEDULE
from fedprune.common.methods.registry import Kind, find


def density_at(name: str, end: float, progress: float, *, power: float = 3.0) -> float:
    """Return the density at a position of a schedule: 1 at progress 0, ``end`` at 1.

    Args:
        name: A registered schedule (``fedprune.common.methods.schedule``), or a
            user's own, whose value is clamped to ``end``..1.
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
    return min(max(_number(SCHEDULE, name, found), end), 1.0)


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
    if not isinstance(found, SupportsFloat) or not isfinite(found):
        msg = f"{kind.key} '{name}' returned {found!r}; want a finite number"
        raise ConfigError(msg)
    return float(found)
