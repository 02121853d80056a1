"""Checks of message fields: a wrong type or value is refused, naming the field.

Types are compared exactly, because ``True`` is an ``int`` to ``isinstance``.
"""

import sys
from collections.abc import Sequence
from math import isfinite, nextafter
from typing import Any

import numpy as np

from fedprune.common.errors import PayloadError, Reason
from fedprune.common.spec import DIGEST_SIZE, Vector

POSITIVE = sys.float_info.min  # "> 0" as an inclusive bound
BELOW_ONE = nextafter(1.0, 0.0)
LARGEST = sys.float_info.max
_WHOLE = 1 << 53  # integers up to it are exact as float64

MAX_NAME = 128
MAX_ROUND = 2**31 - 1
MAX_STORED = 1 << 31  # bytes of a message in the client store
MAX_COUNT = 2**48  # counts stay exact in float64, also after a few additions

_SHOWN = 60


def shown(value: object) -> str:
    """Return a value from outside as a short, escaped text for a message."""
    if isinstance(value, bytes | str | tuple):
        return f"a {type(value).__name__} of length {len(value)}"
    return repr(value)[:_SHOWN]


def array(value: object, field: str, count: int) -> tuple[Any, ...]:
    """Return a field that is an array of exactly ``count`` items."""
    if type(value) is not tuple:
        raise PayloadError(Reason.BAD_FRAME, field, f"{shown(value)}; want an array")
    if len(value) != count:
        detail = f"{len(value)} items; want {count}"
        raise PayloadError(Reason.BAD_FRAME, field, detail)
    return value


def integer(value: object, field: str, low: int, high: int) -> int:
    """Return a field that is an int in ``low..high``; a bool is not an int here."""
    if type(value) is not int:
        raise PayloadError(Reason.BAD_FRAME, field, f"{shown(value)}; want an int")
    if not low <= value <= high:
        detail = f"{value}; want {low}..{high}"
        raise PayloadError(Reason.BAD_VALUE, field, detail)
    return value


def number(value: object, field: str, low: float, high: float) -> float:
    """Return a field that is a finite float in ``low..high``."""
    if type(value) is not float:
        raise PayloadError(Reason.BAD_FRAME, field, f"{shown(value)}; want a float")
    if not isfinite(value):
        raise PayloadError(Reason.NON_FINITE, field, f"{value}; want a finite number")
    if not low <= value <= high:
        detail = f"{value}; want {low}..{high}"
        raise PayloadError(Reason.BAD_VALUE, field, detail)
    return value


def short_number(value: float) -> int | float:
    """Return a finite number in its only form: whole ones are integers."""
    whole = float(value).is_integer() and abs(value) <= _WHOLE
    return int(value) if whole else float(value)


def read_short(value: object, field: str) -> float:
    """Return a field that ``short_number`` wrote; any finite number."""
    if type(value) is int:
        return float(integer(value, field, -_WHOLE, _WHOLE))
    found = number(value, field, -LARGEST, LARGEST)
    if type(short_number(found)) is int:
        raise PayloadError(Reason.BAD_FRAME, field, f"{found}; want an integer")
    return found


def boolean(value: object, field: str) -> bool:
    """Return a field that is true or false."""
    if type(value) is not bool:
        raise PayloadError(Reason.BAD_FRAME, field, f"{shown(value)}; want a bool")
    return value


def word(value: object, field: str, known: Sequence[str]) -> str:
    """Return a field that is one of the known words."""
    if type(value) is not str:
        raise PayloadError(Reason.BAD_FRAME, field, f"{shown(value)}; want a str")
    if value not in known:
        detail = f"{value[:_SHOWN]!r}; want one of {', '.join(map(repr, known))}"
        raise PayloadError(Reason.UNKNOWN, field, detail)
    return value


def name(value: object, field: str) -> str:
    """Return a field that names a run or a client.

    A name becomes part of paths and log lines, so it has 1..128 printable characters,
    no path separator, and no dot in front.
    """
    if type(value) is not str:
        raise PayloadError(Reason.BAD_FRAME, field, f"{shown(value)}; want a str")
    if not 1 <= len(value) <= MAX_NAME:
        detail = f"{len(value)} characters; want 1..{MAX_NAME}"
        raise PayloadError(Reason.BAD_SIZE, field, detail)
    if not value.isprintable() or value[0] == "." or set(value) & set("/\\"):
        detail = (
            f"{value[:_SHOWN]!r}; want printable characters, no / or \\, no . first"
        )
        raise PayloadError(Reason.BAD_VALUE, field, detail)
    return value


def blob(value: object, field: str, size: int | None = None) -> bytes:
    """Return a field of bytes, of exactly ``size`` bytes if given."""
    if type(value) is not bytes:
        raise PayloadError(Reason.BAD_FRAME, field, f"{shown(value)}; want bytes")
    if size is not None and len(value) != size:
        raise PayloadError(Reason.BAD_SIZE, field, f"{len(value)} bytes; want {size}")
    return value


def digest(value: object, field: str, *, optional: bool = False) -> bytes:
    """Return a field of exactly 16 bytes; or of 0 bytes, if optional."""
    if optional and value == b"" and type(value) is bytes:
        return b""
    return blob(value, field, DIGEST_SIZE)


def floats(value: object, field: str, dtype: str, count: int) -> Vector:
    """Return a field of ``count`` finite little-endian floats as float32[count]."""
    data = blob(value, field, np.dtype(dtype).itemsize * count)
    found = np.frombuffer(data, dtype=dtype).astype(np.float32)
    bad = int(np.count_nonzero(~np.isfinite(found)))
    if bad:
        raise PayloadError(Reason.NON_FINITE, field, f"{bad} values are not finite")
    return found


def at_least_zero(values: Vector, field: str) -> Vector:
    """Return the values; refuse a negative one."""
    bad = int(np.count_nonzero(values < 0))
    if bad:
        raise PayloadError(Reason.BAD_VALUE, field, f"{bad} values are negative")
    return values
