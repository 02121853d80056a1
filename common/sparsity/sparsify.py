"""What of a delta is sent now and what is kept for later."""

from math import ceil

import numpy as np
from numpy.typing import NDArray

from fedprune.common.codec import Layout
from fedprune.common.messages import SparseDelta
from fedprune.common.spec import Indices, Mask, Vector


def sparsify(total: Vector, density: float) -> SparseDelta:
    """Return the largest entries of a vector: what is sent now.

    Rule: keep the ``k = ceil(density * n)`` largest magnitudes over all tensors
    together, of equals the one with the smaller index; exact zeros are never sent.
    What is not returned is the caller's residual (error feedback).
    Source: Stich et al. 2018, arXiv:1809.07599, Alg. 1.

    Args:
        total: Delta plus residual, float32[n].
        density: Share of entries sent, 0 < density <= 1.

    Returns:
        The sent entries, at most k.

    Examples:
        >>> sent = sparsify(np.float32([1, -3, 0, 3, 2]), 0.4)
        >>> sent.indices.tolist(), sent.values.tolist()
        ([1, 3], [-3.0, 3.0])
    """
    magnitude = np.abs(total)
    chosen = largest(magnitude, min(ceil(density * len(total)), len(total)))
    indices = np.flatnonzero(chosen & (magnitude > 0))
    return SparseDelta(size=len(total), indices=indices, values=total[indices])


def largest(scores: NDArray[np.floating], count: int) -> Mask:
    """Return which ``count`` scores are the largest, of equals the first, bool[n]."""
    if count >= len(scores):
        return np.ones(len(scores), dtype=bool)
    # A partition finds the threshold in O(n); only its ties need an order.
    threshold = np.partition(scores, len(scores) - count)[len(scores) - count]
    chosen: Mask = scores > threshold
    ties = np.flatnonzero(scores == threshold)
    chosen[ties[: count - int(chosen.sum())]] = True
    return chosen


def dense(delta: SparseDelta) -> Vector:
    """Return the delta as a vector, zeros where nothing was sent, float32[size]."""
    out = np.zeros(delta.size, dtype=np.float32)
    out[delta.indices] = delta.values
    return out


_POOL = 4  # entries that are looked at, for each one that is sent
_MOST_STEPS = 16

Bits = NDArray[np.float64]


def sparsify_by_rate(
    total: Vector, density: float, shape: Layout, bits: float
) -> SparseDelta:
    """Return the entries that are worth their bits: what is sent now.

    Rule: an entry of value v at a place of odds p costs ``bits + log2(1 / p)``; the
    ``k = ceil(density * n)`` largest ``v**2 / cost`` are kept, of equals the smaller
    index, out of the ``4 k`` largest magnitudes.  The odds are those of the row times
    those of the column over those of the tensor, counted on the entries chosen before:
    the k largest at first, then again until none changes, at most 16 times.

    Args:
        total: Delta plus residual, float32[n], finite.
        density: Share of entries sent, 0 < density <= 1.
        shape: Rows and columns of the network, of size n.
        bits: What an entry costs besides its place, > 0.

    Returns:
        The sent entries, at most k; exact zeros are never sent.

    Examples:
        >>> from fedprune.common.spec import ModelSpec, TensorSpec
        >>> tensor = TensorSpec(name="w", shape=(3, 4))
        >>> layout = Layout(ModelSpec(tensors=(tensor,), moments=0, units=0))
        >>> total = np.float32([9, 9, 9, 8, 0, 0, 0, 0, 0, 0, 0, 8.1])
        >>> sparsify_by_rate(total, 1 / 3, layout, 1.0).indices.tolist()
        [0, 1, 2, 3]
    """
    count = min(ceil(density * len(total)), len(total))
    pool = np.flatnonzero(largest(np.abs(total), min(_POOL * count, len(total))))
    energy = total[pool].astype(np.float64) ** 2
    places = _Places(shape, pool)
    chosen = largest(energy, count)
    for _ in range(_MOST_STEPS if count < len(total) else 0):
        before = chosen
        chosen = largest(energy / (bits + places.cost(chosen)), count)
        if np.array_equal(chosen, before):
            break
    indices = pool[chosen & (energy > 0)]
    return SparseDelta(size=len(total), indices=indices, values=total[indices])


class _Places:
    """The rows, columns and tensors in which some positions lie."""

    def __init__(self, shape: Layout, pool: Indices) -> None:
        """Look up the rising positions ``pool``, int64[m]."""
        self._rows = _numbered(np.diff(np.searchsorted(pool, shape.bounds)))
        self._columns = shape.columns_of(pool)
        self._tensors = _numbered(np.diff(np.searchsorted(pool, shape.tensors)))
        self._shape = shape

    def cost(self, chosen: Mask) -> Bits:
        """Return the bits of each place if the chosen ones hold entries, float64[m]."""
        shape = self._shape
        rows = _rarity(self._rows, chosen, shape.lengths)
        columns = _rarity(self._columns, chosen, shape.column_lengths)
        tensors = _rarity(self._tensors, chosen, np.diff(shape.tensors))
        found = rows[self._rows] + columns[self._columns] - tensors[self._tensors]
        return np.maximum(found, 0.0)


def _numbered(counts: Indices) -> Indices:
    """Return the number of the part of each position, given how many a part has."""
    return np.repeat(np.arange(len(counts)), counts)


def _rarity(parts: Indices, chosen: Mask, lengths: Indices) -> Bits:
    """Return ``log2(1 / share of chosen places)`` of each part, float64[parts]."""
    counts = np.bincount(parts[chosen], minlength=len(lengths))
    # Half an entry more, as the coder's own odds: an empty row is dear, not barred.
    found: Bits = np.log2((lengths + 1.0) / (counts + 0.5))
    return found
