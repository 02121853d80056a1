"""The order-0 bound: bytes of positions and levels without contexts or scales."""

import numpy as np
from numpy.typing import NDArray

from fedprune.common.codec import Layout
from fedprune.common.messages import QuantisedDelta


def order0_bytes(delta: QuantisedDelta, shape: Layout) -> float:
    """Return the order-0 bound of a delta, in bytes.

    Sum over tensors of ``size * h(density)``, plus entries times the entropy of
    their values.
    """
    counts = np.diff(np.searchsorted(delta.indices, shape.tensors))
    bits = sum(
        _entropy_bits(np.array([count, size - count]))
        for count, size in zip(counts, np.diff(shape.tensors), strict=True)
    )
    _, seen = np.unique(delta.values, return_counts=True)
    return (bits + _entropy_bits(seen)) / 8


def _entropy_bits(counts: NDArray[np.int64]) -> float:
    seen = counts[counts > 0]
    if not len(seen):
        return 0.0
    return float(np.sum(seen * (np.log2(seen.sum()) - np.log2(seen))))
