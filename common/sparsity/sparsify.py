"""What of a delta is sent now and what is kept for later."""

from math import ceil

import numpy as np
from fedprune.common.messages import Mask, SparseDelta, Vector
from numpy.typing import NDArray


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
