"""Classes of rows, columns, levels and floats: the contexts of the entropy coder.

Integers only, so that both ends agree on every platform: logarithms are read off the
bits of a number, floats off their bit patterns.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fedprune.common import native
from fedprune.common.spec import Indices, Vector

Class = NDArray[np.uint8]

EMPTY = 0  # class of a row or column without an entry
DENSITIES = 25  # classes of rows and columns: empty, 23 by odds, full
SIZES = 32  # classes of rows, by mean level
_EVEN = 20  # density class of a row that is half full
_SAMPLE = 1 << 14  # floats that a mean is computed from
_FINE = 8  # bits of a logarithm's fraction

FLOATS = 32  # classes of a float, steps of a quarter of an octave
COARSE = 16  # the same in steps of half an octave


def log2_steps(numbers: NDArray[np.integer], steps: int) -> Indices:
    """Return ``floor(steps * log2(n))`` of n >= 1, by straight lines between powers.

    >>> log2_steps(np.array([1, 2, 3, 4, 1000]), 2).tolist()
    [0, 2, 3, 4, 19]
    """
    kernels = native.kernels()
    if kernels is not None:
        return kernels.log2_steps(numbers, steps)
    rest = numbers.astype(np.int64)
    whole = np.zeros_like(rest)
    for shift in (32, 16, 8, 4, 2, 1):
        large = (rest >> shift) > 0
        whole += large * shift
        rest = np.where(large, rest >> shift, rest)
    fraction = ((numbers.astype(np.int64) << _FINE) >> whole) - (1 << _FINE)
    found: Indices = whole * steps + (fraction * steps >> _FINE)
    return found


def full_class(resolution: int) -> int:
    """Return the class of a full row: one above the others of this resolution."""
    return -(-(DENSITIES - 2) // resolution) + 1


def density_classes(counts: Indices, lengths: Indices, resolution: int) -> Class:
    """Return the class of each row: 0 empty, the largest full, else by the odds.

    Args:
        counts: Entries of each row.
        lengths: Positions of each row.
        resolution: Half octaves of a class, >= 1.
    """
    kernels = native.kernels()
    if kernels is not None:
        return kernels.density_classes(counts, lengths, resolution)
    odds = log2_steps(2 * counts + 1, 2) - log2_steps(2 * (lengths - counts) + 1, 2)
    middle = (np.clip(_EVEN + odds, 1, DENSITIES - 2) + resolution - 1) // resolution
    ends = np.where(counts == lengths, full_class(resolution), middle)
    found: Class = np.where(counts == 0, EMPTY, ends).astype(np.uint8)
    return found


def size_classes(sums: Indices, counts: Indices) -> Class:
    """Return the class of each row by its mean size, in quarters of an octave."""
    mean = log2_steps(np.maximum(sums, 1), 4) - log2_steps(np.maximum(counts, 1), 4)
    found: Class = np.clip(mean, 0, SIZES - 1).astype(np.uint8)
    return found


def float_classes(
    values: Vector, bounds: Indices, *, shift: int, classes: int
) -> Class:
    """Return the class of each float: 0 for zero, else its size relative to its part.

    The bit pattern of a float, cut below ``shift`` bits, is a logarithm in steps of
    ``2**(shift - 23)`` octaves; the class is its distance from the mean of the part
    (of at most 2**14 of its floats, evenly taken), the mean being the middle class.

    Args:
        values: float32[n].
        bounds: Start of each part, and the end.
        shift: Bits of the pattern that are cut off, 16..23.
        classes: Number of classes, zero included.
    """
    kernels = native.kernels()
    if kernels is not None:
        return kernels.float_classes(values, bounds, shift, classes, _SAMPLE)
    out = np.empty(len(values), dtype=np.uint8)
    little = np.ascontiguousarray(values, dtype="<f4").view("<u2")[1::2]
    patterns = np.arange(1 << (31 - shift))
    for start, end in pairwise(bounds.tolist()):
        steps = little[start:end] & np.uint16(0x7FFF)
        steps >>= np.uint16(shift - 16)
        some = steps[:: max(1, -(-len(steps) // _SAMPLE))]
        total, count = int(some.sum(dtype=np.int64)), int(np.count_nonzero(some))
        middle = total // max(count, 1) - classes // 2
        found = np.clip(patterns - middle, 1, classes - 1)
        found[0] = 0
        np.take(found.astype(np.uint8), steps, out=out[start:end])
    return out
