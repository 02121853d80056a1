"""A sparse delta as a vector."""

import numpy as np

from fedprune.common.messages import SparseDelta
from fedprune.common.spec import Vector


def dense(delta: SparseDelta) -> Vector:
    """Return the delta as a vector, zeros where nothing was sent, float32[size]."""
    out = np.zeros(delta.size, dtype=np.float32)
    out[delta.indices] = delta.values
    return out
