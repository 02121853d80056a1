"""A range coder in the form of rANS: many lanes, one step of numpy for all of them.

A *lane* is an integer state ``x`` with ``2**16 <= x < 2**32``; symbol ``i`` of a run
belongs to lane ``i mod lanes``.  A symbol with share ``f / 2**bits`` and ``c`` = sum
of the shares in front of it is taken off a state by::

    slot = x mod 2**bits;  x = f * (x >> bits) + slot - c
    if x < 2**16: x = x << 16 | next word          # lanes in order

The encoder does the inverse from the last symbol to the first, so the decoder reads
forward.  A state begins as ``2**16 + raw``, with 16 bits of ``raw`` for free: what no
model can shorten travels there first.  Source: Duda 2013, arXiv:1311.2540; lanes
after Giesen 2014, arXiv:1402.3392.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import PayloadError, Reason

LOW = 1 << 16  # the smallest state
WORD = 16  # bits
STATE = 32  # bits

Ints = NDArray[np.int64]
Words = NDArray[np.uint16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Symbols that are coded one after another, as shares of ``2**bits``.

    Attributes:
        bits: Precision of the shares, 1..16.
        shares: f of each symbol, float64[n], 1 <= f < 2**bits.
        before: c of each symbol, float64[n].
    """

    bits: int
    shares: NDArray[np.uint16]
    before: NDArray[np.uint16]


def encode_runs(runs: list[Run], raw: Words) -> tuple[NDArray[np.uint32], Words]:
    """Return the first states that a decoder needs, and the words after them.

    Args:
        runs: All symbols, in the order in which they are read.
        raw: What each lane begins with, uint16[lanes].
    """
    lanes = len(raw)
    # Doubles hold integers below 2**53 exactly, and divide faster than integers.
    states = raw.astype(np.float64) + LOW
    words: list[Words] = []
    for run in reversed(runs):
        piece = _PIECE * lanes  # a multiple of the lanes, so symbols keep theirs
        for start in range((len(run.shares) - 1) // piece * piece, -1, -piece):
            _push(states, run, slice(start, start + piece), words)
    states_out = states.astype(np.uint32)
    words.reverse()
    return states_out, np.concatenate([np.zeros(0, np.uint16), *words])


_PIECE = 64  # steps whose shares are turned into doubles at a time


def _push(
    states: NDArray[np.float64], run: Run, part: slice, words: list[Words]
) -> None:
    """Put a part of a run onto the states, its last symbol first."""
    lanes = len(states)
    shares = run.shares[part].astype(np.float64)
    before = run.before[part].astype(np.float64)
    limits = shares * float(1 << (STATE - run.bits))
    steps = float(1 << run.bits) - shares
    quotients = np.empty(lanes)
    for at in range((len(shares) - 1) // lanes * lanes, -1, -lanes):
        piece = slice(at, at + lanes)
        share = shares[piece]
        x = states[: len(share)]
        full = np.flatnonzero(x >= limits[piece])
        if len(full):
            old = x[full]
            high = np.floor(old * (1.0 / LOW))
            words.append((old - high * LOW).astype(np.uint16))
            x[full] = high
        q = quotients[: len(share)]
        np.divide(x, share, out=q)
        np.floor(q, out=q)
        q *= steps[piece]
        x += q
        x += before[piece]


class Reader:
    """States and words of a message; takes runs off them in order."""

    def __init__(self, states: NDArray[np.uint32], words: Words) -> None:
        self._states = states.astype(np.int64)
        self._words = words.astype(np.int64)
        self._next = 0

    @property
    def lanes(self) -> int:
        """Number of lanes."""
        return len(self._states)

    @property
    def words_taken(self) -> int:
        """Number of words that were read."""
        return self._next

    def bits(self, ones: NDArray[np.uint16], bits: int) -> NDArray[np.uint8]:
        """Return bits, uint8[n]; ``ones`` holds the share of a 1 of each."""
        out = np.empty(len(ones), dtype=np.uint8)
        for at in range(0, len(ones), self.lanes):
            one = ones[at : at + self.lanes].astype(np.int64)
            x = self._states[: len(one)]
            slot = x & ((1 << bits) - 1)
            bit = slot < one
            out[at : at + self.lanes] = bit
            x >>= bits
            # A 1 has (share, before) = (one, 0), a 0 the rest behind it.
            share = np.where(bit, one, (1 << bits) - one)
            x *= share
            x += np.where(bit, slot, slot - one)
            self._refill(x)
        return out

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
        flat = before.astype(np.int64).reshape(-1)
        rows = contexts * width
        first = (width - 1) // 2
        out = np.empty(len(rows), dtype=np.uint8)
        for at in range(0, len(rows), self.lanes):
            row = rows[at : at + self.lanes]
            x = self._states[: len(row)]
            slot = x & ((1 << bits) - 1)
            place = row.copy()
            step = first
            while step:  # the last entry that is not above the slot
                place += (flat[place + step] <= slot) * step
                step >>= 1
            out[at : at + self.lanes] = place - row
            start = flat[place]
            x >>= bits
            x *= flat[place + 1] - start
            x += slot - start
            self._refill(x)
        return out

    def finish(self) -> Words:
        """Return what each lane began with; refuse words that nobody took."""
        if self._next != len(self._words):
            detail = f"{len(self._words) - self._next} words are left over"
            raise PayloadError(Reason.BAD_SIZE, "delta.words", detail)
        raw = self._states - LOW
        if len(raw) and int(raw.max()) >= LOW:
            detail = "the last states are none that an encoder begins with"
            raise PayloadError(Reason.BAD_VALUE, "delta.states", detail)
        return raw.astype(np.uint16)

    def _refill(self, x: Ints) -> None:
        low = np.flatnonzero(x < LOW)
        if len(low):
            words = self._words[self._next : self._next + len(low)]
            if len(words) < len(low):
                raise PayloadError(Reason.BAD_SIZE, "delta.words", "cut off")
            self._next += len(low)
            x[low] = x[low] << WORD | words
