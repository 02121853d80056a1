"""Classes of rows, columns, levels and floats: the contexts of the update coder.

Integers only, so that both ends agree on every platform: logarithms are read off the
bits of a number, floats off their bit patterns.
"""

import numpy as np
from numpy.typing import NDArray

from common.codec.rans import Ints
from common.messages import Vector

Class = NDArray[np.uint8]

EMPTY = 0  # class of a row or column without an entry
FULL = 24  # class of one that is full
DENSITIES = 25  # classes of rows and columns, by share of entries
SIZES = 32  # classes of rows, by mean level
_EVEN = 20  # density class of a row that is half full
_FINE = 8  # bits of a logarithm's fraction

FLOATS = 32  # classes of a float, steps of a quarter of an octave
COARSE = 16  # the same in steps of half an octave


def log2_steps(numbers: NDArray[np.integer], steps: int) -> Ints:
    """Return ``floor(steps * log2(n))`` of n >= 1, by straight lines between powers.

    >>> log2_steps(np.array([1, 2, 3, 4, 1000]), 2).tolist()
    [0, 2, 3, 4, 19]
    """
    rest = numbers.astype(np.int64)
    whole = np.zeros_like(rest)
    for shift in (32, 16, 8, 4, 2, 1):
        large = (rest >> shift) > 0
        whole += large * shift
        rest = np.where(large, rest >> shift, rest)
    fraction = ((numbers.astype(np.int64) << _FINE) >> whole) - (1 << _FINE)
    return whole * steps + (fraction * steps >> _FINE)


def density_classes(counts: Ints, lengths: Ints, grain: int) -> Class:
    """Return the class of each row: 0 empty, 24 full, else by the odds of an entry.

    Args:
        counts: Entries of each row.
        lengths: Places of each row.
        grain: Half octaves of a class, >= 1.
    """
    odds = log2_steps(2 * counts + 1, 2) - log2_steps(2 * (lengths - counts) + 1, 2)
    middle = (np.clip(_EVEN + odds, 1, FULL - 1) + grain - 1) // grain
    ends = np.where(counts == lengths, FULL, middle)
    return np.where(counts == 0, EMPTY, ends).astype(np.uint8)


def size_classes(sums: Ints, counts: Ints, grain: int) -> Class:
    """Return the class of each row by its mean size, in ``grain`` / 4 octaves."""
    mean = log2_steps(np.maximum(sums, 1), 4) - log2_steps(np.maximum(counts, 1), 4)
    return (np.clip(mean, 0, SIZES - 1) // grain).astype(np.uint8)


def float_classes(
    values: Vector, bounds: Ints, *, shift: int, classes: int
) -> Class:
    """Return the class of each float: 0 for zero, else its size against its part.

    The bit pattern of a float, cut below ``shift`` bits, is a logarithm in steps of
    ``2**(shift - 23)`` octaves; the class is its distance from the mean of the part.

    Args:
        values: float32[n].
        bounds: Where each part starts, and the end.
        shift: Bits of the pattern that are cut off.
        classes: Number of classes, zero included.
    """
    steps = ((values.view(np.uint32) & np.uint32(0x7FFFFFFF)) >> shift).astype(np.int16)
    filled = np.flatnonzero(np.diff(bounds))
    starts = bounds[:-1][filled]
    if not len(starts):
        return np.zeros(0, dtype=np.uint8)
    sums = np.add.reduceat(steps, starts, dtype=np.int64)
    counts = np.add.reduceat(steps != 0, starts, dtype=np.int64)
    middle = sums // np.maximum(counts, 1) - classes // 2
    offsets = np.repeat(middle.astype(np.int16), np.diff(bounds)[filled])
    found = np.clip(steps - offsets, 1, classes - 1)
    found[steps == 0] = 0
    return found.astype(np.uint8)
