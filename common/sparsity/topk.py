"""What of a delta is sent now and what is kept for later."""

from math import ceil

import numpy as np

from common.messages import SparseDelta, Vector


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
    count = min(ceil(density * len(total)), len(total))
    magnitude = np.abs(total)
    if count < len(total):
        # A partition finds the threshold in O(n); only its ties need an order.
        threshold = np.partition(magnitude, len(total) - count)[len(total) - count]
        chosen = magnitude > threshold
        ties = np.flatnonzero(magnitude == threshold)
        chosen[ties[: count - int(chosen.sum())]] = True
    else:
        chosen = np.ones(len(total), dtype=bool)
    indices = np.flatnonzero(chosen & (magnitude > 0))
    return SparseDelta(size=len(total), indices=indices, values=total[indices])


def dense(delta: SparseDelta) -> Vector:
    """Return the delta as a vector, zeros where nothing was sent, float32[size]."""
    out = np.zeros(delta.size, dtype=np.float32)
    out[delta.indices] = delta.values
    return out
