"""The numbers of events, by the names that trackers know them by."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import singledispatch

from fedprune.common.config import Config
from fedprune.server.runs.events import (
    CutChecked,
    CutRolledBack,
    Event,
    MaskChosen,
    NetworkCut,
    NetworkRestarted,
    OfRound,
    PrivacySpent,
    RoundFinished,
)
from fedprune.server.runs.tracking.base import Scalar

# Places on this machine: they say nothing about the run, and a lot about its user.
_PLACES = ("run.dir", "task.data_dir", "prune.latency_table")
_FOLDERS = re.compile(r"(^|:)[~/].*/")
# What MLflow takes in a name; other trackers take more.
_UNUSUAL = re.compile(r"[^A-Za-z0-9_. /-]")
_OF_PLACE = ("run", "round")


def figures_of(event: Event) -> dict[str, float]:
    """Return the finite numbers of an event; none of one that trackers do not take.

    A round's are named as its fields, those of what it decided by a prefix: "cut/",
    "check/", "mask/", "privacy/".  No name or value tells of a single client.
    """
    return {
        name: float(value) for name, value in _numbers(event) if math.isfinite(value)
    }


@singledispatch
def _numbers(_event: Event) -> Iterator[tuple[str, float]]:
    yield from ()


@_numbers.register
def _(event: RoundFinished) -> Iterator[tuple[str, float]]:
    yield from _fields(event, "")


@_numbers.register
def _(event: NetworkCut) -> Iterator[tuple[str, float]]:
    yield from _fields(event, "cut/")
    for group, width in event.widths.items():
        yield f"width/{plain_name(group)}", width


@_numbers.register
def _(event: CutChecked) -> Iterator[tuple[str, float]]:
    yield from _fields(event, "check/")


@_numbers.register
def _(event: CutRolledBack) -> Iterator[tuple[str, float]]:
    yield "cut/rolled_back", event.cycle


@_numbers.register
def _(event: MaskChosen) -> Iterator[tuple[str, float]]:
    yield from _fields(event, "mask/")


@_numbers.register
def _(_event: NetworkRestarted) -> Iterator[tuple[str, float]]:
    yield "restarted", 1.0


@_numbers.register
def _(event: PrivacySpent) -> Iterator[tuple[str, float]]:
    yield from _fields(event, "privacy/")


def _fields(event: OfRound, prefix: str) -> Iterator[tuple[str, float]]:
    for field in fields(event):
        value = getattr(event, field.name)
        if field.name not in _OF_PLACE and _is_number(value):
            yield prefix + field.name, value


def result_of(summary: Mapping[str, object]) -> dict[str, float]:
    """Return the numbers of ``summary.json``, nested ones as "controls/dense/loss"."""
    return {
        plain_name(name): float(value)
        for name, value in _flat(summary, "/")
        if isinstance(value, int | float) and math.isfinite(value)
    }


def settings_of(config: Config) -> dict[str, Scalar]:
    """Return a configuration flat, "task.clients" -> 10, without places of this user.

    >>> settings_of(Config())["task.clients"]
    10
    """
    found = dict(_flat(config.model_dump(mode="json"), "."))
    return {key: _shown(value) for key, value in found.items() if key not in _PLACES}


def without_folders(text: str) -> str:
    """Return a reference to a file of this machine without its folders.

    >>> without_folders("task:/home/me/net.py:Net"), without_folders("hf:a/b")
    ('task:net.py:Net', 'hf:a/b')
    """
    return _FOLDERS.sub(r"\1", text)


def _shown(value: object) -> Scalar:
    if isinstance(value, list):
        return ", ".join(str(_shown(item)) for item in value)
    if value is None:
        return "off"
    if isinstance(value, str):
        return without_folders(value)
    return value if isinstance(value, bool | int | float) else str(value)


def plain_name(name: str) -> str:
    """Return a name of letters, digits and ``_. /-``, 200 characters at most."""
    return _UNUSUAL.sub("-", name)[:200]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _flat(
    values: Mapping[str, object], separator: str, prefix: str = ""
) -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, separator, f"{prefix}{key}{separator}")
        else:
            yield f"{prefix}{key}", value
