"""rANS, a range coder: many lanes, one step of numpy for all of them.

A *lane* is an integer state ``x`` with ``2**16 <= x < 2**32``; symbol ``i`` of a block
belongs to lane ``i mod lanes``.  A symbol with share ``f / 2**bits`` and ``c`` = sum
of the shares in front of it is decoded from a state by::

    slot = x mod 2**bits;  x = f * (x >> bits) + slot - c
    if x < 2**16: x = x << 16 | next word          # lanes in order

The encoder does the inverse from the last symbol to the first, so the decoder reads
forward.  A state begins as ``2**16 + raw``, with 16 bits of ``raw`` at no cost: bits
that no model can shorten are stored there first.  Source: Duda 2013, arXiv:1311.2540;
lanes after Giesen 2014, arXiv:1402.3392.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedprune.common.codec.entropy.models import (
    SYMBOL_SHARES,
    BitCounts,
    Contexts,
    Model,
    Shares,
    Symbols,
    blocks,
    contexts_of,
)
from fedprune.common.errors import PayloadError, Reason

LOW = 1 << 16  # the smallest state
WORD = 16  # bits
STATE = 32  # bits

Ints = NDArray[np.int64]
Words = NDArray[np.uint16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Symbols of one model, block after block, as shares of ``2**bits``.

    Attributes:
        bits: Precision of the shares, 1..16.
        pairs: (f << 16) + c of each symbol, uint32[n], 1 <= f < 2**bits.
    """

    bits: int
    pairs: NDArray[np.uint32]


def encode_runs(runs: list[Run], raw: Words) -> tuple[NDArray[np.uint32], Words]:
    """Return the states that a decoder starts with, and the words after them.

    Args:
        runs: All symbols, in the order in which they are read.
        raw: Raw bits that each lane begins with, uint16[lanes].
    """
    lanes = len(raw)
    # Doubles hold integers below 2**53 exactly, and divide faster than integers.
    states = raw.astype(np.float64) + LOW
    words: list[Words] = []
    for run in reversed(runs):
        for block in reversed(list(blocks(len(run.pairs), lanes))):
            _push_block(states, run, block, words)
    states_out = states.astype(np.uint32)
    words.reverse()
    return states_out, np.concatenate([np.zeros(0, np.uint16), *words])


_PIECE = 1 << 14  # symbols whose shares are turned into doubles at a time


