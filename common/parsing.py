"""Parsing of untrusted JSON and TOML: the content, or a ValueError with the reason.

The parsers of the standard library also raise RecursionError, and accept values that
cause errors later: halves of surrogate pairs, which no terminal and no file can encode,
whole numbers too large for a float, and nesting too deep for other code.
"""

import json
import tomllib
from collections.abc import Callable
from typing import Any, TypeAlias

MAX_DEPTH = 64  # containers inside of each other
MAX_TOML = 1 << 18  # characters: a configuration has a few thousand
_LARGEST = 1 << 256  # of a whole number; floats reach 2 ** 1024
SHOWS_KIND = 64  # bytes of a file's start, as ``other_kind`` wants them
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8")
_LENGTH = 8  # bytes of the length of a safetensors header
_SPACES = b"\t\n\r\f"
_MAX_DOTS = 500  # of one line: tomllib takes memory by the square of a key's dots

Pairs: TypeAlias = Callable[[list[tuple[str, Any]]], Any]


def parse_json(data: bytes | str, pairs: Pairs | None = None) -> Any:  # noqa: ANN401 - as json.loads
    r"""Return the content of a JSON text.

    Args:
        data: The text, or its bytes in UTF-8.
        pairs: Makes an object of its names and values, instead of ``dict``.

    Raises:
        ValueError: If it is not JSON, nested too deep, or has a text or a number that
            other code cannot use.

    >>> parse_json(b'{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    >>> parse_json(r'"\ud800"')
    Traceback (most recent call last):
    ValueError: a text holds half of a surrogate pair
    """
    text = data if isinstance(data, str) else data.decode("utf-8-sig")
    try:
        found = json.loads(text, object_pairs_hook=pairs)
    except RecursionError as error:
        raise ValueError(_too_deep()) from error
    _check(found)
    return found


def parse_toml(text: str) -> dict[str, Any]:
    """Return the table of a TOML text.

    Raises:
        ValueError: If it is not TOML, too long, or nested too deep; with the line
            where ``tomllib`` gives one.

    >>> parse_toml("a.b = 1")
    {'a': {'b': 1}}
    """
    if len(text) > MAX_TOML:
        msg = f"{len(text)} characters; want at most {MAX_TOML}"
        raise ValueError(msg)
    for number, line in enumerate(text.split("\n"), start=1):
        if line.count(".") > _MAX_DOTS:
            msg = f"more than {_MAX_DOTS} dots in one line (at line {number}, column 1)"
            raise ValueError(msg)
    try:
        found = tomllib.loads(text)
    except RecursionError as error:
        raise ValueError(_too_deep()) from error
    _check(found)
    return found


def other_kind(name: str, start: bytes) -> str:
    r"""Return the kind of a file that is no safetensors file, or "" where none shows.

    Args:
        name: Name of the file.
        start: Its first bytes; a text shows from 8 on.

    >>> other_kind("notes.txt", b"some words")
    'a text'
    >>> other_kind("net.safetensors", b"\x10\0\0\0\0\0\0\0{}")
    ''
    """
    if start.startswith(_PICTURES):
        return "a picture"
    if name.lower().endswith(".onnx"):
        return "an ONNX model"
    # safetensors begins with a length, the last bytes of it 0; no text has a 0.
    if len(start) < _LENGTH or any(x < ord(" ") and x not in _SPACES for x in start):
        return ""
    return "a text"


def _check(value: object) -> None:
    """Refuse texts and numbers inside of ``value`` that other code cannot use."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inner: list[object] = []
        for item in level:
            if isinstance(item, str):
                _check_text(item)
            elif isinstance(item, int):
                _check_whole(item)
            elif isinstance(item, dict):
                inner += [*item, *item.values()]
            elif isinstance(item, list):
                inner += item
        level = inner
    if level:
        raise ValueError(_too_deep())


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        msg = "a text holds half of a surrogate pair"
        raise ValueError(msg) from error


def _check_whole(number: int) -> None:
    if not -_LARGEST < number < _LARGEST:
        msg = "a whole number of more than 256 bits"
        raise ValueError(msg)


def _too_deep() -> str:
    return f"nested too deep; want at most {MAX_DEPTH} levels"
