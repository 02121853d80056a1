"""The entropy coder, one interface for both ends: ``code`` encodes or decodes symbols.

The walk over a message is written once (``body.py``) and passes every symbol through a
coder, which returns it, so the two ends cannot disagree on the order.  A stream is the
states and words of a coder as bytes.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedprune.common import native
from fedprune.common.codec.entropy.models import (
    Contexts,
    Model,
    Symbols,
    pairs_of,
)
from fedprune.common.codec.entropy.rans import LOW, Reader, Run, Words, encode_runs
from fedprune.common.errors import PayloadError, Reason
from fedprune.common.native import RunModel

_STATE, _WORD = np.dtype("<u4"), np.dtype("<u2")

WORD_BYTES = _WORD.itemsize


class Coder(Protocol):
    """An encoder or a decoder, as the walk over a message uses it.

    Attributes:
        lanes: Number of lanes.
    """

    lanes: int

    def code(
        self, model: Model, contexts: Contexts, symbols: Symbols | None
    ) -> Symbols:
        """Encode ``symbols``, or decode one for each context; return them."""
        ...


class Encoder:
    """Collects the symbols of a message and the shares of their models."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.runs: list[Run] = []

    def code(
        self, model: Model, contexts: Contexts, symbols: Symbols | None
    ) -> Symbols:
        """Add ``symbols`` to the message."""
        assert symbols is not None  # noqa: S101 - a writer is given what it writes
        kernels = native.kernels()
        if kernels is None:
            pairs = pairs_of(model, contexts, symbols, self.lanes)
        else:
            pairs = kernels.pairs(_run_model(model, self.lanes), contexts, symbols)
        self.runs.append(Run(bits=model.bits, pairs=pairs))
        return symbols

    def finish(self, raw: Words) -> tuple[NDArray[np.uint32], Words]:
        """Return states and words; ``raw`` are the bits in the first states."""
        kernels = native.kernels()
        if kernels is None:
            return encode_runs(self.runs, raw)
        states = raw.astype(np.uint32) + np.uint32(LOW)
        runs = [kernels.push_run(r.pairs, r.bits, states) for r in reversed(self.runs)]
        return states, np.concatenate([np.zeros(0, np.uint16), *reversed(runs)])

    def ideal_bits(self) -> float:
        """Return the code length of the symbols under the shares of their models."""
        return sum(
            run.bits * len(run.pairs) - float(np.log2(run.pairs >> 16).sum())
            for run in self.runs
        )


class Decoder:
    """Decodes the symbols of a message from its states and words."""

    def __init__(self, states: NDArray[np.uint32], words: Words) -> None:
        self.lanes = len(states)
        self._reader = Reader(states, words)

    def code(
        self, model: Model, contexts: Contexts, symbols: Symbols | None
    ) -> Symbols:
        """Return the next symbols."""
        assert symbols is None  # noqa: S101 - a reader has nothing to write
        kernels, reader = native.kernels(), self._reader
        if kernels is None:
            return reader.run(model, contexts)
        found, reader.next = kernels.pop_run(
            _run_model(model, self.lanes),
            contexts,
            reader.states,
            reader.words,
            reader.next,
        )
        return found

    @property
    def words_taken(self) -> int:
        """Number of words that were read."""
        return self._reader.next

    def finish(self) -> Words:
        """Return the raw bits of the first states; see ``Reader.finish``."""
        return self._reader.finish()


def _run_model(model: Model, lanes: int) -> RunModel:
    return RunModel(
        symbols=model.symbols, sizes=model.sizes, root=model.root, lanes=lanes
    )


def close_stream(writer: Encoder, first: Words | None = None) -> bytes:
    """Return the stream of an encoder.

    Args:
        writer: The encoder, with all symbols.
        first: Raw bits in the first states, uint16[lanes]; None = zeros.
    """
    if first is None:
        first = np.zeros(writer.lanes, dtype=np.uint16)
    states, words = writer.finish(first)
    return states.astype(_STATE).tobytes() + words.astype(_WORD).tobytes()


def open_stream(data: bytes, lanes: int, field: str) -> Decoder:
    """Return a decoder of a stream, whose number of lanes the receiver knows.

    Raises:
        PayloadError: If the bytes are not states of these lanes and whole words.
    """
    head = _STATE.itemsize * lanes
    if len(data) < head or (len(data) - head) % _WORD.itemsize:
        detail = f"{len(data)} bytes; want {lanes} states and whole words"
        raise PayloadError(Reason.BAD_SIZE, field, detail)
    states = np.frombuffer(data[:head], dtype=_STATE)
    if int(states.min()) < LOW:
        detail = f"a state of {states.min()}; want at least {LOW}"
        raise PayloadError(Reason.BAD_VALUE, field, detail)
    words = np.frombuffer(data[head:], dtype=_WORD)
    return Decoder(states.astype(np.uint32), words.astype(np.uint16))


def end_stream(decoder: Decoder, field: str) -> None:
    """Refuse a stream with words left over, or lanes that did not begin with zeros.

    Raises:
        PayloadError: If it has either.
    """
    if np.any(decoder.finish()):
        detail = "a lane begins with unused bits other than 0"
        raise PayloadError(Reason.BAD_VALUE, field, detail)