def _push_block(
    states: NDArray[np.float64], run: Run, block: slice, words: list[Words]
) -> None:
    """Encode a block of a run, whose first symbol belongs to the first lane."""
    lanes = len(states)
    whole = block.start + (block.stop - block.start) // lanes * lanes
    if whole < block.stop:
        _push(states, run, slice(whole, block.stop), words)
    piece = max(_PIECE // lanes, 1) * lanes
    for end in range(whole, block.start, -piece):
        _push(states, run, slice(max(end - piece, block.start), end), words)


def _push(
    states: NDArray[np.float64], run: Run, part: slice, words: list[Words]
) -> None:
    """Encode whole steps of a run, or its last one, into the states, last first."""
    x = states[: part.stop - part.start]
    pairs = run.pairs[part].reshape(-1, len(x))
    shares = (pairs >> 16).astype(np.float64)
    before = (pairs & np.uint32(LOW - 1)).astype(np.float64)
    limits = shares * float(1 << (STATE - run.bits))
    rests = float(1 << run.bits) - shares
    full, old = np.empty(shares.shape, dtype=bool), np.empty(shares.shape)
    q, shift = np.empty(len(x)), np.full(len(x), 1.0 / LOW)
    steps = zip(limits[::-1], shares[::-1], rests[::-1], before[::-1], strict=True)
    kept = zip(full[::-1], old[::-1], strict=True)
    for (limit, share, rest, start), (hot, state) in zip(steps, kept, strict=True):
        state[:] = x
        np.greater_equal(x, limit, out=hot)
        np.multiply(x, shift, out=q)
        np.floor(q, out=q)
        np.copyto(x, q, where=hot)
        np.divide(x, share, out=q)
        np.floor(q, out=q)
        np.multiply(q, rest, out=q)
        np.add(q, start, out=q)
        np.add(x, q, out=x)
    words.append(old[full].astype(np.uint32).astype(np.uint16))


class Reader:
    """States and words of a message; decodes runs from them in order.

    Attributes:
        states: State of each lane, uint32[lanes].
        words: All words, uint16[n].
        next: Number of words that were read.
    """

    def __init__(self, states: NDArray[np.uint32], words: Words) -> None:
        self.states = states.astype(np.uint32)
        self.words = words
        self.next = 0
        self._least = np.full(len(states), LOW, dtype=np.uint32)
        self._width = np.full(len(states), WORD, dtype=np.uint32)

    @property
    def lanes(self) -> int:
        """Number of lanes."""
        return len(self.states)

    def run(self, model: Model, contexts: Contexts) -> Symbols:
        """Return the next symbols, one for each context, uint8[n]."""
        length = next(len(part) for part in contexts if part is not None)
        numbers = contexts_of(contexts, model.sizes, length)
        out = np.empty(length, dtype=np.uint8)
        counts = model.counts()
        for block in blocks(length, self.lanes):
            shares = counts.shares()
            if isinstance(counts, BitCounts):
                found = self.bits(np.take(shares, numbers[block]), model.bits)
            else:
                found = self.symbols(numbers[block], _before(shares), model.bits)
            counts.learn(numbers[block] * model.symbols + found)
            out[block] = found
        return out

    def bits(self, ones: NDArray[np.uint16], bits: int) -> NDArray[np.uint8]:
        """Return bits, uint8[n]; ``ones`` holds the share of a 1 of each."""
        out = np.empty(len(ones), dtype=bool)
        shares = ones.astype(np.uint32)
        whole = len(ones) // self.lanes * self.lanes
        for part in (slice(0, whole), slice(whole, len(ones))):
            width = min(self.lanes, part.stop - part.start)
            if width:
                steps = shares[part].reshape(-1, width)
                self._take_bits(steps, out[part].reshape(-1, width), bits)
        return out.view(np.uint8)

    def _take_bits(
        self, shares: NDArray[np.uint32], out: NDArray[np.bool_], bits: int
    ) -> None:
        """Fill ``out``, one row a step, with bits whose shares of a 1 are given."""
        x = self.states[: shares.shape[1]]
        high, slot, part = np.empty((3, len(x)), dtype=np.uint32)
        # Whole arrays, as numpy takes twice as long over a number.
        shift = np.full(len(x), bits, dtype=np.uint32)
        low = np.full(len(x), (1 << bits) - 1, dtype=np.uint32)
        for one, bit in zip(shares, out, strict=True):
            np.right_shift(x, shift, out=high)
            np.bitwise_and(x, low, out=slot)
            np.less(slot, one, out=bit)
            # A 1 has (share, before) = (one, 0), a 0 the rest behind it.
            np.multiply(one, high, out=part)
            np.add(slot, part, out=slot)
            np.subtract(x, part, out=x)
            np.subtract(x, one, out=x)
            np.copyto(x, slot, where=bit)
            self._refill(x)

    def symbols(
        self, contexts: Ints, before: NDArray[np.uint16], bits: int
    ) -> NDArray[np.uint8]:
        """Return symbols, uint8[n].

        Args:
            contexts: Row of the table of each symbol, int64[n].
            before: Shares in front of each symbol, [contexts, 2**k + 1], filled up
                with ``2**bits``.
            bits: Precision of the shares.
        """
        width = before.shape[1]
        flat = before.astype(np.uint32).reshape(-1)
        rows = contexts * width
        first = (width - 1) // 2
        out = np.empty(len(rows), dtype=np.uint8)
        lanes = self.lanes
        for at in range(0, len(rows), lanes):
            row = rows[at : at + lanes]
            x = self.states[: len(row)]
            slot = x & np.uint32((1 << bits) - 1)
            index = row.copy()
            step = first
            while step:  # the last entry that is not above the slot
                index += (flat[index + step] <= slot) * step
                step >>= 1
            out[at : at + lanes] = index - row
            start = flat[index]
            x >>= bits
            x *= flat[index + 1] - start
            x += slot - start
            self._refill(x)
        return out

    def finish(self) -> Words:
        """Return the raw bits of each lane; refuse words that are left over."""
        if self.next != len(self.words):
            detail = f"{len(self.words) - self.next} words are left over"
            raise PayloadError(Reason.BAD_SIZE, "delta.words", detail)
        raw = self.states - LOW
        if len(raw) and int(raw.max()) >= LOW:
            detail = "the last states are not states that an encoder begins with"
            raise PayloadError(Reason.BAD_VALUE, "delta.states", detail)
        return raw.astype(np.uint16)

    def _refill(self, x: NDArray[np.uint32]) -> None:
        """Append words to the states that are too small, in place."""
        low = (x < self._least[: len(x)]).nonzero()[0]
        if low.size:
            end = self.next + low.size
            if end > self.words.size:
                raise PayloadError(Reason.BAD_SIZE, "delta.words", "cut off")
            x[low] = (x[low] << self._width[: low.size]) + self.words[self.next : end]
            self.next = end


def _before(shares: Shares) -> Shares:
    """Return the shares in front of each symbol, [contexts, 2**k + 1], filled up."""
    symbols = shares.shape[1]
    width = 1 << (symbols - 1).bit_length()
    before = np.full((len(shares), width + 1), 1 << SYMBOL_SHARES, dtype=np.uint16)
    before[:, 0] = 0
    np.cumsum(shares, axis=1, out=before[:, 1 : symbols + 1])
    return before
