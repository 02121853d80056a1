"""Shared values of a codebook: weights of a matrix that are equal stay equal.

Where weights lie on a codebook, the weights themselves say which of them share a value:
both ends know it, and an update needs one entry for each value.  Han et al. 2016,
arXiv:1510.00149, section 3.3.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fedprune.common.spec import Mask, ModelSpec, Vector

CODEBOOK = "codebook"  # of quantise.kind and of the settings in a plan
_MATRIX = 2  # dimensions; smaller tensors have no codebook


def first_entries(weights: Vector, spec: ModelSpec) -> Mask:
    """Return the entries that an update sends, bool[spec.size].

    The first weight of each value of a matrix other than 0, and all entries of other
    tensors.

    Args:
        weights: Weights on a codebook, float32[spec.size].
        spec: Shapes of the network.
    """
    keep = np.ones(spec.size, dtype=np.bool_)
    for part in _matrices(spec):
        values, first = np.unique(weights[part], return_index=True)
        keep[part] = False
        keep[part.start + first[values != 0]] = True
    return keep


def with_shared(weights: Vector, moved: Vector, spec: ModelSpec) -> Vector:
    """Return moved weights on the codebook: each as the first one of its value.

    Args:
        weights: Weights on a codebook, float32[spec.size]: their zeros stay 0.
        moved: The same with changes at ``first_entries``, float32[spec.size].
        spec: Shapes of the network.
    """
    found = moved.copy()
    for part in _matrices(spec):
        old = weights[part]
        _, first, number = np.unique(old, return_index=True, return_inverse=True)
        shared = moved[part][first][number.reshape(-1)]
        found[part] = np.where(old == 0, np.float32(0), shared)
    return found


def most_entries(spec: ModelSpec, bits: int) -> int:
    """Return the most entries of ``first_entries`` for codebooks of ``2**bits``."""
    sizes = [
        min(tensor.size, 1 << bits) if len(tensor.shape) >= _MATRIX else tensor.size
        for tensor in spec.tensors
    ]
    return sum(sizes)


def matrices_from(weights: Vector, other: Vector, spec: ModelSpec) -> Vector:
    """Return ``other`` with the matrices of ``weights``."""
    found: NDArray[np.float32] = other.copy()
    for part in _matrices(spec):
        found[part] = weights[part]
    return found


def _matrices(spec: ModelSpec) -> Iterator[slice]:
    start = 0
    for tensor in spec.tensors:
        if len(tensor.shape) >= _MATRIX and tensor.size:
            yield slice(start, start + tensor.size)
        start += tensor.size
