"""Reading a configuration: file, environment, overrides, sweeps."""

import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from pydantic import ValidationError

from fedprune.common.config.explain import (
    Origin,
    explain,
    section_of,
    show,
    suggest,
    takes_list,
    unknown_key,
    wanted,
)
from fedprune.common.config.explain import Path as Key
from fedprune.common.config.schema import Config
from fedprune.common.config.settings import NOT_UTF8, PYTHON, is_utf8, read_settings
from fedprune.common.errors import ConfigError
from fedprune.common.methods.kinds import KINDS
from fedprune.common.parsing import parse_toml
from fedprune.common.system.paths import as_path

Overrides: TypeAlias = Sequence[str] | Mapping[str, object]
Table: TypeAlias = dict[str, object]
DATA_VARIABLE = "FEDPRUNE_DATA"
_METHODS = tuple(tuple(kind.key.split(".")) for kind in KINDS)
_FILES = (
    *(("task", "use"), ("task", "model"), ("task", "data"), ("task", "data_dir")),
    *(("task", "weights"), ("task", "tokenizer")),
    ("prune", "latency_table"),
    *_METHODS,
)
_FILE = re.compile(
    r"(?P<kind>npz:|folder:|parquet:|hf-dataset:|)(?P<name>[^:]+)(?P<function>:\w+|)$"
)


def load_config(path: Path | str | None = None, overrides: Overrides = ()) -> Config:
    """Read and check a configuration before anything else is loaded.

    Args:
        path: TOML file, or None for the defaults.
        overrides: ``"key=value"`` texts (values as TOML; bare words are strings), or
            a mapping such as ``{"task.clients": 4, "prune": {"floor": 2}}``.  Each
            acts like a line of the file.

    Raises:
        ConfigError: In one line: place, key, the found and the wanted value.
    """
    table, origin = _read(path, overrides)
    for key, values in _lists(table):
        python = origin.overrides.get(key) == PYTHON
        message = (
            f"{origin.place(key)}{'.'.join(key)}: found a list {show(values)}, want "
            f"{wanted(key)}; several values are "
            f"{'several runs: one call for each' if python else 'a sweep: use --sweep'}"
        )
        raise ConfigError(message)
    return _check(table, origin)


def parse_config(text: str, *, source: str = "configuration") -> Config:
    """Read a configuration from its TOML text alone, without the environment.

    Raises:
        ConfigError: As ``load_config``; ``source`` stands for the file.
    """
    return _check(_parse(text, source), Origin(name=source, text=text))


def expand_sweep(
    path: Path | str | None = None, overrides: Overrides = ()
) -> list[tuple[str, Config]]:
    """Read a configuration whose lists stand for several runs: their product.

    A list where a single value is expected (or a list of lists where a list is)
    contains the values of that key for several runs; the last key varies fastest.

    Returns:
        (label, configuration) of each run, the label being "key=value" of the swept
        keys; one run with an empty label when nothing is swept.  ``run.name`` gets
        the label, so that the folders of the runs have different names.

    Raises:
        ConfigError: As ``load_config``, or if a list of values is empty.
    """
    table, origin = _read(path, overrides)
    swept = list(_lists(table))
    for key, values in swept:
        if not values:
            message = (
                f"{origin.place(key)}{'.'.join(key)}: found [], want {wanted(key)}"
            )
            raise ConfigError(message)
    runs: list[tuple[str, Config]] = []
    for choice in itertools.product(*(values for _, values in swept)):
        one, labels = deepcopy(table), []
        for (key, _), value in zip(swept, choice, strict=True):
            _put(one, key, value)
            labels.append(f"{'.'.join(key)}={_plain(value)}")
        label = ",".join(labels)
        config = _check(one, origin)
        runs.append((label, _named(config, label)))
    return runs


def _named(config: Config, label: str) -> Config:
    """Return the configuration with the label of a sweep in ``run.name``."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", label).strip("-")
    name = "-".join(part for part in (config.run.name, slug) if part)[:100]
    run = config.run.model_copy(update={"name": name})
    return config.model_copy(update={"run": run})


def _plain(value: object) -> str:
    """Return a swept value for a label: strings without quotes."""
    return value if isinstance(value, str) else show(value)


def _read(path: Path | str | None, overrides: Overrides) -> tuple[Table, Origin]:
    """Return the raw table of file, overrides and environment, and its origin."""
    origin, table = Origin(), Table()
    if path is not None:
        path = as_path(path, "a configuration")
        text = _read_text(path)
        origin = Origin(name=str(path), text=text)
        table = _parse(text, str(path))
    places: dict[Key, str] = {}
    for key, value, place in _overrides(overrides):
        places[key] = place
        _put(table, key, value)
    task = table.setdefault("task", Table())
    data_dir = os.environ.get(DATA_VARIABLE, "")
    if data_dir and isinstance(task, dict) and not task.get("data_dir"):
        task["data_dir"] = data_dir
        places["task", "data_dir"] = DATA_VARIABLE
    if path is not None:
        _find_files(table, path.parent)
    return table, replace(origin, overrides=places)


def _find_files(table: Table, folder: Path) -> None:
    """Complete, in place, names of files in the folder of the configuration.

    A relative name means the working folder first, as everywhere; a file that is only
    in the configuration's own folder gets that folder as its prefix.
    """
    for *sections, key in _FILES:
        values = _section(table, sections)
        value = values.get(key)
        found = _FILE.match(value) if isinstance(value, str) else None
        if not found:
            continue
        name, path = found["name"], folder / found["name"]
        if (*sections, key) in _METHODS and not name.endswith(".py"):
            continue  # the name of a method, whatever else is called so
        if not Path(name).exists() and path.exists():
            values[key] = f"{found['kind']}{path.resolve()}{found['function']}"


def _section(table: Table, names: Sequence[str]) -> Table:
    """Return an inner table, or an empty one where there is none."""
    for name in names:
        inner = table.get(name)
        table = inner if isinstance(inner, dict) else Table()
    return table


def _read_text(path: Path) -> str:
    """Return the text of a file."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}; {_wanted(path)}"
        raise ConfigError(message) from error
    except UnicodeDecodeError as error:
        message = f"{path}: byte {error.start} is not UTF-8; want a TOML text file"
        raise ConfigError(message) from error


