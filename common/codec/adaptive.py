"""Adaptive models: both ends count the symbols that they have seen, so no table travels.

Symbols come in blocks.  The shares of a block follow from the counts of the blocks
before it, by integers only: ``share(context) = (count + WEIGHT * share(parent)) /
(total + WEIGHT)``, where the parent of a context leaves out its last part, and the
parent of all is uniform.  So a context that was never seen costs what its parent
knows, not a table.  Source: the blending of PPM, Cleary & Witten 1984, with the fixed
weight of a Dirichlet prior.
"""

from collections.abc import Iterator
from math import prod

import numpy as np
from numpy.typing import NDArray

from common.codec.rans import Ints

_ONE = 1 << 24  # a share of 1 on the way from parent to child
_WEIGHT = 6  # symbols that the parent's share counts as
_FIRST = 4  # a first block has so many symbols for each lane, at least one step
_GROWTH = 4  # a block is at most a 1 / _GROWTH of what came before it
_LARGEST = 1 << 19  # symbols of a block; bounds what a block needs in memory


class Model:
    """Counts of the symbols of an alphabet in nested contexts.

    Args:
        symbols: Size of the alphabet, 2..64.
        contexts: Sizes of the parts of a context, the most telling first; a context is
            ``(part_0 * size_1 + part_1) * size_2 + ...``.
        ones: For two symbols: (ones, all) that are expected, in place of uniform.
    """

    def __init__(
        self,
        symbols: int,
        contexts: tuple[int, ...],
        ones: tuple[int, int] | None = None,
    ) -> None:
        self._symbols = symbols
        self._root = np.full((1, symbols), _ONE // symbols, dtype=np.int64)
        if ones is not None:
            share = (ones[0] * _ONE) // max(ones[1], 1)
            self._root[0] = _ONE - share, share
        self._sizes = contexts
        self._counts = np.zeros((prod(contexts), symbols), dtype=np.int64)

    @property
    def symbols(self) -> int:
        """Size of the alphabet."""
        return self._symbols

    def shares(self, bits: int) -> Ints:
        """Return shares of ``2**bits``, int64[contexts, symbols], each at least 1."""
        parents = self._root
        for depth in range(len(self._sizes) + 1):
            counts = self._level(depth)
            parents = np.repeat(parents, len(counts) // len(parents), axis=0)
            totals = counts.sum(axis=1, keepdims=True) + _WEIGHT
            parents = (counts * _ONE + _WEIGHT * parents) // totals
        room = (1 << bits) - self._symbols
        shares = 1 + parents * room // _ONE
        largest = np.argmax(shares, axis=1)
        rest = (1 << bits) - shares.sum(axis=1)
        shares[np.arange(len(shares)), largest] += rest
        return shares

    def learn(self, contexts: NDArray[np.integer], symbols: NDArray[np.uint8]) -> None:
        """Count the symbols of a block."""
        cells = contexts.astype(np.int64) * self._symbols + symbols
        self._counts += np.bincount(cells, minlength=self._counts.size).reshape(
            self._counts.shape
        )

    def _level(self, depth: int) -> Ints:
        """Return the counts with the first ``depth`` parts of the context told apart."""
        width = prod(self._sizes[:depth])
        level: Ints = self._counts.reshape(width, -1, self._symbols).sum(axis=1)
        return level


def blocks(count: int, lanes: int) -> Iterator[slice]:
    """Yield the blocks of a run of ``count`` symbols: short ones first."""
    start = 0
    while start < count:
        size = max(_FIRST * lanes, start // _GROWTH, 64)
        size = min(size // lanes * lanes, _LARGEST) or lanes
        yield slice(start, min(start + size, count))
        start += size
