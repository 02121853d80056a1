"""States and words of a coder as bytes."""

import numpy as np

from fedprune.common.codec.entropy.coder import Taker, Writer
from fedprune.common.codec.entropy.rans import LOW, Words
from fedprune.common.errors import PayloadError, Reason

_STATE, _WORD = np.dtype("<u4"), np.dtype("<u2")

WORD_BYTES = _WORD.itemsize


def close_stream(writer: Writer, first: Words | None = None) -> bytes:
    """Return what a writer collected.

    Args:
        writer: It is done.
        first: What its lanes begin with, uint16[lanes]; None = zeros.
    """
    if first is None:
        first = np.zeros(writer.lanes, dtype=np.uint16)
    states, words = writer.finish(first)
    return states.astype(_STATE).tobytes() + words.astype(_WORD).tobytes()


def open_stream(data: bytes, lanes: int, field: str) -> Taker:
    """Return a coder on a stream, whose number of lanes the receiver knows.

    Raises:
        PayloadError: If these are no such states and words.
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
    return Taker(states.astype(np.uint32), words.astype(np.uint16))


def end_stream(taker: Taker, field: str) -> None:
    """Refuse words that are left over, and lanes that did not begin with zeros.

    Raises:
        PayloadError: If there are some.
    """
    if np.any(taker.finish()):
        detail = "a lane begins with bits that mean nothing"
        raise PayloadError(Reason.BAD_VALUE, field, detail)
