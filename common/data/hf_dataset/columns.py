"""Columns of a data set: which are inputs, which is the target, which the client."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from fedprune.common.config import Task as TaskKeys
from fedprune.common.errors import ConfigError
from fedprune.common.text import and_more
from fedprune.common.user_code import did_you_mean

Kind = Literal["image", "text", "number", "class", "list", "array", "other"]

NEXT_TOKEN = "next-token"  # noqa: S105 - a loss

_IMAGES = ("image", "img")
_TEXTS = ("text", "sentence")
_TOKENS = ("input_ids", "attention_mask", "token_type_ids")
_TARGETS = ("label", "labels", "target", "targets")
_OWNERS = ("client_id", "client", "user_id", "user", "speaker_id", "speaker")
_NUMBERS = ("id", "idx", "index", "__index_level_0__", "Unnamed: 0")
_SHOWN = 8
_LIST_KINDS = ("List", "LargeList", "Sequence")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column and the kind of its values.

    Attributes:
        name: Its name.
        kind: "image"; "text" (strings); "number" (also true and false); "class"
            (numbers with names); "list" of one of these; "array" of fixed shape;
            "other" for what is no input (dates, audio).
        dtype: Type of the numbers, of a list those inside, such as "int64"; or "".
        names: Names of the classes, also of those in a list.
    """

    name: str
    kind: Kind
    dtype: str = ""
    names: tuple[str, ...] = ()

    @property
    def integers(self) -> bool:
        """True where the numbers are integers."""
        return self.dtype.startswith(("int", "uint"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The columns that are read.

    Attributes:
        inputs: Columns of the inputs, at least one.
        target: Column of the targets; None where tokens are their own targets.
        owner: Column of the natural clients, or None.
        remarks: One line for each guess.
    """

    inputs: tuple[Column, ...]
    target: Column | None
    owner: Column | None
    remarks: tuple[str, ...]

    @property
    def all(self) -> tuple[Column, ...]:
        """All columns that are read."""
        others = tuple(x for x in (self.target, self.owner) if x is not None)
        return (*self.inputs, *others)


def choose_columns(source: str, features: Mapping[str, Any], keys: TaskKeys) -> Columns:
    """Return the columns that a configuration names; the others are guessed.

    Args:
        source: The data source, for messages.
        features: Name and feature of each column, as the library has them.
        keys: The section ``task`` of the configuration.

    Raises:
        ConfigError: If a column does not exist, or it is not clear which is meant.
    """
    table = _Table(source, columns_in(features))
    remarks: list[str] = []
    target = _target(table, keys, remarks)
    owner = _owner(table, keys, remarks)
    taken = {x.name for x in (target, owner) if x is not None}
    taken |= {keys.partition.column}
    rest = [x for x in table.columns.values() if x.name not in taken]
    if keys.inputs:
        inputs = [table.named(name, "task.inputs") for name in keys.inputs]
    else:
        inputs = _guessed(table, rest, tokenizer=bool(keys.tokenizer))
        names = ", ".join(f"'{x.name}'" for x in inputs)
        plural = "columns" if len(inputs) > 1 else "column"
        remarks.append(f"task.inputs is not set: the inputs are the {plural} {names}")
    doubled = taken & {x.name for x in inputs}
    if doubled:
        msg = f"column '{min(doubled)}' is an input, and also the target or the client "
        msg += "of an example; want another in task.inputs"
        raise ConfigError(msg)
    return Columns(
        inputs=tuple(inputs), target=target, owner=owner, remarks=tuple(remarks)
    )


def columns_in(features: Mapping[str, Any]) -> dict[str, Column]:
    """Return name -> column of a split."""
    return {name: _column(name, feature) for name, feature in features.items()}


@dataclass(frozen=True, slots=True)
class _Table:
    source: str
    columns: dict[str, Column]

    def named(self, name: str, key: str) -> Column:
        """Return a column by its name."""
        if name in self.columns:
            return self.columns[name]
        near = did_you_mean(name, self.columns)
        msg = f"{key} is '{name}', and '{self.source}' has no such column{near}; "
        raise ConfigError(msg + self.listed())

    def listed(self) -> str:
        """Return the names of all columns in words."""
        return f"its columns are {and_more(list(self.columns), _SHOWN)}"

    def first(self, names: Sequence[str]) -> Column | None:
        """Return the first column of some names, whatever their case."""
        found = {name.lower(): x for name, x in reversed(self.columns.items())}
        return next((found[name] for name in names if name in found), None)


def _target(table: _Table, keys: TaskKeys, remarks: list[str]) -> Column | None:
    if keys.target:
        return table.named(keys.target, "task.target")
    if keys.loss == NEXT_TOKEN:
        # A column "labels" of language models is usually not shifted yet.
        remarks.append("task.target is not set: the targets are the tokens that follow")
        return None
    found = table.first(_TARGETS)
    if found is not None and found.name in keys.inputs:
        found = None
    if found is None:
        classes = [x for x in table.columns.values() if x.kind == "class"]
        found = classes[0] if len(classes) == 1 else None
    if found is None:
        msg = f"'{table.source}' has no column named {' or '.join(_TARGETS[:2])}; want "
        msg += f"task.target: the column of the targets; {table.listed()}"
        raise ConfigError(msg)
    remarks.append(f"task.target is not set: the targets are the column '{found.name}'")
    return found


def _owner(table: _Table, keys: TaskKeys, remarks: list[str]) -> Column | None:
    if keys.partition.kind != "natural":
        return None
    if keys.partition.column:
        return table.named(keys.partition.column, "task.partition.column")
    found = table.first(_OWNERS)
    if found is None:
        msg = "task.partition.kind is 'natural': want task.partition.column, the column"
        msg += f" that names the client of an example; {table.listed()}"
        raise ConfigError(msg)
    text = "task.partition.column is not set: the clients are those of the column"
    remarks.append(f"{text} '{found.name}'")
    return found


def _guessed(table: _Table, rest: list[Column], *, tokenizer: bool) -> list[Column]:
    """Return the columns that are probably the inputs."""
    if tokenizer:
        return [_one(table, rest, "text", _TEXTS)]
    images = [x for x in rest if x.kind == "image"]
    if images:
        return [_one(table, rest, "image", _IMAGES)]
    tokens = [x for x in rest if x.name in _TOKENS and x.kind == "list"]
    if tokens:
        return tokens
    named = [x for x in rest if x.name.lower() in _TEXTS and x.kind == "text"]
    if named:  # which needs a tokenizer, as its reader says
        return named[:1]
    single = [x for x in rest if x.kind in ("list", "array")]
    if len(single) == 1:
        return single
    plain = [x for x in rest if x.kind in ("number", "class", "text")]
    plain = [x for x in plain if x.name not in _NUMBERS]
    if not plain or single:
        msg = f"the inputs of '{table.source}' are not clear; want task.inputs, the "
        msg += f"names of their columns; {table.listed()}"
        raise ConfigError(msg)
    return plain


def _one(table: _Table, rest: list[Column], kind: Kind, names: Sequence[str]) -> Column:
    """Return the only column of a kind, or the one with a usual name."""
    found = [x for x in rest if x.kind == kind]
    if len(found) == 1:
        return found[0]
    for name in names:
        for column in found:
            if column.name.lower() == name:
                return column
    count = f"{len(found)} columns" if found else "no column"
    msg = f"'{table.source}' has {count} of {kind}; want task.inputs, the names of "
    msg += f"those that are the inputs; {table.listed()}"
    raise ConfigError(msg)


def _column(name: str, feature: Any) -> Column:  # noqa: ANN401 - of the library
    """Return kind and type of a column from its feature."""
    what = type(feature).__name__
    dtype = str(getattr(feature, "dtype", None) or "")
    if what == "Image" or _is_image(name, feature):
        return Column(name=name, kind="image")
    if what in _LIST_KINDS:
        inner = _column(name, feature.feature)
        single = inner.kind in ("number", "class", "text")
        return replace(inner, kind="list" if single else "other")
    names = tuple(feature.names) if what == "ClassLabel" else ()
    if what == "Value" and "string" in dtype:
        return Column(name=name, kind="text")
    return Column(name=name, kind=_kind(what, dtype), dtype=dtype, names=names)


def _kind(what: str, dtype: str) -> Kind:
    """Return the kind of numbers of a class of features."""
    if what == "ClassLabel":
        return "class"
    if what.startswith("Array"):
        return "array"
    numbers = dtype.startswith(("int", "uint", "float", "bool"))
    return "number" if what == "Value" and numbers else "other"


def _is_image(name: str, feature: Any) -> bool:  # noqa: ANN401 - of the library
    """Return whether a column without the library's mark holds encoded images."""
    if isinstance(feature, dict):
        return {*feature} == {"bytes", "path"}
    binary = "binary" in str(getattr(feature, "dtype", ""))
    return binary and name.lower() in _IMAGES
