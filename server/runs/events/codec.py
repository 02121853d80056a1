"""Events to JSON lines and back.

::

    log    = header line, event line, ...
    header = {"time": t, "event": "log", "version": 8, "written_by": "fedprune 0.1.0"}
    event  = {"time": t, "event": name of the kind, the fields of the kind}

``time`` is ISO 8601 in UTC.  A field with its usual value is left out.  Read strictly:
an unknown kind, and a field that is unknown, missing, of another type or out of its
range are refused with the file, the line, the field, what was found and what was
wanted.  A change of a kind or of its fields needs a new ``VERSION``; the golden lines
in the tests keep it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from fedprune.common.errors import IntegrityError
from fedprune.common.parsing import parse_json
from fedprune.common.text import as_json, printable
from fedprune.common.version import __version__
from fedprune.server.runs.events.base import Event
from fedprune.server.runs.events.fields import Unfit, read_fields, without_usual
from fedprune.server.runs.events.kinds import (
    KINDS,
    NAMES,
)

VERSION = 8
_FIRST = "fedprune 0.1.0 with events version 1"  # its logs name no version
LONGEST_LINE = 1 << 24  # bytes: a cut of some million units
_SHOWN = 60  # characters of a name that is refused
_HEADER = "log"
_TIME, _KIND = "time", "event"

T = TypeVar("T")
Record: TypeAlias = dict[str, object]


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a log.

    Attributes:
        path: The file.
        line: Number of the line, from 1.
    """

    path: Path
    line: int

    def refusal(self, problem: str) -> IntegrityError:
        """Return the error of a problem in this line."""
        return IntegrityError(f"{self.path}:{self.line}: {problem}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first line of a log.

    Attributes:
        version: Version of the events format.
        written_by: The program that began the log.
    """

    version: int
    written_by: str


def encode_header() -> bytes:
    """Return the first line of a new log."""
    header = Header(version=VERSION, written_by=f"fedprune {__version__}")
    return _line(_HEADER, asdict(header))


def encode_event(event: Event) -> tuple[bytes, Event]:
    """Return the line of an event, and the event as it is read back.

    Numbers of NumPy become plain ones; a number that is not finite becomes None.

    Raises:
        ValueError: If a field cannot be written: not what its annotation says.
    """
    name = NAMES[type(event)]
    record = {f.name: as_json(getattr(event, f.name)) for f in fields(event)}
    try:
        heard = read_fields(type(event), record)
    except Unfit as error:
        msg = f"a '{name}' event cannot be written: {error}"
        raise ValueError(msg) from error
    return _line(name, without_usual(type(event), record)), heard


def parse_line(line: bytes) -> Record | None:
    """Return the JSON object of a line that names a kind; None of any other line.

    A line that is too long, or says a field twice, is none.
    """
    try:
        value = parse_json(line, _once) if len(line) <= LONGEST_LINE else None
    except ValueError:
        return None
    named = isinstance(value, dict) and isinstance(value.get(_KIND), str)
    return value if named else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of some pairs, none of which may come twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        msg = "a field comes twice"
        raise ValueError(msg)
    return found


def check_header(record: Record, place: Place) -> None:
    """Refuse a log of another version.

    Args:
        record: The object of its first line.
        place: That line.

    Raises:
        IntegrityError: In one line with the version found and the version wanted.
    """
    version = record.get("version")
    found = ""
    if record[_KIND] != _HEADER or type(version) is not int:
        found = _FIRST
    elif version != VERSION:
        writer = printable(record.get("written_by", "another program"), _SHOWN)
        found = f"{writer} with events version {version}"
    if found:
        msg = f"{place.path}: written by {found}; this version reads {VERSION}: use"
        msg += " that version to read or resume it"
        raise IntegrityError(msg)
    _checked(Header, record, place)


def decode_event(record: Record, place: Place) -> Event:
    """Return the event of a line's JSON object.

    Raises:
        IntegrityError: If it is not an event of this version.
    """
    kind = KINDS.get(str(record[_KIND]))
    if kind is None:
        problem = f"found an event '{printable(record[_KIND], _SHOWN)}'; want one of "
        raise place.refusal(problem + ", ".join(sorted(KINDS)))
    return _checked(kind, record, place)


def _line(name: str, record: Mapping[str, object]) -> bytes:
    now = datetime.now(UTC).replace(tzinfo=None)
    time = f"{now.isoformat(timespec='milliseconds')}Z"
    text = json.dumps(
        {_TIME: time, _KIND: name, **record},
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    )
    # Half of a surrogate pair has no bytes, and as an escape it would not be read back.
    return f"{text}\n".encode(errors="replace")


def _checked(kind: type[T], record: Record, place: Place) -> T:
    """Return the fields of a line beside its time and its kind."""
    inner = {key: item for key, item in record.items() if key not in (_TIME, _KIND)}
    try:
        _check_time(record.get(_TIME))
        return read_fields(kind, inner)
    except Unfit as error:
        problem = f"'{record[_KIND]}' event, {error}"
        raise place.refusal(problem) from error


def _check_time(value: object) -> None:
    try:
        offset = datetime.fromisoformat(str(value)).utcoffset()
    except ValueError:
        offset = None
    if offset != timedelta(0):
        raise Unfit(_TIME, value, "ISO 8601 in UTC")
