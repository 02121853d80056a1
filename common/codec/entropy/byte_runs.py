"""Sections of bytes inside a message, entropy coded if that makes them shorter.

section    bool coded, bin data: the bytes themselves if not coded

The receiver knows the exact size n.  Coded data is shorter; it is uint32 states, one a
lane, then uint16 words, of two runs of symbols of 16: the high four bits of every byte
[part], then the low four [high four, part]; byte i has part i * 16 div n.  There are
max(n div 1024, 8) lanes; blocks and shares are those of ``delta/format.py``.
"""

import numpy as np

from fedprune.common.codec.entropy.coder import (
    Coder,
    Encoder,
    close_stream,
    end_stream,
    open_stream,
)
from fedprune.common.codec.entropy.contexts import Class
from fedprune.common.codec.entropy.models import Model
from fedprune.common.errors import PayloadError, Reason

_NIBBLE, _HALF = 16, 4  # values, and bits, of half a byte
_PARTS = 16
_LANE = 10  # log2 of the bytes of a lane: states are a small part of a stream
_LEAST = 8  # lanes


def encode_section(raw: bytes) -> tuple[bool, bytes]:
    """Return whether the bytes are coded, and the shorter of both forms."""
    writer = Encoder(_lanes(len(raw)))
    _code(writer, _parts(len(raw)), np.frombuffer(raw, dtype=np.uint8))
    found = close_stream(writer)
    return (True, found) if len(found) < len(raw) else (False, raw)


def decode_section(data: bytes, field: str, expected: int, *, coded: bool) -> bytes:
    """Return the ``expected`` bytes of a section; trust nothing in ``data``.

    Args:
        data: The section.
        field: Its name.
        expected: Size of the decoded bytes.
        coded: Whether they are coded.

    Raises:
        PayloadError: If the section has another size, or is not a valid stream.
    """
    if not coded:
        if len(data) != expected:
            detail = f"{len(data)} bytes; want {expected}"
            raise PayloadError(Reason.BAD_SIZE, field, detail)
        return data
    if len(data) >= expected:
        detail = f"{len(data)} coded bytes for {expected}; want fewer"
        raise PayloadError(Reason.BAD_SIZE, field, detail)
    # Refuses a false size before anything of that size is allocated.
    decoder = open_stream(data, _lanes(expected), field)
    try:
        found = _code(decoder, _parts(expected), None)
        end_stream(decoder, field)
    except PayloadError as error:
        detail = "not a stream of its coder"
        raise PayloadError(error.reason, field, detail) from error
    return found.tobytes()


def _parts(size: int) -> Class:
    """Return the part of each byte.

    >>> _parts(3).tolist(), _parts(32)[:5].tolist()
    ([0, 5, 10], [0, 0, 1, 1, 2])
    """
    found: Class = (np.arange(size) * _PARTS // max(size, 1)).astype(np.uint8)
    return found


def _code(coder: Coder, parts: Class, raw: Class | None) -> Class:
    number = int(parts.max(initial=0)) + 1  # more contexts would only cost time
    high = None if raw is None else raw >> np.uint8(_HALF)
    high = coder.code(Model(_NIBBLE, (number,)), (parts,), high)
    low = None if raw is None else raw & np.uint8(_NIBBLE - 1)
    low = coder.code(Model(_NIBBLE, (_NIBBLE, number)), (high, parts), low)
    found: Class = high << np.uint8(_HALF) | low
    return found


def _lanes(size: int) -> int:
    return max(size >> _LANE, _LEAST)
