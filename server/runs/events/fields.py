"""A frozen dataclass from a JSON object, strictly, by the annotations of its fields.

Known are text, whole and finite numbers, any JSON (``object``), ``Literal``, text
enums, ``Annotated`` with bounds (``Within``) and with a value that is left out
(``Usual``), ``X | None``, ``tuple[X, ...]`` and ``Mapping[str, X]``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from enum import Enum
from functools import cache
from math import isfinite
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from fedprune.common.text import as_json, printable
from fedprune.server.runs.events.base import Usual, Within

_SHOWN = 60  # characters of a name or a value that is refused

T = TypeVar("T")
_Read: TypeAlias = Callable[[object, str], Any]  # of a value, and where it stands


class Unfit(Exception):  # noqa: N818 - a value, not a fault of the program
    """The value of a field is not the one wanted."""

    def __init__(self, field: str, found: object, want: str) -> None:
        shown = "nothing" if found is _ABSENT else printable(repr(found), _SHOWN)
        super().__init__(
            f"field '{printable(field, _SHOWN)}': found {shown}; want {want}"
        )


_ABSENT = object()


def read_fields(kind: type[T], record: Mapping[str, object]) -> T:
    """Return the dataclass of a JSON object that has all of its fields and no other.

    A field with a usual value may be left out.

    Raises:
        Unfit: With the first field that is unknown, missing or of another value.
    """
    readers = _readers(kind)  # type: ignore[arg-type]  # mypy: no type[T] is Hashable
    unknown = sorted(record.keys() - readers.keys())
    if unknown:
        raise Unfit(unknown[0], record[unknown[0]], "no such field")
    found = {
        name: read(record.get(name, _ABSENT), name) for name, read in readers.items()
    }
    return kind(**found)


def without_usual(kind: type, record: Mapping[str, object]) -> dict[str, object]:
    """Return a JSON object without the fields that have their usual value."""
    usual = _usual(kind)
    return {
        name: value
        for name, value in record.items()
        if name not in usual or usual[name] != value
    }


@cache
def _usual(kind: Any) -> dict[str, object]:  # noqa: ANN401 - a dataclass
    hints = get_type_hints(kind, include_extras=True)
    return {
        name: note.value
        for name, hint in hints.items()
        for note in getattr(hint, "__metadata__", ())
        if isinstance(note, Usual)
    }


@cache
def _readers(kind: Any) -> dict[str, _Read]:  # noqa: ANN401 - a dataclass
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: _reader(hints[field.name]) for field in fields(kind)}


def _reader(hint: Any) -> _Read:  # noqa: ANN401 - an annotation of any form
    """Return the reader of values of an annotated type.

    Raises:
        TypeError: If no such type is known.
    """
    if hint in _PLAIN:
        return _PLAIN[hint]
    read: _Read | None = None
    if isinstance(hint, type) and issubclass(hint, Enum):
        read = _one_of([member.value for member in hint], hint)
    elif get_origin(hint) is not None:
        read = _composed(get_origin(hint), get_args(hint))
    if read is None:
        msg = f"no event can have a field of type {hint}"
        raise TypeError(msg)
    return read


def _composed(origin: Any, inner: tuple[Any, ...]) -> _Read | None:  # noqa: ANN401
    """Return the reader of values of a compound type, or None of another type."""
    if origin is Literal:
        return _one_of(inner, lambda value: value)
    if origin is Annotated:
        return _noted(_reader(inner[0]), inner[1:])
    if origin in (Union, UnionType) and inner[1:] == (NoneType,):
        return _optional(_reader(inner[0]))
    if origin is tuple and inner[1:] == (...,):
        return _list(_reader(inner[0]))
    if issubclass(origin, Mapping) and inner[0] is str:
        return _mapping(_reader(inner[1]))
    return None


def _noted(read: _Read, notes: tuple[Any, ...]) -> _Read:
    """Return a reader that keeps the notes of an annotation."""
    for note in notes:
        read = _bounded(read, note) if isinstance(note, Within) else _or(read, note)
    return read


def _or(inner: _Read, usual: Usual) -> _Read:
    def read(value: object, field: str) -> object:
        return inner(usual.value if value is _ABSENT else value, field)

    return read


def _text(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise Unfit(field, value, "a text")
    return value


def _whole(value: object, field: str) -> int:
    if type(value) is not int:
        raise Unfit(field, value, "a whole number")
    return value


def _number(value: object, field: str) -> float:
    if type(value) is int:  # below 2 ** 256, or the line would not have been parsed
        return float(value)
    if type(value) is not float or not isfinite(value):
        raise Unfit(field, value, "a finite number")
    return value


def _anything(value: object, field: str) -> object:
    """Return any JSON; a number in it that is not finite becomes None."""
    if value is _ABSENT:
        raise Unfit(field, value, "any JSON")
    return as_json(value)


_PLAIN: dict[object, _Read] = {
    str: _text,
    int: _whole,
    float: _number,
    object: _anything,
}


def _one_of(names: Sequence[object], made: Callable[[Any], Any]) -> _Read:
    want = "one of " + ", ".join(map(repr, names))

    def read(value: object, field: str) -> object:
        if not isinstance(value, str) or value not in names:
            raise Unfit(field, value, want)
        return made(value)

    return read


def _bounded(inner: _Read, within: Within) -> _Read:
    least, most = within.least, within.most
    want = f"at least {least:g}" if most is None else f"{least:g}..{most:g}"

    def read(value: object, field: str) -> object:
        number = inner(value, field)
        if number < least or (most is not None and number > most):
            raise Unfit(field, value, want)
        return number

    return read


def _optional(inner: _Read) -> _Read:
    return lambda value, field: None if value is None else inner(value, field)


def _list(inner: _Read) -> _Read:
    def read(value: object, field: str) -> tuple[object, ...]:
        if not isinstance(value, list):
            raise Unfit(field, value, "a list")
        inside = f"{field}[]"
        return tuple([inner(item, inside) for item in value])

    return read


def _mapping(inner: _Read) -> _Read:
    def read(value: object, field: str) -> dict[str, object]:
        if not isinstance(value, dict):
            raise Unfit(field, value, "an object")
        return {key: inner(item, f"{field}.{key}") for key, item in value.items()}

    return read
