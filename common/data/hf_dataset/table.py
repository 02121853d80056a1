"""Columns of numbers and categories as one row of floats, and arrays of one shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedprune.common.data.arrays import PIXEL_OFFSET, PIXEL_SCALE
from fedprune.common.data.examples import Batch, Targets
from fedprune.common.data.hf_dataset.columns import Column
from fedprune.common.data.hf_dataset.labels import chunks_of
from fedprune.common.data.hf_dataset.reader import (
    Part,
    Row,
    as_tensor,
    refuse_missing,
    spread,
)
from fedprune.common.errors import DataError
from fedprune.common.text import and_more, first_line

MOST_CATEGORIES = 256  # of a column of strings; more are a text, or a name of each row

_LARGE = 100.0  # magnitude of a number that slows training down
_SHOWN = 6
_SAMPLED = 1024  # arrays whose shapes are compared before a run


@dataclass(frozen=True, slots=True, kw_only=True)
class NumbersReader:
    """Stacks columns to float32[b, k]; a category is 0 or 1 for each of its names.

    Attributes:
        source: The data source, for messages.
        columns: The columns, in order.
        categories: Names of the categories of each column; () = it is a number.
        remarks: One line for each column of categories.
    """

    source: str
    columns: tuple[Column, ...]
    categories: tuple[tuple[str, ...], ...]
    remarks: tuple[str, ...]
    stored: str = ""
    outputs: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of a row."""
        return (sum(len(names) or 1 for names in self.categories),)

    def batch(self, rows: Sequence[Row], targets: Targets | None) -> Batch:
        """Return rows of floats and their targets."""
        parts = [
            self._part(column, names, [row[column.name] for row in rows])
            for column, names in zip(self.columns, self.categories, strict=True)
        ]
        inputs = np.concatenate(parts, axis=1)
        return Batch(torch.from_numpy(inputs), as_tensor(targets))

    def check(self, part: Part) -> tuple[str, ...]:
        """Refuse missing and infinite numbers; remark large ones."""
        large = []
        unknown = []
        for column, names in zip(self.columns, self.categories, strict=True):
            refuse_missing(self.source, part, column.name)
            if names:
                unknown += self._unknown(part, column, names)
            elif self._largest(part, column.name) > _LARGE:
                large.append(f"'{column.name}'")
        if large:
            text = (
                f"{and_more(large, _SHOWN)}: {part.name} values beyond {_LARGE:g}, as"
            )
            unknown.append(f"{text} stored; networks train better on about -1 to 1")
        return tuple(unknown)

    def _part(
        self, column: Column, names: tuple[str, ...], values: list[Any]
    ) -> NDArray[np.float32]:
        found = np.zeros((len(values), len(names) or 1), dtype=np.float32)
        if not names:
            found[:, 0] = values
            return found
        places = {name: number for number, name in enumerate(names)}
        for row, value in zip(found, values, strict=True):
            place = value if column.kind == "class" else places.get(value, -1)
            if 0 <= place < len(names):
                row[place] = 1.0
        return found

    def _largest(self, part: Part, column: str) -> float:
        """Return the largest magnitude of a column."""
        values = chunks_of(part.table, column).to_numpy()[part.rows]
        numbers = values.astype(np.float64)
        bad = part.rows[~np.isfinite(numbers)]
        if len(bad):
            msg = f"'{self.source}': column '{column}' is not finite in {len(bad)} of "
            msg += f"{len(part.rows)} {part.name} examples, first in row {bad[0]}"
            raise DataError(msg)
        return float(np.abs(numbers).max(initial=0.0))

    def _unknown(self, part: Part, column: Column, names: tuple[str, ...]) -> list[str]:
        if column.kind == "class":
            return []
        texts = chunks_of(part.table, column.name).unique().to_pylist()
        new = sorted({text for text in texts if text is not None} - {*names})
        if not new:
            return []
        text = f"column '{column.name}': {len(new)} categories of the {part.name} part "
        text += f"do not occur in training, and are all zeros: {and_more(new, _SHOWN)}"
        return [text]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayReader:
    """Reads a column of arrays or lists of one shape as float32[b, ...].

    Attributes:
        source: The data source, for messages.
        column: The column.
        shape: Shape of each array.
        stored: "uint8" for pixels, which become -1..1; "" for other numbers.
    """

    source: str
    column: str
    shape: tuple[int, ...]
    stored: str
    outputs: int = 0
    remarks: tuple[str, ...] = ()

    def batch(self, rows: Sequence[Row], targets: Targets | None) -> Batch:
        """Return arrays and their targets."""
        inputs = self._stacked([row[self.column] for row in rows])
        if self.stored:
            inputs = (inputs - np.float32(PIXEL_OFFSET)) * np.float32(PIXEL_SCALE)
        return Batch(torch.from_numpy(inputs), as_tensor(targets))

    def check(self, part: Part) -> tuple[str, ...]:
        """Refuse missing arrays, and other shapes in 1024 arrays, evenly spread."""
        refuse_missing(self.source, part, self.column)
        table = part.table.select_columns([self.column]).with_format("arrow")
        rows = spread(part.rows, _SAMPLED).tolist()
        self._stacked(table[rows].column(self.column).to_pylist())
        return ()

    def _stacked(self, values: list[Any]) -> NDArray[np.float32]:
        what = f"'{self.source}': column '{self.column}'"
        try:
            arrays = np.asarray(values, dtype=np.float32)
        except (ValueError, TypeError) as error:
            lengths = sorted({len(value) for value in values if value is not None})
            msg = f"{what} has arrays of several shapes, with lengths "
            msg += f"{and_more(lengths, _SHOWN)}; want one shape"
            raise DataError(msg) from error
        if arrays.shape[1:] != self.shape:
            msg = (
                f"{what} has an array of shape {list(arrays.shape[1:])}; the first is "
            )
            msg += f"{list(self.shape)}: want one shape"
            raise DataError(msg)
        if not np.isfinite(arrays).all():
            msg = f"{what} has numbers that are not finite"
            raise DataError(msg)
        return arrays


