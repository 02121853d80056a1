"""Scales of rows or tensors, and what they make of the shrink."""

import numpy as np

from fedprune.common.codec.delta.levels import Levels
from fedprune.common.codec.delta.quantise import GRIDS, LADDER
from fedprune.common.codec.delta.symbols import Alphabet, integers
from fedprune.common.codec.entropy.coder import Coder
from fedprune.common.codec.entropy.contexts import Class
from fedprune.common.codec.entropy.models import SymbolModel
from fedprune.common.codec.entropy.rans import Ints
from fedprune.common.codec.layout import TENSORS

_HIGH, _LOW = 32, 8  # a code is an octave and an eighth of it
_LOW_BITS = 3


def alphabet_of(values: str, *, shifted: bool) -> Alphabet:
    """Return the alphabet of sizes; a shift makes them up to twice as large."""
    top = GRIDS[values].top
    return integers(top * 2 if shifted else top)


def code_scales(
    coder: Coder, counts: Ints, tensors: Class, codes: Class | None
) -> Class:
    """Write or read the code of every row or tensor that has an entry.

    Args:
        coder: Either end.
        counts: Entries that share each scale.
        tensors: Context of each scale, uint8[len(counts)].
        codes: uint8[len(counts)], or None to read.

    Returns:
        The codes; 0 where there is no entry.
    """
    filled = np.flatnonzero(counts)
    contexts = tensors[filled]
    high: Class | None = None
    low: Class | None = None
    if codes is not None:
        high = codes[filled] >> np.uint8(_LOW_BITS)
        low = codes[filled] & np.uint8(_LOW - 1)
    high = coder.code(SymbolModel(_HIGH, (TENSORS,)), contexts, high)
    low = coder.code(SymbolModel(_LOW, (TENSORS,)), contexts, low)
    found = np.zeros(len(counts), dtype=np.uint8)
    found[filled] = high << np.uint8(_LOW_BITS) | low
    return found


def shifts(shrink: np.float32, codes: Class, counts: Ints, values: str) -> Levels:
    """Return ``shrink / scale`` of each entry, rounded to a level, int16[entries].

    Doubles: one division and one rounding, which every platform does alike.
    """
    top = GRIDS[values].top
    steps = np.where(codes > 0, LADDER[codes], np.float32(np.inf)).astype(np.float64)
    levels = np.clip(np.rint(np.float64(shrink) / steps), -top, top)
    return np.repeat(levels.astype(np.int16), counts)
