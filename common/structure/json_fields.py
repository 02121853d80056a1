"""Read fields of untrusted JSON, and the run-length form of unit lists.

A unit list travels as runs ``[start, length, repeat]``: the numbers ``start``,
``start + 1``, ... (``length`` of them), each ``repeat`` times.  A layer of 64 units is
``[[0, 64, 1]]``; the columns of a linear layer after flattening 4 x 4 positions are
``[[0, 64, 16]]``; ten positions that are never cut are ``[[-1, 1, 10]]``.  The runs of
a list are unique, because each run is taken as long as it can be.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fedprune.common.errors import PayloadError, Reason
from fedprune.common.parsing import parse_json

MAX_PATH = 512  # characters of the dotted name of a tensor or a module


def refuse(field: str, detail: str, reason: Reason = Reason.BAD_VALUE) -> PayloadError:
    """Return the error that refuses ``field``."""
    return PayloadError(reason, field, detail)


def load_object(data: bytes, field: str, max_bytes: int) -> dict[str, object]:
    """Return the JSON object in ``data``.

    Raises:
        PayloadError: If it is longer than ``max_bytes`` or not a JSON object.
    """
    if len(data) > max_bytes:
        detail = f"{len(data)} bytes; want at most {max_bytes}"
        raise refuse(field, detail, Reason.TOO_LARGE)
    try:
        found = parse_json(data)
    except ValueError as error:
        raise refuse(field, f"no JSON: {error}", Reason.BAD_FRAME) from error
    if not isinstance(found, dict):
        detail = f"a {type(found).__name__}; want an object"
        raise refuse(field, detail, Reason.BAD_FRAME)
    return found


def read_keys(found: dict[str, object], wanted: frozenset[str], field: str) -> None:
    """Refuse an object whose keys are not exactly ``wanted``."""
    if found.keys() != wanted:
        unknown, missing = sorted(found.keys() - wanted), sorted(wanted - found.keys())
        raise refuse(field, f"unknown keys {unknown}, missing keys {missing}")


def read_int(found: object, field: str, low: int, high: int) -> int:
    """Return ``found`` as an integer in ``low..high``, or refuse it."""
    if type(found) is not int or not low <= found <= high:
        text = repr(found)[:40]
        raise refuse(field, f"found {text}; want an integer in {low}..{high}")
    return found


def read_name(found: object, field: str) -> str:
    """Return ``found`` as a non-empty printable string, or refuse it."""
    fits = isinstance(found, str) and 0 < len(found) <= MAX_PATH
    if not isinstance(found, str) or not fits or not found.isprintable():
        raise refuse(field, f"found {repr(found)[:40]}; want a printable name")
    return found


def read_list(found: object, field: str, length: int | None = None) -> list[object]:
    """Return ``found`` as a list (of ``length`` items, when given), or refuse it."""
    if not isinstance(found, list):
        raise refuse(field, f"a {type(found).__name__}; want a list")
    if length is not None and len(found) != length:
        detail = f"{len(found)} items; want {length}"
        raise refuse(field, detail, Reason.BAD_SIZE)
    return found


def read_positions(found: object, field: str, limit: int) -> tuple[int, ...]:
    """Return ``found`` as strictly rising integers in ``0..limit - 1``."""
    items = read_list(found, field)
    numbers = tuple(read_int(item, field, 0, limit - 1) for item in items)
    if any(a >= b for a, b in pairwise(numbers)):
        raise refuse(field, "the numbers do not rise strictly")
    return numbers


def to_runs(units: NDArray[np.int32]) -> list[list[int]]:
    """Return the runs of a unit list.

    >>> to_runs(np.array([0, 0, 1, 1, 5, 6], dtype=np.int32))
    [[0, 2, 2], [5, 2, 1]]
    """
    if units.size == 0:
        return []
    starts = np.flatnonzero(np.diff(units, prepend=units[0] - 1))
    values = units[starts].tolist()
    repeats = np.diff(starts, append=units.size).tolist()
    runs: list[list[int]] = []
    for value, repeat in zip(values, repeats, strict=True):
        last = runs[-1] if runs else [0, 0, 0]
        if last[2] == repeat and value == last[0] + last[1]:
            last[1] += 1
        else:
            runs.append([value, 1, repeat])
    return runs


def read_runs(found: object, field: str, length: int, units: int) -> NDArray[np.int32]:
    """Return the unit list of ``length`` positions of the runs in ``found``.

    Nothing longer than ``length`` is ever allocated.

    Raises:
        PayloadError: If a run is malformed, a unit is not in ``-1..units - 1``, or
            the runs do not have ``length`` positions.
    """
    parts: list[NDArray[np.int32]] = []
    left = length
    for item in read_list(found, field):
        start, count, repeat = read_list(item, field, 3)
        first = read_int(start, field, -1, units - 1)
        many = read_int(count, field, 1, max(units - first, 1))
        each = read_int(repeat, field, 1, max(left, 1))
        left -= many * each
        if left < 0:
            detail = f"more than the {length} positions of its dimension"
            raise refuse(field, detail, Reason.BAD_SIZE)
        parts.append(np.repeat(np.arange(first, first + many, dtype=np.int32), each))
    if left:
        detail = f"{length - left} positions; want {length}"
        raise refuse(field, detail, Reason.BAD_SIZE)
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)