def numbers_reader(
    source: str, columns: tuple[Column, ...], part: Part
) -> NumbersReader:
    """Return the reader of columns of numbers and categories.

    Categories are the names of a column of classes, or the strings of the training
    part, in sorted order.

    Raises:
        DataError: If a column has too many strings to be categories.
    """
    categories: list[tuple[str, ...]] = []
    remarks: list[str] = []
    for column in columns:
        names = column.names
        if column.kind == "text":
            texts = chunks_of(part.table, column.name).unique().to_pylist()
            names = tuple(sorted(text for text in texts if text is not None))
            if len(names) > MOST_CATEGORIES:
                msg = f"'{source}': column '{column.name}' has {len(names)} different "
                msg += "strings: a text wants task.tokenizer = 'file.py:function', and "
                msg += f"categories are at most {MOST_CATEGORIES}; or want another "
                msg += "task.inputs"
                raise DataError(msg)
        categories.append(names)
        if names:
            remarks.append(
                f"column '{column.name}' becomes {len(names)} numbers, 1 for its "
                f"category and else 0: {and_more(list(names), _SHOWN)}"
            )
    return NumbersReader(
        source=source,
        columns=columns,
        categories=tuple(categories),
        remarks=tuple(remarks),
    )


def array_reader(source: str, column: Column, part: Part) -> ArrayReader:
    """Return the reader of a column of arrays; the first sets the shape.

    Raises:
        DataError: If it is missing or no array of numbers.
    """
    refuse_missing(source, part, column.name)
    table = part.table.select_columns([column.name]).with_format("arrow")
    value = table[part.rows[:1].tolist()].column(column.name).to_pylist()[0]
    try:
        shape = np.asarray(value, dtype=np.float32).shape
    except (ValueError, TypeError) as error:
        msg = f"'{source}': column '{column.name}' holds no arrays of numbers: "
        raise DataError(msg + first_line(error)) from error
    return ArrayReader(
        source=source,
        column=column.name,
        shape=shape,
        stored="uint8" if column.dtype == "uint8" else "",
    )