def _wanted(path: Path) -> str:
    """Return what to name instead of a file that cannot be read."""
    if (path / "manifest.json").is_file():
        return f"it is a run: want {path / 'config.toml'}, or --resume {path}"
    if path.is_dir():
        return "want a TOML file in it, such as fedprune.toml"
    return "want a TOML file; fedprune init DIR writes one"


def _parse(text: str, name: str) -> Table:
    """Return the table of a TOML text."""
    try:
        return parse_toml(text)
    except ValueError as error:
        detail = str(error)
        place = re.search(r" \(at line (\d+), column \d+\)", detail)
        line = f":{place.group(1)}" if place else ""
        if place:
            detail = detail.replace(place.group(0), "")
        if detail == "Invalid value":
            detail += '; a text stands in quotes: key = "text"'
        message = f"{name}{line}: not valid TOML: {detail}"
        raise ConfigError(message) from error


def _overrides(overrides: Overrides) -> Iterator[tuple[Key, object, str]]:
    """Yield key, value and origin of each override."""
    if isinstance(overrides, Mapping):
        for key, setting in read_settings(overrides):
            yield key, setting, PYTHON
        return
    for text in overrides:
        if not is_utf8(text):
            message = f"--set {text!r}: {NOT_UTF8}"
            raise ConfigError(message)
        name, equals, value = text.partition("=")
        if not equals:
            message = f'--set {text}: found no "=", want --set key=value'
            raise ConfigError(message)
        yield _key(name, text), _value(value.strip(), text), f"--set {text}"


def _key(name: str, text: str) -> Key:
    """Return the parts of a dotted key."""
    key = tuple(part.strip() for part in name.split("."))
    if len(key) == 1 or not all(key):
        message = (
            f'--set {text}: found the key "{name.strip()}", want section.key; '
            f"{suggest(key)}"
        )
        raise ConfigError(message)
    return key


def _value(value: str, text: str) -> object:
    """Return the value of an override: a TOML value, or a bare word as a string."""
    try:
        table = parse_toml(f"value = {value}")
    except ValueError as error:
        if value[:1] in {"[", "{", '"', "'"}:
            message = f"--set {text}: the value is not valid TOML: {error}"
            raise ConfigError(message) from error
        return value
    return table["value"] if len(table) == 1 else value


def _put(table: Table, key: Key, value: object) -> None:
    """Set a key of nested tables in place; a value that is not a table is replaced."""
    for name in key[:-1]:
        inner = table.get(name)
        if not isinstance(inner, dict):
            inner = table[name] = Table()
        table = inner
    table[key[-1]] = value


def _lists(table: Table, prefix: Key = ()) -> Iterator[tuple[Key, list[object]]]:
    """Yield the keys that have several values where one is expected."""
    for name, value in table.items():
        key = (*prefix, name)
        if isinstance(value, dict):
            yield from _lists(value, key)
        elif isinstance(value, list) and wanted(key) != "nothing":
            nested = bool(value) and all(isinstance(item, list) for item in value)
            if nested or not takes_list(key):
                yield key, value


def _check(table: Table, origin: Origin) -> Config:
    """Return the checked configuration of a raw table.

    Unknown keys are reported first: after a misspelt key other checks may fail on the
    default of the key that was meant.
    """
    for key in _keys(table):
        if section_of(key) is None and wanted(key) == "nothing":
            raise unknown_key(origin, key)
    try:
        return Config.model_validate(table)
    except ValidationError as error:
        raise explain(error, origin) from error


def _keys(table: Table, prefix: Key = ()) -> Iterator[Key]:
    """Yield every key of nested tables, outer ones first."""
    for name, value in table.items():
        key = (*prefix, name)
        yield key
        if isinstance(value, dict) and section_of(key) is not None:
            yield from _keys(value, key)
