"""Errors of a configuration: one line with place, key, found and wanted value."""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import UnionType
from typing import Annotated, Literal, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from fedprune.common.config.method_key import MethodKey, NoMethod
from fedprune.common.config.schema import Config, Conflict
from fedprune.common.errors import ConfigError
from fedprune.common.methods.registry import names
from fedprune.common.parsing import parse_toml

Path: TypeAlias = tuple[str, ...]
_WIDTH = 80  # characters of a value that an error shows
_PATTERNS = {  # last part of a key -> its valid texts
    "name": ' of letters, digits, ".", "_", "-", 100 at most',
    "device": ": auto, cpu, cuda, cuda:N or mps",
}
_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_KINDS = {
    int: "an integer",
    float: "a number",
    str: "a string",
    bool: "true or false",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The source of a configuration's values.

    Attributes:
        name: The file, or a name for another source; "" for none.
        text: Its TOML text; "" for none.
        overrides: Key -> the argument that set it, for example "--set run.seed=1".
    """

    name: str = ""
    text: str = ""
    overrides: Mapping[Path, str] = field(default_factory=dict)

    def place(self, path: Path) -> str:
        """Return ``file:line:`` or the argument that set the key, or ""."""
        for end in range(len(path), 0, -1):
            for key, argument in self.overrides.items():
                if key[:end] == path[:end] and (len(key) == end or end == len(path)):
                    return f"{argument}: "
        line = find_line(self.text, path)
        if line:
            return f"{self.name}:{line}: "
        return f"{self.name}: " if self.name else ""


def find_line(text: str, path: Path) -> int:
    """Return the line of the TOML text that sets a key or its nearest table, or 0.

    Of equals the first line wins.  An inline table counts as its one line.
    """
    table: Path = ()
    best, found = 0, 0
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[\[?([^\[\]]+)\]", line)
        if header:
            here = table = _split_key(header.group(1))
        else:
            key = re.match(r"\s*([^=#\[\]{},]+?)\s*=", line)
            if not key:
                continue
            here = table + _split_key(key.group(1))
        shared = min(len(here), len(path))
        if here[:shared] == path[:shared] and shared > best:
            best, found = shared, number
    return found


def _split_key(key: str) -> Path:
    """Return the parts of a dotted TOML key; a broken key is one part."""
    try:
        value: object = parse_toml(f"{key} = 0")
    except ValueError:
        return (key.strip(),)
    parts: list[str] = []
    while isinstance(value, dict) and value:
        name, value = next(iter(value.items()))
        parts.append(name)
    return tuple(parts)


def show(value: object) -> str:
    """Return a value as TOML would write it, cut to a readable length."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(show(item) for item in value) + "]"
    elif isinstance(value, dict):
        pairs = ", ".join(f"{key} = {show(item)}" for key, item in value.items())
        text = "{ " + pairs + " }" if pairs else "{}"
    else:
        text = str(value)
    return text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "..."


def section_of(path: Path) -> type[BaseModel] | None:
    """Return the section at a key, or None when the key is not a section."""
    model: type[BaseModel] = Config
    for name in path:
        info = model.model_fields.get(name)
        kind = info.annotation if info else None
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return None
        model = kind
    return model


def field_at(path: Path) -> FieldInfo | None:
    """Return the declaration of a key, or None when there is no such key."""
    model = section_of(path[:-1]) if path else None
    return model.model_fields.get(path[-1]) if model else None


def takes_list(path: Path) -> bool:
    """Return whether a key's own value is a list."""
    info = field_at(path)
    return info is not None and get_origin(info.annotation) is tuple


def wanted(path: Path) -> str:
    """Return the valid values of a key in words, for example "an integer, >= 1"."""
    model = section_of(path)
    if model:
        return "a table with " + ", ".join(model.model_fields)
    info = field_at(path)
    return _describe(info.annotation, info.metadata) if info else "nothing"


def _describe(kind: object, metadata: Sequence[object]) -> str:
    """Return type and range of an annotation in words."""
    origin, arguments = get_origin(kind), get_args(kind)
    for item in metadata:
        if isinstance(item, MethodKey):
            return item.describe()
    if origin is Literal:
        return "one of " + ", ".join(show(choice) for choice in arguments)
    if origin in {Union, UnionType}:
        return _describe(arguments[0], metadata)
    if origin is Annotated:
        inner: list[object] = []
        for item in arguments[1:]:
            inner.extend(item.metadata if isinstance(item, FieldInfo) else [item])
        return _describe(arguments[0], [*metadata, *inner])
    if origin is tuple:
        entry = _describe(arguments[0], ())
        return "a list of strings" if entry == _KINDS[str] else f"a list, each {entry}"
    words = _KINDS[kind] if isinstance(kind, type) and kind in _KINDS else str(kind)
    limits = [
        f"{sign} {bound}"
        for name, sign in _SIGNS.items()
        for item in metadata
        if (bound := getattr(item, name, None)) is not None
    ]
    return words + (", " + " and ".join(limits) if limits else "")


