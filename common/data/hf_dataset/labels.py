"""Targets of all examples: one column, read whole and made to classes or values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedprune.common.config import Task as TaskKeys
from fedprune.common.data.examples import Targets
from fedprune.common.data.hf_dataset.columns import NEXT_TOKEN, Column
from fedprune.common.data.optional import optional_module
from fedprune.common.errors import DataError
from fedprune.common.text import and_more
from fedprune.common.user_code import did_you_mean

_NONE = -1  # class of an example without a label, as on the Hub
_SHOWN = 8
_TAKEN = {"bce": ("list",), "mse": ("number", "list")}  # kinds of columns by loss
_MOST = 1 << 16  # classes; more are a text or a number of each example


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The targets of one split.

    Attributes:
        values: Classes int64[m], values float32[m, k], or None where a batch makes its
            own targets.
        known: Examples that have a target, bool[m].
    """

    values: Targets | None
    known: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coding:
    """Rule by which a column becomes targets, alike for all splits.

    Attributes:
        column: The column; None = a batch makes its own targets.
        form: "classes", "values" or "sets" (0 or 1 for each name).
        names: Names of the classes or labels, in order; () = none.
        remarks: One line for each change.
    """

    column: Column | None
    form: str = "classes"
    names: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def coding_of(
    source: str, column: Column | None, tables: Sequence[Any], keys: TaskKeys
) -> Coding:
    """Return how a column becomes targets.

    Strings become classes in sorted order, or in that of ``task.labels``.

    Args:
        source: The data source, for messages.
        column: The column, or None.
        tables: The splits, whose strings get numbers.
        keys: The section ``task`` of the configuration.

    Raises:
        DataError: If the column holds nothing that the loss takes.
    """
    if column is None or (column.kind == "list" and keys.loss == NEXT_TOKEN):
        return Coding(column=None)
    listed = column.kind == "list"
    allowed = _TAKEN.get(keys.loss, ("number", "class", "text"))
    if column.kind not in allowed or (keys.loss == "mse" and column.names):
        raise DataError(_wrong(source, column, keys.loss))
    strings = column.kind == "text" or (listed and not column.dtype)
    if keys.loss == "mse":
        return Coding(column=column, form="values")
    if strings:
        names = _names(source, column, tables, keys.labels)
        form, what = ("sets", "labels") if listed else ("classes", "classes")
        order = "the order of task.labels" if keys.labels else "sorted order"
        text = f"the {len(names)} strings of column '{column.name}' are the {what} 0 to"
        text += f" {len(names) - 1}, in {order}: {and_more(list(names), _SHOWN)}"
        return Coding(column=column, form=form, names=names, remarks=(text,))
    if listed:
        return Coding(column=column, form="sets", names=column.names)
    whole = column.names or column.integers or column.dtype == "bool"
    return Coding(
        column=column, form="classes" if whole else "values", names=column.names
    )


def read_labels(source: str, coding: Coding, table: Any, outputs: int) -> Labels:  # noqa: ANN401
    """Return the targets of a split.

    Args:
        source: The data source, for messages.
        coding: How the column becomes targets.
        table: The split.
        outputs: As ``task.outputs``: number of labels of a set without names; 0 = the
            greatest number + 1.

    Raises:
        DataError: If lists differ in length, or a string has no class.
    """
    column = coding.column
    if column is None:
        return Labels(values=None, known=np.ones(len(table), dtype=np.bool_))
    read: dict[str, Callable[[], Labels]] = {
        "classes": lambda: _classes(source, coding, table),
        "values": lambda: _values(source, column, table),
        "sets": lambda: _sets(source, coding, table, outputs),
    }
    return read[coding.form]()


def column_of(table: Any, name: str) -> Any:  # noqa: ANN401 - of pyarrow
    """Return one column of a split as an array of pyarrow; no other is read."""
    return chunks_of(table, name).combine_chunks()


def chunks_of(table: Any, name: str) -> Any:  # noqa: ANN401 - of pyarrow
    """Return one column of a split as it lies in the mapped files."""
    return table.select_columns([name]).with_format("arrow")[:].column(name)


def _classes(source: str, coding: Coding, table: Any) -> Labels:  # noqa: ANN401
    assert coding.column is not None  # noqa: S101 - its form needs one
    found = column_of(table, coding.column.name)
    if coding.column.kind == "text":
        numbers = _numbered(source, coding, found)
        return Labels(values=numbers, known=_valid(found))
    whole = _filled(found, _NONE).astype(np.int64)
    known = _valid(found)
    # A plain column of -1 and 1 is another thing than one of -1 alone.
    if coding.names or (whole == _NONE).all():
        known &= whole != _NONE
    if coding.names and whole.size and whole.max() >= len(coding.names):
        msg = f"'{source}': class {whole.max()} in column '{coding.column.name}', which"
        msg += f" names {len(coding.names)} classes"
        raise DataError(msg)
    return Labels(values=whole, known=known)


def _values(source: str, column: Column, table: Any) -> Labels:  # noqa: ANN401
    found = column_of(table, column.name)
    known = _valid(found)
    if column.kind == "number":
        values = _filled(found, np.nan).astype(np.float32)[:, None]
    else:
        values = _rows(source, column, found, known)
    known = known & ~np.isnan(values).any(axis=1)
    return Labels(values=values, known=known)


