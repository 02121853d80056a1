"""Figures of values that were measured once a pair."""

import math
import statistics
from collections.abc import Sequence

from fedprune.simulations.benchmarks.kit.harness import Figure

_LEAST = 3  # pairs that decide about a goal


def over_pairs(
    name: str,
    values: Sequence[float],
    note: str,
    *,
    unit: str = "",
    goal: str = "",
    reference: str = "",
) -> Figure:
    """Return the median over pairs, with their range.

    The goal is met or missed where all pairs agree, and there are three at least:
    one or two say little about the next.

    Args:
        name: Name of the figure.
        values: One value a pair, at least one.
        note: Follows the range in its detail.
        unit: Its unit.
        goal: Its goal.
        reference: Its comparison.
    """
    resolved = len(values) >= _LEAST
    return Figure(
        name=name,
        value=statistics.median(values),
        low=min(values) if resolved else -math.inf,
        high=max(values) if resolved else math.inf,
        unit=unit,
        goal=goal,
        reference=reference,
        detail=f"{range_text(values)}; {note}",
    )


def range_text(values: Sequence[float]) -> str:
    """Return the range of values over pairs.

    >>> range_text([1.0, 1.25, 1.5]), range_text([2.0])
    ('1 to 1.5 in 3 pairs', '1 pair')
    """
    if len(values) == 1:
        return "1 pair"
    return f"{min(values):.4g} to {max(values):.4g} in {len(values)} pairs"