def suggest(path: Path) -> str:
    """Return a hint: the key that was probably meant, or the keys that exist."""
    model = section_of(path[:-1]) or Config
    prefix = ".".join(path[:-1])
    moved = _same_key_elsewhere(path[-1])
    close = difflib.get_close_matches(path[-1], model.model_fields, n=1)
    if moved and not prefix:  # a whole key says more than a similar section
        return f'did you mean "{moved}"?'
    if close:
        return f'did you mean "{prefix + "." if prefix else ""}{close[0]}"?'
    if moved:
        return f'did you mean "{moved}"?'
    place = f"[{prefix}]" if prefix else "a configuration"
    return f"{place} has " + ", ".join(model.model_fields)


def _same_key_elsewhere(key: str) -> str:
    """Return the first section's key of this name, as "section.key", or ""."""
    for name in Config.model_fields:
        section = section_of((name,))
        if section and key in section.model_fields:
            return f"{name}.{key}"
    return ""


def unknown_key(origin: Origin, path: Path) -> ConfigError:
    """Return the error for a key that does not exist."""
    key = " ".join(".".join(path).split())
    return ConfigError(f"{origin.place(path)}{key}: unknown key; {suggest(path)}")


def explain(error: ValidationError, origin: Origin) -> ConfigError:
    """Return the first failure of a validation as one line."""
    failures = error.errors(include_url=False)
    more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    message = str(_explain_one(failures[0], origin)) + more
    return ConfigError(message)


def _explain_one(failure: ErrorDetails, origin: Origin) -> ConfigError:
    """Return one failure as an error with place, key, found and wanted."""
    cause = failure.get("ctx", {}).get("error")
    if isinstance(cause, Conflict):
        path = tuple(cause.key.split("."))
        return ConfigError(f"{origin.place(path)}{cause.key}: {cause}")
    path = tuple(part for part in failure["loc"] if isinstance(part, str))
    if failure["type"] == "extra_forbidden":
        return unknown_key(origin, path)
    found, want = show(failure["input"]), wanted(path)
    want = _wanted_of(failure, path, want)
    return ConfigError(
        f"{origin.place(path)}{'.'.join(path)}: found {found}, want {want}"
    )


def _wanted_of(failure: ErrorDetails, path: Path, want: str) -> str:
    """Return the valid values in words, completed for the type of failure."""
    cause = failure.get("ctx", {}).get("error")
    if isinstance(cause, NoMethod):
        return want + _meant_method(failure["input"], path)
    added = {
        "finite_number": ", finite",
        "string_pattern_mismatch": _PATTERNS.get(path[-1], ""),
        "string_too_short": ", not empty",
        "literal_error": _meant(failure["input"], path),
    }
    if failure["type"] == "too_long":
        most = failure.get("ctx", {}).get("max_length")
        return f"{want}, {most} at most"
    return want + added.get(failure["type"], "")


def _meant_method(value: object, path: Path) -> str:
    """Return a hint: the method that was probably meant, or ""."""
    info = field_at(path)
    keys = [one for one in info.metadata if isinstance(one, MethodKey)] if info else []
    known = names(keys[0].kind) if keys else ()
    close = difflib.get_close_matches(str(value), known, n=1)
    return f'; did you mean "{close[0]}"?' if close else ""


def _meant(value: object, path: Path) -> str:
    """Return a hint: the choice that was probably meant, or ""."""
    info = field_at(path)
    known = _choices(info.annotation) if info else ()
    choices = {one if isinstance(one, str) else show(one): one for one in known}
    close = difflib.get_close_matches(str(value), choices, n=1)
    if not close:
        return ""
    quotes = "" if isinstance(choices[close[0]], str) else ", without quotes"
    return f"; did you mean {show(choices[close[0]])}{quotes}?"


def _choices(kind: object) -> tuple[object, ...]:
    """Return the values of a ``Literal``, also of the one that a list is made of."""
    arguments = get_args(kind)
    return get_args(arguments[0]) if get_origin(kind) is tuple else arguments