def _sets(source: str, coding: Coding, table: Any, outputs: int) -> Labels:  # noqa: ANN401
    """Return 0 or 1 for each label: of lists of labels, or of rows of 0 and 1."""
    column = coding.column
    assert column is not None  # noqa: S101 - its form needs one
    found = column_of(table, column.name)
    known, lengths = _valid(found), lengths_of(found)
    items = found.flatten()
    if not column.names and not coding.names:
        numbers = items.to_numpy(zero_copy_only=False)
        equal = len({*lengths[known].tolist()}) == 1
        if equal and np.isin(numbers, (0, 1)).all():
            return Labels(values=_rows(source, column, found, known), known=known)
        if not column.integers:
            raise DataError(_wrong(source, column, "bce"))
    numbers = (
        _numbered(source, coding, items)
        if not column.dtype
        else items.to_numpy(zero_copy_only=False).astype(np.int64)
    )
    width = len(coding.names) or outputs or int(numbers.max(initial=0)) + 1
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < width:
        msg = f"'{source}': the labels in column '{column.name}' run from "
        msg += f"{numbers.min()} to {numbers.max()}; want 0 to {width - 1}"
        raise DataError(msg)
    values = np.zeros((len(found), width), dtype=np.float32)
    values[np.repeat(np.arange(len(found)), lengths), numbers] = 1.0
    return Labels(values=values, known=known)


def _rows(
    source: str,
    column: Column,
    found: Any,  # noqa: ANN401 - of pyarrow
    known: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Return lists of equal length as rows; zeros where there is none."""
    lengths = lengths_of(found)
    widths, counts = np.unique(lengths[known], return_counts=True)
    if len(widths) != 1 or widths[0] == 0:
        each = [f"{w} ({n} times)" for w, n in zip(widths, counts, strict=True)]
        msg = f"'{source}': the lists of column '{column.name}' have the lengths "
        msg += f"{and_more(each, _SHOWN)}; want one length, at least 1"
        raise DataError(msg)
    values = np.zeros((len(found), int(widths[0])), dtype=np.float32)
    flat = found.take(np.flatnonzero(known)).flatten().to_numpy(zero_copy_only=False)
    values[known] = flat.reshape(-1, int(widths[0]))
    return values


def _names(
    source: str, column: Column, tables: Sequence[Any], given: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the names of the classes of a column of strings."""
    found: set[str] = set()
    for table in tables:
        array = column_of(table, column.name)
        items = array.flatten() if column.kind == "list" else array
        found |= {text for text in items.unique().to_pylist() if text is not None}
    if given:
        unknown = sorted(found - {*given})
        if unknown:
            near = did_you_mean(unknown[0], given)
            msg = f"'{source}': column '{column.name}' has '{unknown[0]}', which is not"
            msg += f" in task.labels{near}; want all its strings there"
            raise DataError(msg)
        return given
    if not 0 < len(found) <= _MOST:
        msg = f"'{source}': column '{column.name}' has {len(found)} different strings;"
        msg += " want classes"
        raise DataError(msg)
    return tuple(sorted(found))


def _numbered(source: str, coding: Coding, found: Any) -> NDArray[np.int64]:  # noqa: ANN401
    """Return strings as the positions of their names; -1 where there is none."""
    pyarrow = optional_module("pyarrow", "pyarrow", "hf")
    compute = optional_module("pyarrow.compute", "pyarrow", "hf")
    names = pyarrow.array(coding.names, type=found.type)
    return _filled(compute.index_in(found, value_set=names), _NONE).astype(np.int64)


def _filled(found: Any, missing: float) -> NDArray[Any]:  # noqa: ANN401 - of pyarrow
    """Return numbers or truth values, with a number for those that are missing."""
    numbers = found.cast("int8") if str(found.type) == "bool" else found
    if not np.isnan(missing):  # which pyarrow writes for missing numbers anyway
        numbers = numbers.fill_null(missing)
    array: NDArray[Any] = numbers.to_numpy(zero_copy_only=False)
    return array


def _valid(found: Any) -> NDArray[np.bool_]:  # noqa: ANN401 - of pyarrow
    array: NDArray[np.bool_] = found.is_valid().to_numpy(zero_copy_only=False)
    return array.copy()


def lengths_of(found: Any) -> NDArray[np.int64]:  # noqa: ANN401 - of pyarrow
    """Return the length of each list of a column, int64[m]; 0 where there is none."""
    compute = optional_module("pyarrow.compute", "pyarrow", "hf")
    return _filled(compute.list_value_length(found), 0).astype(np.int64)


def _wrong(source: str, column: Column, loss: str) -> str:
    what = {
        "image": "images",
        "list": f"lists of {column.dtype or 'strings'}",
        "array": "arrays",
        "text": "strings",
        "class": "classes",
        "number": "single numbers",
    }.get(column.kind, "no numbers or strings")
    wanted = {
        "bce": "a list of labels for each example",
        "mse": "numbers",
        "cross-entropy": "classes or strings",
    }.get(loss, "targets of a task of your own (task.use)")
    msg = f"'{source}': column '{column.name}' holds {what}, and task.loss = '{loss}' "
    return msg + f"takes {wanted}; want another task.target or task.loss"
