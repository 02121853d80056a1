"""One interface for both ends: ``code`` writes symbols, or reads and returns them.

The walk over a message is written once (``layout.py``); it asks a coder for every
symbol and takes what comes back, so the two ends cannot disagree on the order.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from common.codec.adaptive import Model, blocks
from common.codec.rans import Ints, Reader, Run, Words, encode_runs

BIT_SHARES = 15  # bits of precision for an alphabet of two
SYMBOL_SHARES = 13  # and for a larger one

Symbols = NDArray[np.uint8]


class Coder(Protocol):
    """What a walk asks of either end.

    Attributes:
        lanes: Number of lanes.
    """

    lanes: int

    def code(
        self, model: Model, contexts: NDArray[np.integer], symbols: Symbols | None
    ) -> Symbols:
        """Write ``symbols``, or read as many as there are contexts; return them."""
        ...


class Writer:
    """Collects the symbols of a message and the shares that they are coded with."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.runs: list[Run] = []

    def code(
        self, model: Model, contexts: NDArray[np.integer], symbols: Symbols | None
    ) -> Symbols:
        """Add ``symbols`` to the message."""
        assert symbols is not None  # noqa: S101 - a writer is given what it writes
        for block in blocks(len(contexts), self.lanes):
            self.runs.append(_run(model, contexts[block], symbols[block]))
            model.learn(contexts[block], symbols[block])
        return symbols

    def finish(self, raw: Words) -> tuple[NDArray[np.uint32], Words]:
        """Return states and words; ``raw`` is what the lanes begin with."""
        return encode_runs(self.runs, raw)

    def ideal_bits(self) -> float:
        """Return the code length of what was written under its own shares."""
        return sum(
            run.bits * len(run.shares) - float(np.log2(run.shares).sum())
            for run in self.runs
        )


class Taker:
    """Takes the symbols of a message off its states and words."""

    def __init__(self, states: NDArray[np.uint32], words: Words) -> None:
        self.lanes = len(states)
        self._reader = Reader(states, words)

    def code(
        self, model: Model, contexts: NDArray[np.integer], symbols: Symbols | None
    ) -> Symbols:
        """Return the next symbols."""
        assert symbols is None  # noqa: S101 - a reader has nothing to write
        out = np.empty(len(contexts), dtype=np.uint8)
        for block in blocks(len(contexts), self.lanes):
            found = self._read(model, contexts[block])
            model.learn(contexts[block], found)
            out[block] = found
        return out

    @property
    def words_taken(self) -> int:
        """Number of words that were read."""
        return self._reader.words_taken

    def finish(self) -> Words:
        """Return what the lanes began with; see ``Reader.finish``."""
        return self._reader.finish()

    def _read(self, model: Model, contexts: NDArray[np.integer]) -> Symbols:
        if model.symbols == 2:  # noqa: PLR2004 - bits
            ones = model.shares(BIT_SHARES)[:, 1].astype(np.uint16)
            return self._reader.bits(ones[contexts], BIT_SHARES)
        shares = model.shares(SYMBOL_SHARES)
        width = 1 << (model.symbols - 1).bit_length()
        before = np.full((len(shares), width + 1), 1 << SYMBOL_SHARES, dtype=np.uint16)
        before[:, 0] = 0
        before[:, 1 : model.symbols + 1] = np.cumsum(shares, axis=1)
        return self._reader.symbols(contexts.astype(np.int64), before, SYMBOL_SHARES)


def _run(model: Model, contexts: NDArray[np.integer], symbols: Symbols) -> Run:
    if model.symbols == 2:  # noqa: PLR2004 - bits
        one = model.shares(BIT_SHARES)[:, 1].astype(np.uint16)[contexts]
        bit = symbols.astype(bool)
        rest = np.uint16(1 << BIT_SHARES) - one
        return Run(
            bits=BIT_SHARES,
            shares=np.where(bit, one, rest),
            before=np.where(bit, np.uint16(0), one),
        )
    shares = model.shares(SYMBOL_SHARES)
    before = np.cumsum(shares, axis=1) - shares
    cells = contexts.astype(np.int64) * model.symbols + symbols
    return Run(
        bits=SYMBOL_SHARES,
        shares=shares.astype(np.uint16).reshape(-1)[cells],
        before=before.astype(np.uint16).reshape(-1)[cells],
    )
