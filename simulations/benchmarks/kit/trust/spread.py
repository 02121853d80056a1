"""Intervals over seeds, by Student's t."""

import math
from collections.abc import Sequence

from fedprune.simulations.benchmarks.kit.rows import interval
from fedprune.simulations.benchmarks.kit.science.intervals import Interval


def over_seeds(values: Sequence[float]) -> Interval:
    """Return mean and 95 % interval of one value a seed; without ends for one seed.

    >>> over_seeds([1.0]).low, round(over_seeds([1.0, 2.0, 3.0]).high, 2)
    (-inf, 4.48)
    """
    mean, half = interval(values)
    half = math.inf if math.isnan(half) else half
    return Interval(mean=mean, low=mean - half, high=mean + half, seeds=len(values))
