"""Settings from Python: nested mappings of plain values, converted to types of TOML."""

from collections.abc import Iterator, Mapping
from pathlib import PurePath

import numpy as np

from fedprune.common.config.explain import Origin, section_of, unknown_key, wanted
from fedprune.common.config.explain import Path as Key
from fedprune.common.errors import ConfigError

PYTHON = "Python settings"
NOT_UTF8 = "its bytes are not UTF-8; a configuration file is UTF-8"

_HOW = 'want "section.key", such as "task.clients", or a mapping for a section'


def read_settings(settings: Mapping[str, object]) -> Iterator[tuple[Key, object]]:
    """Yield each key once, with its value as a type of TOML.

    ``{"task": {"clients": 3}}`` and ``{"task.clients": 3}`` mean the same, and one
    mapping may use both forms.  A mapping for a key that is itself a table
    (``{"prune.budget": {"params": 0.4}}``) is that whole table.  Paths become strings,
    tuples become lists, numpy's numbers become Python's.

    Raises:
        ConfigError: If a key is not a string, is set twice, or has a value of a type
            that no key accepts.
    """
    seen: list[Key] = []
    for key, value in _keys(settings):
        for other in seen:
            shared = min(len(key), len(other))
            if key[:shared] == other[:shared]:
                message = f"{PYTHON}: {_name(min(key, other))}: set twice; want it once"
                raise ConfigError(message)
        seen.append(key)
        yield key, _plain(value, key)


def _keys(settings: Mapping[str, object]) -> Iterator[tuple[Key, object]]:
    """Yield the keys of all sections."""
    for name, value in settings.items():
        key = _parts(name, ())
        if len(key) == 1 and isinstance(value, Mapping):
            for inner, setting in value.items():
                yield _parts(inner, key), setting
        else:
            yield key, value


def _parts(name: object, before: Key) -> Key:
    """Return the parts of a dotted key."""
    if isinstance(name, str):
        parts = tuple(part.strip() for part in str.__str__(name).split("."))
        if all(parts):
            return before + parts
    place = f"{_name(before)}: " if before else ""
    message = f"{PYTHON}: {place}found the key {name!r}, {_HOW}"
    raise ConfigError(message)


def _name(key: Key) -> str:
    return ".".join(key)


def _plain(value: object, key: Key) -> object:
    """Return a value of a type that TOML has."""
    if isinstance(value, Mapping):
        names = [_name(_parts(name, key)[len(key) :]) for name in value]
        return {
            name: _plain(item, (*key, name))
            for name, item in zip(names, value.values(), strict=True)
        }
    if isinstance(value, list | tuple):
        return [_plain(item, key) for item in value]
    return _scalar(str(value) if isinstance(value, PurePath) else value, key)


def _scalar(value: object, key: Key) -> object:
    """Return a scalar as Python's own type: subclasses would not pass as strict."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, str) and is_utf8(value):
        return str.__str__(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value)
    if wanted(key) == "nothing":
        known = section_of(key[:-1]) is not None
        raise unknown_key(Origin(name=PYTHON), key if known else key[:1])
    if isinstance(value, str):
        message = f"{PYTHON}: {_name(key)}: found {value!r}; {NOT_UTF8}"
        raise ConfigError(message)
    advice = "; leave the key out for its default" if value is None else ""
    message = (
        f"{PYTHON}: {_name(key)}: found {type(value).__name__}, want "
        f"{wanted(key)}{advice}"
    )
    raise ConfigError(message)


def is_utf8(text: str) -> bool:
    """Return whether a text can be written to a file: no lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
