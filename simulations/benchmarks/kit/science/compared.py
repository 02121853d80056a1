"""Figures that rows have in common: accuracies, and paired differences of them."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.rows import Interval, Raw
from fedprune.simulations.benchmarks.kit.science.intervals import (
    interval,
    paired,
    unpack,
)
from fedprune.simulations.benchmarks.kit.science.rows import Found

Right = Mapping[int, NDArray[np.bool_]]  # seed -> which test examples are right


def by_seed(found: Found, prefix: str) -> dict[int, Raw]:
    """Return the pieces that are named ``PREFIX-SEED``, by their seeds.

    >>> by_seed({"a-0": {}, "a-b-0": {}, "ab-1": {}}, "a")
    {0: {}}
    """
    start = f"{prefix}-"
    ends = {n.removeprefix(start): n for n in found if n.startswith(start)}
    return {int(end): found[name] for end, name in ends.items() if end.isdigit()}


def right_of(pieces: Mapping[int, Raw], key: str = "correct") -> Right:
    """Return the right examples that pieces store under a key, by seed."""
    return {seed: unpack(raw[key]) for seed, raw in pieces.items() if key in raw}


def accuracy(name: str, right: Right, *, detail: str = "") -> list[Figure]:
    """Return the figure of the mean accuracy; none without a seed."""
    if not right:
        return []
    each = [100.0 * float(one.mean()) for one in right.values()]
    text = f"n = {len(each)}: {listed(each)}"
    return [
        Figure(
            name=name,
            value=float(np.mean(each)),
            unit="%",
            detail=f"{text}; {detail}" if detail else text,
        )
    ]


def gap(first: Right, second: Right) -> Interval | None:
    """Return ``difference``, or None where no seed has both."""
    return difference(first, second) if first.keys() & second.keys() else None


def difference(first: Right, second: Right) -> Interval:
    """Return first - second in points, paired by seed and example.

    All seeds of a row have the same test examples.

    Raises:
        ValueError: If no seed has both.
    """
    return interval(paired(first, second), same_examples=True).scaled(100.0)


def listed(values: Sequence[float], digits: int = 2) -> str:
    """Return numbers for the detail of a figure."""
    return ", ".join(f"{value:.{digits}f}" for value in values)
