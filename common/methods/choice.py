"""Choices: the selection of the entries of a delta that a client sends."""

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedprune.common.methods.kinds import CHOICE
from fedprune.common.methods.registry import method
from fedprune.common.spec import Indices, Mask, Vector

if TYPE_CHECKING:
    from fedprune.common.codec import Layout

Bits: TypeAlias = NDArray[np.float64]

_POOL = 4  # candidates for each entry that is sent
_MOST_STEPS = 16


@method(CHOICE)
def magnitude(total: Vector, count: int) -> Mask:
    """The entries of largest magnitude, over all tensors together.

    Of equals the one with the smaller index.  Stich et al. 2018, arXiv:1809.07599,
    Alg. 1.

    >>> magnitude(np.float32([1, -3, 0, 3, 2]), 2).tolist()
    [False, True, False, True, False]
    """
    return largest(np.abs(total), count)


@method(CHOICE)
def rate(total: Vector, count: int, layout: "Layout", value_bits: float) -> Mask:
    """The entries with the most energy for their bits on the wire.

    Rule: an entry of value v at a position of odds p costs ``value_bits + log2(1 /
    p)``; the ``count`` largest ``v**2 / cost`` are kept, of equals the smaller index,
    out of the ``4 * count`` largest magnitudes.  The odds are those of the row times
    those of the column over those of the tensor, counted on the entries chosen before:
    the largest at first, then again until none changes, at most 16 times.

    >>> from fedprune.common.codec import Layout
    >>> from fedprune.common.spec import ModelSpec, TensorSpec
    >>> tensor = TensorSpec(name="w", shape=(3, 4))
    >>> layout = Layout(ModelSpec(tensors=(tensor,), moments=0, units=0))
    >>> total = np.float32([9, 9, 9, 8, 0, 0, 0, 0, 0, 0, 0, 8.1])
    >>> np.flatnonzero(rate(total, 4, layout, 1.0)).tolist()
    [0, 1, 2, 3]
    """
    pool = np.flatnonzero(largest(np.abs(total), min(_POOL * count, len(total))))
    energy = total[pool].astype(np.float64) ** 2
    positions = _Positions(layout, pool)
    chosen = largest(energy, count)
    for _ in range(_MOST_STEPS if count < len(total) else 0):
        before = chosen
        chosen = largest(energy / (value_bits + positions.cost(chosen)), count)
        if np.array_equal(chosen, before):
            break
    out: Mask = np.zeros(len(total), dtype=np.bool_)
    out[pool[chosen]] = True
    return out


def largest(scores: NDArray[np.floating], count: int) -> Mask:
    """Return a mask of the ``count`` largest scores, of equals the first, bool[n]."""
    if count >= len(scores):
        return np.ones(len(scores), dtype=bool)
    # A partition finds the threshold in O(n); only its ties need an order.
    threshold = np.partition(scores, len(scores) - count)[len(scores) - count]
    chosen: Mask = scores > threshold
    ties = np.flatnonzero(scores == threshold)
    chosen[ties[: count - int(chosen.sum())]] = True
    return chosen


class _Positions:
    """The row, column and tensor of each candidate position."""

    def __init__(self, layout: "Layout", pool: Indices) -> None:
        """Look the rising positions ``pool``, int64[m], up in the layout."""
        self._rows = _numbered(np.diff(np.searchsorted(pool, layout.bounds)))
        self._columns = layout.columns_of(pool)
        self._tensors = _numbered(np.diff(np.searchsorted(pool, layout.tensors)))
        self._layout = layout

    def cost(self, chosen: Mask) -> Bits:
        """Return the bits of each position if the chosen are sent, float64[m]."""
        layout = self._layout
        rows = _rarity(self._rows, chosen, layout.lengths)
        columns = _rarity(self._columns, chosen, layout.column_lengths)
        tensors = _rarity(self._tensors, chosen, np.diff(layout.tensors))
        found = rows[self._rows] + columns[self._columns] - tensors[self._tensors]
        return np.maximum(found, 0.0)


def _numbered(counts: Indices) -> Indices:
    """Return the number of each position's part, from the positions of each part."""
    return np.repeat(np.arange(len(counts)), counts)


def _rarity(parts: Indices, chosen: Mask, lengths: Indices) -> Bits:
    """Return ``log2(1 / share of chosen positions)`` of each part, float64[parts]."""
    counts = np.bincount(parts[chosen], minlength=len(lengths))
    # Half an entry more, as in the entropy coder's models: an empty row costs more than
    # others, and still has finite cost.
    found: Bits = np.log2((lengths + 1.0) / (counts + 0.5))
    return found
