"""Text from outside, made fit for a terminal, a log and a report."""

import math
import os
from collections.abc import Mapping

LONGEST = 500  # characters of one reason
_LONGEST_PATH = 4096


def printable(text: object, longest: int = LONGEST) -> str:
    r"""Return text as one line of printable characters, cut to a length.

    Control and format characters (line ends, terminal escapes, marks that turn the
    direction of writing, halves of surrogate pairs) are written as Python escapes, so
    that nobody who names a client or a reason can write on the screen of a server.

    Args:
        text: A text, or what ``str`` makes one of; that may fail.
        longest: Most characters returned, >= 1; a cut text ends in an ellipsis.

    >>> printable("no\nsuch \x1b[31mfile")
    'no\\nsuch \\x1b[31mfile'
    >>> printable("abcdef", 4)
    'abc…'
    """
    whole = _as_text(text)
    shown = "".join(map(_shown, whole[: longest + 1]))
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


def told(error: BaseException) -> str:
    """Return one printable line about an error: its class, and what it says.

    >>> told(KeyError("name"))
    "KeyError: 'name'"
    >>> told(ValueError())
    'ValueError'
    """
    text = _as_text(error)
    kind = type(error).__name__
    return printable(f"{kind}: {text}" if text else kind)


def as_json(value: object) -> object:
    """Return a value as JSON knows it.

    NumPy values become lists and numbers, a number that is not finite becomes None,
    because JSON has none, and what JSON has no name for becomes its ``repr``.

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
    # What cannot be written would end a run.
    shown = os.fspath(value) if isinstance(value, os.PathLike) else repr(value)
    return printable(shown, _LONGEST_PATH)


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return str(value)
    except Exception:  # what came from outside may raise anything
        return f"({type(value).__name__} without a text)"


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")
