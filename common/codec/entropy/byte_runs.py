"""Runs of bytes inside a message, coded byte by byte if that makes them shorter.

section    bool coded, bin data: the bytes themselves if not coded

The receiver knows the exact size, and a *part*, 0..63, of each byte: where bytes of a
like kind lie.  Coded data is shorter; it is uint32 states, one a lane, then uint16
words, of two runs of symbols of 16: the high four bits of every byte [part], then the
low four [high four, part].  There are max(size div 1024, 8) lanes; blocks and shares
are those of ``delta_format.py``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedprune.common.codec.entropy.coder import Coder, Writer
from fedprune.common.codec.entropy.contexts import Class
from fedprune.common.codec.entropy.models import SymbolModel
from fedprune.common.codec.entropy.stream import close_stream, end_stream, open_stream
from fedprune.common.errors import PayloadError, Reason

PARTS = 64

_NIBBLE, _HALF = 16, 4  # values, and bits, of half a byte
_EVEN = 16  # parts of bytes of which nothing is known
_LANE = 10  # log2 of the bytes of a lane: no stream is short for its bytes
_LEAST = 8  # lanes


def squeeze(raw: bytes, parts: Class) -> tuple[bool, bytes]:
    """Return whether coding made some bytes shorter, and the shorter ones.

    Args:
        raw: Any bytes.
        parts: Part of each, uint8[len(raw)].
    """
    writer = Writer(_lanes(len(raw)))
    _code(writer, parts, np.frombuffer(raw, dtype=np.uint8))
    found = close_stream(writer)
    return (True, found) if len(found) < len(raw) else (False, raw)


def unsqueeze(
    data: bytes,
    field: str,
    expected: int,
    *,
    coded: bool,
    parts_of: Callable[[int], Class] | None = None,
) -> bytes:
    """Return the ``expected`` bytes of a section; trust nothing in ``data``.

    Args:
        data: The section.
        field: Its name.
        expected: Bytes that it stands for.
        coded: Whether they are coded.
        parts_of: Part of each of so many bytes; None = ``even_parts``.

    Raises:
        PayloadError: If the section holds another number of bytes, or is no stream.
    """
    if not coded:
        if len(data) != expected:
            detail = f"{len(data)} bytes; want {expected}"
            raise PayloadError(Reason.BAD_SIZE, field, detail)
        return data
    if len(data) >= expected:
        detail = f"{len(data)} coded bytes for {expected}; want fewer"
        raise PayloadError(Reason.BAD_SIZE, field, detail)
    # Refuses a size that is a lie before anything of that size is made.
    taker = open_stream(data, _lanes(expected), field)
    try:
        found = _code(taker, (parts_of or even_parts)(expected), None)
        end_stream(taker, field)
    except PayloadError as error:
        detail = "not a stream of its coder"
        raise PayloadError(error.reason, field, detail) from error
    return found.tobytes()


def even_parts(size: int) -> Class:
    """Return parts of bytes of which nothing is known: 16 of them, about equal.

    >>> even_parts(3).tolist(), even_parts(32)[:5].tolist()
    ([0, 5, 10], [0, 0, 1, 1, 2])
    """
    found: Class = (np.arange(size) * _EVEN // max(size, 1)).astype(np.uint8)
    return found


def _code(coder: Coder, parts: Class, raw: Class | None) -> Class:
    number = int(parts.max(initial=0)) + 1  # others would only take time
    high = None if raw is None else raw >> np.uint8(_HALF)
    high = coder.code(SymbolModel(_NIBBLE, (number,)), parts, high)
    contexts = high.astype(np.int64) * number + parts
    low = None if raw is None else raw & np.uint8(_NIBBLE - 1)
    low = coder.code(SymbolModel(_NIBBLE, (_NIBBLE, number)), contexts, low)
    found: Class = high << np.uint8(_HALF) | low
    return found


def _lanes(size: int) -> int:
    return max(size >> _LANE, _LEAST)


def to_planes(values: NDArray[Any]) -> list[bytes]:
    """Return little-endian numbers as planes: all first bytes, all second bytes, ...

    Sign and exponent bytes are alike among themselves, so planes are coded better.
    """
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    planes = little.view(np.uint8).reshape(len(values), little.itemsize).T
    return [plane.tobytes() for plane in planes]


def from_planes(data: bytes, dtype: str) -> NDArray[Any]:
    """Return the numbers whose joined planes these are; ``dtype`` as in "<f4"."""
    width = np.dtype(dtype).itemsize
    planes = np.frombuffer(data, dtype=np.uint8).reshape(width, -1)
    return np.ascontiguousarray(planes.T).view(dtype).reshape(-1)
