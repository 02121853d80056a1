"""Text as bytes: what repeats and what is new, by adaptive bits.

text       bool coded, bin data: the text itself if not coded

The receiver knows the exact size.  Coded data is a uint32 state, then uint16 words, of
a coder with one lane (``rans.py``) that begins as 2**16; it is shorter than the text.
It holds tokens until the text is whole; in brackets the context of a bit::

    bit [last, last but one]: 0 a byte | 1 a repeat; both are 0 at first
    byte     eight bits, high first [high 3 bits of the byte before, bits so far]
    repeat   bit same [last]: 1 the distance of the last repeat (1 at first)
             | 0 a number [0], the distance; then a number [1 + same], its length - 1
    number   of b bits, b <= 32: five bits of b - 1, high first [table, bits so far];
             then all bits but the first, high first: three [table, b, bits so far],
             others [table, b, bits still to come]

A repeat copies from ``distance`` bytes before where it begins.  A share of 1 is
1 + (2 * ones + 1) * (2**15 - 2) div (2 * seen + 2) of 2**15; ones and seen of a
context are halved, rounded down, when seen reaches 128.  A decoder takes any tokens.
Source: the tokens of Pavlov's LZMA, simplified.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np

from fedprune.common.codec.entropy.rans import LOW, WORD
from fedprune.common.errors import PayloadError, Reason

CODED = 1 << 19  # bytes of the longest text that is coded; bounds a decoder's time

_BITS = 15  # precision of shares
_ONE = 1 << _BITS
_FULL = 128  # bits of a context before its counts are halved
_BYTE = 8
_KEPT = 5  # low bits of the byte before that are no context
_SLOT = 5  # bits of a bit length
_TREE = 3  # bits of a number that know all bits before
_STATE = 4  # bytes
_WORD = np.dtype("<u2")

_TRIES = 64  # earlier places that a repeat is looked for at
_KEY = 3  # bytes that places are found by
_SAVED = 4  # bits that each byte of a repeat saves, about
_AGAIN = 9  # and if it is at the last distance
_REPEAT = 8  # bits that another repeat costs beside its distance
_DELAY = 2  # bits that waiting for a better repeat has to save

Context = tuple[int, ...]


class _Token(NamedTuple):
    """A byte (distance 0), or a repeat of at least two bytes."""

    byte: int
    distance: int
    length: int


class _Past(NamedTuple):
    """What both ends know before a token."""

    last: int = 0
    before: int = 0
    distance: int = 1

    def after(self, token: _Token) -> "_Past":
        """Return what they know after it."""
        distance = token.distance or self.distance
        return _Past(last=int(token.distance > 0), before=self.last, distance=distance)


_NOTHING = _Token(byte=0, distance=0, length=0)


class _Bits(Protocol):
    """One end: writes a bit in a context, or reads it; returns it."""

    def code(self, context: Context, bit: int) -> int: ...


def squeeze_text(text: bytes) -> tuple[bool, bytes]:
    """Return whether a text is coded, and the shorter bytes."""
    if len(text) > CODED:
        return False, text
    found = _encode(text)
    return (True, found) if len(found) < len(text) else (False, text)


def unsqueeze_text(data: bytes, field: str, expected: int, *, coded: bool) -> bytes:
    """Return the ``expected`` bytes of a text; trust nothing in ``data``.

    Raises:
        PayloadError: If it holds another number of bytes, or is no text.
    """
    if not coded:
        if len(data) != expected:
            detail = f"{len(data)} bytes; want {expected}"
            raise PayloadError(Reason.BAD_SIZE, field, detail)
        return data
    if len(data) >= expected or expected > CODED:
        detail = f"{len(data)} coded bytes for {expected}; want fewer, of {CODED}"
        raise PayloadError(Reason.BAD_SIZE, field, detail)
    reader = _Reader(data, field)
    out = bytearray()
    past = _Past()
    while len(out) < expected:
        token = _code(reader, past, out[-1] if out else 0, _NOTHING)
        past = past.after(token)
        if not token.distance:
            out.append(token.byte)
            continue
        if token.distance > len(out) or token.length > expected - len(out):
            detail = f"a repeat of {token.length} bytes from {token.distance} before"
            raise PayloadError(Reason.BAD_VALUE, field, detail)
        _repeat(out, token)
    reader.finish()
    return bytes(out)


def _code(bits: _Bits, past: _Past, before: int, token: _Token) -> _Token:
    """Write a token, or read and return it; ``before`` is the byte before it."""
    if not bits.code((0, past.last, past.before), int(token.distance > 0)):
        byte = _tree(bits, (1, before >> _KEPT), token.byte, _BYTE)
        return _Token(byte=byte, distance=0, length=1)
    same = bits.code((2, past.last), int(token.distance == past.distance))
    distance = past.distance if same else _number(bits, 0, token.distance)
    length = 1 + _number(bits, 1 + same, token.length - 1)
    return _Token(byte=0, distance=distance, length=length)


def _tree(bits: _Bits, context: Context, value: int, width: int) -> int:
    found = 1
    for left in reversed(range(width)):
        found = 2 * found + bits.code((*context, found), value >> left & 1)
    return found - (1 << width)


def _number(bits: _Bits, table: int, value: int) -> int:
    width = 1 + _tree(bits, (3, table), value.bit_length() - 1, _SLOT)
    found = 1
    for left in reversed(range(width - 1)):
        near = width - 1 - left <= _TREE
        context = (4, table, width, found) if near else (5, table, width, left)
        found = 2 * found + bits.code(context, value >> left & 1)
    return found


def _repeat(out: bytearray, token: _Token) -> None:
    """Append a repeat, which may reach into itself."""
    start = len(out) - token.distance
    piece = bytes(out[start : start + token.length])
    out += (piece * -(-token.length // len(piece)))[: token.length]


class _Counts:
    """What one end has seen in each context."""

    def __init__(self) -> None:
        self._seen: dict[Context, tuple[int, int]] = {}

    def share(self, context: Context) -> int:
        """Return the share of a 1, of 2**15."""
        ones, seen = self._seen.get(context, (0, 0))
        return 1 + (2 * ones + 1) * (_ONE - 2) // (2 * seen + 2)

    def learn(self, context: Context, bit: int) -> None:
        """Count a bit."""
        ones, seen = self._seen.get(context, (0, 0))
        ones, seen = ones + bit, seen + 1
        if seen == _FULL:
            ones, seen = ones >> 1, seen >> 1
        self._seen[context] = (ones, seen)


class _Writer:
    """Collects bits, which are coded from the last to the first."""

    def __init__(self) -> None:
        self._counts = _Counts()
        self._coded: list[tuple[int, int]] = []  # share, and shares in front

    def code(self, context: Context, bit: int) -> int:
        one = self._counts.share(context)
        self._counts.learn(context, bit)
        self._coded.append((one, 0) if bit else (_ONE - one, one))
        return bit

    def finish(self) -> bytes:
        state, words = LOW, []
        for share, before in reversed(self._coded):
            if state >= share << (2 * WORD - _BITS):
                words.append(state & (LOW - 1))
                state >>= WORD
            state = (state // share << _BITS) + state % share + before
        found = np.array(words[::-1], dtype=_WORD)
        return state.to_bytes(_STATE, "little") + found.tobytes()


class _Reader:
    """Takes bits off a stream that nobody has checked."""

    def __init__(self, data: bytes, field: str) -> None:
        self._field = field
        self._counts = _Counts()
        self._state = int.from_bytes(data[:_STATE], "little")
        if len(data) < _STATE or len(data) % _WORD.itemsize or self._state < LOW:
            detail = "want a state of at least 2**16 and whole words"
            raise PayloadError(Reason.BAD_VALUE, field, detail)
        self._words = iter(np.frombuffer(data[_STATE:], dtype=_WORD).tolist())

    def code(self, context: Context, bit: int) -> int:
        one = self._counts.share(context)
        high, slot = self._state >> _BITS, self._state & (_ONE - 1)
        bit = int(slot < one)
        share, before = (one, 0) if bit else (_ONE - one, one)
        self._state = share * high + slot - before
        if self._state < LOW:
            word = next(self._words, None)
            if word is None:
                raise PayloadError(Reason.BAD_SIZE, self._field, "cut off")
            self._state = self._state << WORD | word
        self._counts.learn(context, bit)
        return bit

    def finish(self) -> None:
        """Refuse what an encoder would not have written behind the last token."""
        if self._state != LOW or next(self._words, None) is not None:
            detail = "its coder does not end where it began"
            raise PayloadError(Reason.BAD_VALUE, self._field, detail)


@lru_cache(maxsize=4)
def _encode(text: bytes) -> bytes:
    writer = _Writer()
    past, at = _Past(), 0
    for token in _tokens(text):
        _code(writer, past, text[at - 1] if at else 0, token)
        past = past.after(token)
        at += token.length
    return writer.finish()


def _tokens(text: bytes) -> Iterator[_Token]:
    """Cut a text into tokens: the best repeat, unless the next place has a better."""
    places: dict[bytes, list[int]] = {}
    at, distance = 0, 1
    gain, token = 0, _NOTHING
    while at < len(text):
        if not token.length:
            gain, token = _best(text, at, places, distance)
        places.setdefault(text[at : at + _KEY], []).append(at)
        later, other = _best(text, at + 1, places, distance) if gain else (0, _NOTHING)
        if not gain or later > gain + _DELAY:
            yield _Token(byte=text[at], distance=0, length=1)
            at, gain, token = at + 1, later, other
            continue
        yield token
        for place in range(at + 1, at + token.length):
            places.setdefault(text[place : place + _KEY], []).append(place)
        at, distance, token = at + token.length, token.distance, _NOTHING


def _best(
    text: bytes, at: int, places: dict[bytes, list[int]], distance: int
) -> tuple[int, _Token]:
    """Return the repeat at a place that saves most, and about how many bits."""
    # The last distance again costs a bit, and the next repeat is likely to be so, too.
    options = [(at - distance, _AGAIN, _SAVED)] if at >= distance else []
    options += [
        (place, _SAVED, _REPEAT + (at - place).bit_length())
        for place in reversed(places.get(text[at : at + _KEY], [])[-_TRIES:])
    ]
    best, token = 0, _NOTHING
    for place, rate, cost in options:
        length = _common(text, place, at)
        saved = rate * length - cost
        if length > 1 and saved > best:
            best = saved
            token = _Token(byte=0, distance=at - place, length=length)
    return best, token


def _common(text: bytes, place: int, at: int) -> int:
    """Return how many bytes from two places on are the same."""
    length = 0
    while at + length < len(text) and text[place + length] == text[at + length]:
        length += 1
    return length
