"""Text from outside, made printable for a terminal, a log and a report."""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any

LONGEST = 500  # characters of one reason
LONGEST_LINE = 4000  # characters of a line that may hold a path
MAX_LABELS = 1 << 16  # names of classes
MAX_LABEL = 255  # characters of one: the name of a folder
_LONGEST_PATH = 4096
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ")


def printable(text: object, longest: int = LONGEST) -> str:
    r"""Return text as one line of printable characters, cut to a length.

    Control and format characters (line ends, terminal escapes, marks that turn the
    direction of writing, halves of surrogate pairs) are written as Python escapes, so
    that a remote client's name or reason cannot control the terminal of a server.

    Args:
        text: A text, or an object for ``str``, which may fail.
        longest: Most characters returned, >= 1; a cut text ends in an ellipsis.

    >>> printable("no\nsuch \x1b[31mfile")
    'no\\nsuch \\x1b[31mfile'
    >>> printable("abcdef", 4)
    'abc…'
    """
    whole = _as_text(text)
    shown = "".join(map(_shown, whole[: longest + 1]))
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


def one_line(message: object) -> str:
    r"""Return a message as one printable line; its white space becomes single spaces.

    >>> one_line("no such file;\n  want \x1b[31mone")
    'no such file; want \\x1b[31mone'
    """
    return printable(" ".join(_as_text(message).split()), LONGEST_LINE)


def error_line(error: BaseException) -> str:
    """Return one printable line about an error: its class and its message.

    >>> error_line(KeyError("name"))
    "KeyError: 'name'"
    >>> error_line(ValueError())
    'ValueError'
    """
    text = _as_text(error)
    kind = type(error).__name__
    return printable(f"{kind}: {text}" if text else kind)


def first_line(error: BaseException, *, kind: bool = False) -> str:
    r"""Return the first line of an error's message, printable; its class if empty.

    Args:
        error: Any error, of foreign code too.
        kind: Whether its class comes before the message.

    >>> first_line(ValueError("no such layer\nTraceback ..."))
    'no such layer'
    >>> first_line(ValueError("no"), kind=True), first_line(KeyError(), kind=True)
    ('ValueError: no', 'KeyError')
    """
    lines = _as_text(error).strip().splitlines()
    name = type(error).__name__
    if not lines:
        return name
    return printable(f"{name}: {lines[0]}" if kind else lines[0])


def at_time(text: str, when: datetime | None = None) -> str:
    """Return a line of a log: time (UTC, ISO 8601, whole seconds) and text.

    Args:
        text: The rest of the line.
        when: The time, with its zone; None = now.

    >>> at_time("round 1: received", datetime(2026, 11, 29, 22, 56, 44, tzinfo=UTC))
    '2026-11-29T22:56:44Z round 1: received'
    """
    stamp = (when or datetime.now(UTC)).astimezone(UTC)
    return f"{stamp:%Y-%m-%dT%H:%M:%SZ} {text}"


def without_time(line: str) -> str:
    """Return the text of a log line, without its time if it has one.

    >>> without_time("2026-11-29T22:56:44Z round 1"), without_time("error: x")
    ('round 1', 'error: x')
    """
    found = _TIME.match(line)
    return line[found.end() :] if found else line


def say(text: object) -> None:
    """Print a text as one printable line with its time, unbuffered."""
    print(at_time(one_line(text)), flush=True)  # noqa: T201 - the operator's terminal


def label_fault(names: Sequence[str]) -> str:
    """Return the fault of a list of class names, or "".

    >>> label_fault(["cat", "dog"]), label_fault(["cat", "cat"])
    ('', "has the name 'cat' twice; want different names")
    """
    if len(names) > MAX_LABELS:
        return f"has {len(names)} names; want at most {MAX_LABELS}"
    seen = set()
    for name in names:
        if not 1 <= len(name) <= MAX_LABEL or not name.isprintable():
            shown = printable(repr(name), MAX_LABEL)
            return f"has the name {shown}; want 1 to {MAX_LABEL} printable characters"
        if name in seen:
            return f"has the name '{name}' twice; want different names"
        seen.add(name)
    return ""


def and_more(names: Sequence[object], most: int, separator: str = ", ") -> str:
    """Return the first names of a list, and the count of those left out.

    Args:
        names: The names; of none the text is empty.
        most: Most names that are written out, >= 1.
        separator: Text between two names.

    >>> and_more(["a", "b", "c", "d"], 2)
    'a, b and 2 more'
    >>> and_more(["a", "b"], 2)
    'a, b'
    """
    shown = separator.join(map(str, names[:most]))
    more = len(names) - most
    return f"{shown} and {more} more" if more > 0 else shown


def not_installed(who: str, package: str, extra: str) -> str:
    """Return the line about an optional package that is absent.

    >>> not_installed("the hub", "hub_api", "hub")
    "the hub needs 'hub_api', which is not installed; run: pip install 'fedprune[hub]'"
    """
    return (
        f"{who} needs '{package}', which is not installed; "
        f"run: pip install 'fedprune[{extra}]'"
    )


def fit_to_print(value: Any) -> Any:  # noqa: ANN401 - any nest of these
    r"""Return a value with each text in it printable and cut to a length.

    Args:
        value: A text, or mappings, lists, tuples and dataclasses of texts.

    >>> fit_to_print({"a\x1b": ["b\n", 2]})
    {'a\\x1b': ['b\\n', 2]}
    """
    if isinstance(value, str):
        return value if isinstance(value, Enum) else printable(value)
    if isinstance(value, Mapping):
        return {fit_to_print(key): fit_to_print(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(fit_to_print, value))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value,
            **{f.name: fit_to_print(getattr(value, f.name)) for f in fields(value)},
        )
    return value


def as_json(value: object) -> object:
    """Return a value as JSON types.

    NumPy values become lists and numbers, a number that is not finite becomes None,
    because JSON has none, and an object of any other type becomes its ``repr``.

    >>> as_json({"a": (1, float("nan"))})
    {'a': [1, None]}
    """
    if hasattr(value, "tolist"):  # an array or a number of NumPy or torch
        return as_json(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): as_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if value is None or isinstance(value, str | int):
        return value
    # An object that JSON cannot write would end a run.
    shown = os.fspath(value) if isinstance(value, os.PathLike) else repr(value)
    return printable(shown, _LONGEST_PATH)


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return str(value)
    except Exception:  # an object from outside may raise any error
        return f"({type(value).__name__} without a text)"


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")
