"""Alphabets: the size of a level as a symbol and raw bits."""

from dataclasses import dataclass
from functools import cache, cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedprune.common.codec.entropy.contexts import Class, log2_steps, size_classes
from fedprune.common.codec.entropy.rans import Ints

_EXACT = 16  # sizes below have a symbol of their own
_RANGES = 8  # symbols of an octave of larger sizes
_BLOCK = 1 << 15  # entries that are looked up at once, for numpy makes them int64

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, kw_only=True)
class Alphabet:
    """Symbols of sizes >= 0; symbol 0 is size 0.

    Its tables are computed once, so one object serves many messages.

    Attributes:
        starts: Smallest size of each symbol, int64[symbols].
        raw: Raw bits of each symbol, uint8[symbols].
    """

    starts: Ints
    raw: Class

    @property
    def symbols(self) -> int:
        """Number of symbols."""
        return len(self.starts)

    def split(self, sizes: NDArray[np.integer]) -> Class:
        """Return the symbol of each size."""
        return taken(self._table, sizes)

    def smallest(self, symbols: Class) -> NDArray[np.int16]:
        """Return the smallest size of each symbol, int16[n]."""
        return taken(self._smallest, symbols)

    def widths(self, symbols: Class) -> Class:
        """Return the raw bits of each symbol, uint8[n]."""
        return taken(self.raw, symbols)

    def octaves(self, symbols: Class) -> Class:
        """Return the size class of each symbol > 0, a context of its sign."""
        return self._octaves[symbols]

    @cached_property
    def _table(self) -> Class:
        every = np.arange(int(self.starts[-1]) + (1 << int(self.raw[-1])))
        found = np.searchsorted(self.starts, every, side="right") - 1
        return found.astype(np.uint8)

    @cached_property
    def _octaves(self) -> Class:
        return log2_steps(np.maximum(self.starts, 1), 1).astype(np.uint8)

    @cached_property
    def _smallest(self) -> NDArray[np.int16]:
        return self.starts.astype(np.int16)

    def row_classes(self, symbols: Class, counts: Ints) -> Class:
        """Return the class of each row by the mean size of its symbols, uint8[rows].

        Args:
            symbols: Symbol of each entry, row by row.
            counts: Entries of each row.
        """
        sums = np.zeros(len(counts), dtype=np.int64)
        filled = np.flatnonzero(counts)
        if len(filled):
            starts = (np.cumsum(counts) - counts)[filled]
            of_entries = self.smallest(symbols)
            sums[filled] = np.add.reduceat(of_entries, starts, dtype=np.int64)
        return size_classes(sums, counts)


@cache
def integers(top: int) -> Alphabet:
    """Return the alphabet of sizes 0..top, top <= 32767.

    Below 16 a size is its own symbol; above, an octave has eight symbols and the low
    bits are raw.

    >>> alphabet = integers(254)
    >>> alphabet.symbols, alphabet.split(np.array([3, 16, 17, 40, 254])).tolist()
    (48, [3, 16, 16, 26, 47])
    """
    starts, raw, size = [], [], 0
    while size <= top:
        bits = max(size.bit_length() - _RANGES.bit_length(), 0) if size >= _EXACT else 0
        starts.append(size)
        raw.append(bits)
        size += 1 << bits
    return Alphabet(
        starts=np.array(starts, dtype=np.int64), raw=np.array(raw, dtype=np.uint8)
    )


def taken(table: NDArray[T], places: NDArray[np.integer]) -> NDArray[T]:
    """Return ``table[places]``.

    Raises:
        IndexError: If a place is outside of the table.
    """
    found = np.empty(len(places), dtype=table.dtype)
    for start in range(0, len(places), _BLOCK):
        part = slice(start, start + _BLOCK)
        np.take(table, places[part], out=found[part])
    return found
