"""Adaptive context models: both ends count the symbols seen, so no table is sent.

Symbols come in blocks.  The shares of a block follow from the counts of the blocks
before it: ``share(context) = (count + WEIGHT * share(parent)) / (total + WEIGHT)``,
where the parent of a context leaves out its last part, and the parent of all is
uniform.  A context that was never seen starts with the shares of its parent.
Source: the blending of PPM, Witten et al. 1984, with the fixed weight of a Dirichlet
prior: half a symbol for each of the alphabet (Krichevsky and Trofimov 1981).

All numbers are integers, stored in doubles, which divide faster.  Products stay
below 2**53 and every quotient is rounded down, so every platform computes the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedprune.common import native

Shares = NDArray[np.uint16]
Symbols = NDArray[np.uint8]
# The parts of the context of each symbol, uint8[n]; None = 0 everywhere.
Contexts: TypeAlias = Sequence[NDArray[np.uint8] | None]

BIT_SHARES = 15  # bits of precision for an alphabet of two
SYMBOL_SHARES = 13  # and for a larger one

_ONE = 1 << 24  # a share of 1 on the way from parent to child
_BIT_WEIGHT = 4  # weight of the parent's share, in bits
_GROWTH = 16  # a block has at most 1 / _GROWTH of the symbols before it
_SMALLEST = 16  # symbols of a block
_LARGEST = 1 << 19  # symbols of a block; bounds what a block needs in memory


@dataclass(frozen=True, slots=True)
class Model:
    """The model of the symbols of a run.

    Attributes:
        symbols: Size of the alphabet, 2..256.
        sizes: Values of each part of a context, 1..3 parts, the most informative first;
            a context is ``(part_0 * size_1 + part_1) * size_2 + ...``.
        ones: (ones, all) that are expected before anything was seen, of bits; None =
            symbols, which may be two, too.
    """

    symbols: int
    sizes: tuple[int, ...]
    ones: tuple[int, int] | None = None

    @property
    def bits(self) -> int:
        """Bits of precision of the shares."""
        return SYMBOL_SHARES if self.ones is None else BIT_SHARES

    @property
    def root(self) -> int:
        """Expected share of a one, in 2**-24, before any was seen; -1 of symbols."""
        if self.ones is None:
            return -1
        return (self.ones[0] * _ONE) // max(self.ones[1], 1)

    def counts(self) -> "BitCounts | SymbolCounts":
        """Return counts of zero."""
        return SymbolCounts(self) if self.ones is None else BitCounts(self)

    def cells(self, contexts: Contexts, symbols: Symbols) -> NDArray[np.intp]:
        """Return the index of each symbol in the counts."""
        cells = contexts_of(contexts, self.sizes, len(symbols))
        cells *= self.symbols
        cells += symbols
        return cells


def bit_model(sizes: tuple[int, ...], ones: tuple[int, int] = (1, 2)) -> Model:
    """Return the model of bits in contexts of these parts."""
    return Model(symbols=2, sizes=sizes, ones=ones)


def contexts_of(
    contexts: Contexts, sizes: tuple[int, ...], length: int
) -> NDArray[np.intp]:
    """Return the number of each of ``length`` contexts, intp[length]."""
    found = np.zeros(length, dtype=np.intp)
    for part, size in zip(contexts, sizes, strict=True):
        found *= size
        if part is not None:
            found += part
    return found


class BitCounts:
    """Counts of bits in nested contexts, from zero."""

    def __init__(self, model: Model) -> None:
        self._sizes, self._root = model.sizes, model.root
        self._counts = np.zeros((prod(model.sizes), 2))

    def shares(self) -> Shares:
        """Return the share of a one in each context, in 2**15, never 0 or all."""
        levels = [(self._counts[:, 1], self._counts.sum(axis=1))]
        for size in reversed(self._sizes):
            ones, all_ = levels[-1]
            levels.append(
                (ones.reshape(-1, size).sum(axis=1), all_.reshape(-1, size).sum(axis=1))
            )
        shares = np.array([float(self._root)])
        for ones, all_ in reversed(levels):
            parents = np.repeat(shares, len(ones) // len(shares))
            shares = np.floor(
                (ones * _ONE + _BIT_WEIGHT * parents) / (all_ + _BIT_WEIGHT)
            )
        room = (1 << BIT_SHARES) - 2
        return (1 + np.floor(shares * room / _ONE)).astype(np.uint16)

    def pairs(self) -> NDArray[np.uint32]:
        """Return (share << 16) + shares in front, of 0 and 1, uint32[contexts, 2]."""
        one = self.shares().astype(np.uint32)
        rest = np.uint32(1 << BIT_SHARES) - one
        return np.stack([(rest << 16) + one, one << 16], axis=1)

    def learn(self, cells: NDArray[np.intp]) -> None:
        """Count the bits of a block; a cell is context * 2 + bit."""
        seen = np.bincount(cells, minlength=self._counts.size)
        self._counts += seen.reshape(self._counts.shape)


class SymbolCounts:
    """Counts of the symbols of a larger alphabet in nested contexts, from zero."""

    def __init__(self, model: Model) -> None:
        self.symbols, self._sizes = model.symbols, model.sizes
        self._weight = model.symbols // 2  # of the parent's share, in symbols
        self._counts = np.zeros((prod(model.sizes), model.symbols))

    def shares(self) -> Shares:
        """Return shares of 2**13, uint16[contexts, symbols], each at least 1."""
        levels = [self._counts]
        for size in reversed(self._sizes):
            levels.append(levels[-1].reshape(-1, size, self.symbols).sum(axis=1))
        shares = np.full((1, self.symbols), float(_ONE // self.symbols))
        for counts in reversed(levels):
            parents = np.repeat(shares, len(counts) // len(shares), axis=0)
            totals = counts.sum(axis=1, keepdims=True) + self._weight
            shares = np.floor((counts * _ONE + self._weight * parents) / totals)
        room = (1 << SYMBOL_SHARES) - self.symbols
        found = 1 + np.floor(shares * room / _ONE)
        # The rest of rounding down goes to the largest share, the first of equals.
        largest = np.argmax(found, axis=1)
        rest = (1 << SYMBOL_SHARES) - found.sum(axis=1)
        found[np.arange(len(found)), largest] += rest
        return found.astype(np.uint16)

    def pairs(self) -> NDArray[np.uint32]:
        """Return (share << 16) + shares in front, uint32[contexts, symbols]."""
        shares = self.shares().astype(np.uint32)
        before = (np.cumsum(shares, axis=1) - shares).astype(np.uint32)
        return (shares << np.uint32(16)) + before

    def learn(self, cells: NDArray[np.intp]) -> None:
        """Count the symbols of a block; a cell is context * symbols + symbol."""
        seen = np.bincount(cells, minlength=self._counts.size)
        self._counts += seen.reshape(self._counts.shape)


def tally(model: Model, contexts: Contexts, symbols: Symbols) -> NDArray[np.int64]:
    """Return how often each symbol stands in each context, int64[contexts, symbols]."""
    kernels = native.kernels()
    if kernels is not None:
        return kernels.tally((model.symbols, *model.sizes), contexts, symbols)
    cells = model.cells(contexts, symbols)
    counts = np.bincount(cells, minlength=prod(model.sizes) * model.symbols)
    return counts.reshape(-1, model.symbols)


def pairs_of(
    model: Model, contexts: Contexts, symbols: Symbols, lanes: int
) -> NDArray[np.uint32]:
    """Return (share << 16) + shares in front of each symbol of a run, uint32[n].

    Raises:
        IndexError: If a symbol or a context is not one of the model.
    """
    counts, cells = model.counts(), model.cells(contexts, symbols)
    out = np.empty(len(cells), dtype=np.uint32)
    for block in blocks(len(cells), lanes):
        np.take(counts.pairs().reshape(-1), cells[block], out=out[block])
        counts.learn(cells[block])
    return out


def blocks(count: int, lanes: int) -> Iterator[slice]:
    """Yield the blocks of a run of ``count`` symbols: short ones first."""
    start = 0
    while start < count:
        size = max(lanes, start // _GROWTH, _SMALLEST)
        size = min(size // lanes * lanes, _LARGEST) or lanes
        yield slice(start, min(start + size, count))
        start += size
