"""Training and test part: which splits of a data set they are, and which rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedprune.common.config import Task as TaskKeys
from fedprune.common.data.hf_dataset.columns import Column, Columns, columns_in
from fedprune.common.data.hf_dataset.labels import (
    Coding,
    Labels,
    coding_of,
    read_labels,
)
from fedprune.common.data.hf_dataset.reader import Part
from fedprune.common.errors import DataError
from fedprune.common.seeding import Use, generator

_FOLDS = 5  # as of the sources of one split that are arrays
_TRAIN = "train"
_TEST = "test"
_TESTS = (_TEST, "validation", "valid", "val", "dev")


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A part with its targets.

    Attributes:
        part: The part.
        labels: The targets of its whole split.
    """

    part: Part
    labels: Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Both parts of a data set.

    Attributes:
        train: Training part.
        test: Test part; of the same split where there is one only.
        names: Names of the classes or labels, in order; () = none.
        remarks: One line for each thing that was changed or left out.
    """

    train: Labelled
    test: Labelled
    names: tuple[str, ...]
    remarks: tuple[str, ...]


def training_split(source: str, splits: Mapping[str, Any]) -> str:
    """Return the name of the training split: "train", or the only one.

    Raises:
        DataError: If there is neither, or it has no example.
    """
    if _TRAIN not in splits and len(splits) != 1:
        known = ", ".join(f"'{name}'" for name in splits) or "none"
        msg = f"'{source}' has the splits {known}; want one named 'train', or one alone"
        raise DataError(msg)
    name = _TRAIN if _TRAIN in splits else next(iter(splits))
    if not len(splits[name]):
        msg = f"'{source}': split '{name}' has no example"
        raise DataError(msg)
    return name


def read_parts(
    source: str, splits: Mapping[str, Any], columns: Columns, keys: TaskKeys, fold: int
) -> Parts:
    """Return training and test part with their targets.

    The test part is the split "test" where that has targets; else "validation"; else a
    fifth of the training split, by a fixed seed.  Examples without a target are left
    out.

    Args:
        source: The data source, for messages.
        splits: Name -> split.
        columns: The columns that are read.
        keys: The section ``task`` of the configuration.
        fold: Number of the fifth, counted modulo 5.

    Raises:
        DataError: If no example has a target, or a column differs between splits.
    """
    first = training_split(source, splits)
    remarks: list[str] = []
    tests = [
        name
        for name in _TESTS
        if name in splits
        and name != first
        and _usable(source, columns, splits, (first, name), remarks)
    ]
    tables = [splits[name] for name in (first, *tests)]
    coding = coding_of(source, columns.target, tables, keys)
    remarks += coding.remarks
    read = _Reader(source, splits, coding, keys.outputs)
    train = read.labelled(first, "training", remarks)
    if not len(train.part.rows):
        msg = f"'{source}': no example of split '{first}' has a target"
        raise DataError(msg)
    for name in tests:
        test = read.labelled(name, "test", remarks)
        if len(test.part.rows):
            if name != _TEST:
                remarks.append(f"the test part is the split '{name}'")
            break
        remarks.append(f"split '{name}' has no targets, and is not used")
    else:
        count = len(train.part.rows)
        if count == 1:
            msg = f"'{source}' has one example, and no other for a test; want more"
            raise DataError(msg)
        train, test = _fifth(train, fold)
        remarks.append(
            f"there is no test split: a fixed fifth of '{first}', {len(test.part.rows)}"
            f" of {count} examples, is the test part"
        )
    return Parts(train=train, test=test, names=coding.names, remarks=tuple(remarks))


@dataclass(frozen=True, slots=True)
class _Reader:
    source: str
    splits: Mapping[str, Any]
    coding: Coding
    outputs: int

    def labelled(self, name: str, part: str, remarks: list[str]) -> Labelled:
        """Return a split without the examples that have no target."""
        table = self.splits[name]
        labels = read_labels(self.source, self.coding, table, self.outputs)
        rows = np.flatnonzero(labels.known)
        missing = len(table) - len(rows)
        if missing and len(rows):
            text = f"{missing} of {len(table)} {part} examples have no target, and are"
            remarks.append(f"{text} left out")
        return Labelled(part=Part(name=part, table=table, rows=rows), labels=labels)


def _fifth(train: Labelled, fold: int) -> tuple[Labelled, Labelled]:
    """Return four fifths and one fifth of a part; of fewer than five examples one."""
    part = train.part
    order = generator(0, 0, "hf-dataset", Use.PARTITION).permutation(len(part.rows))
    folds = min(_FOLDS, len(order))
    test = np.sort(np.array_split(order, folds)[fold % folds])
    rest = np.setdiff1d(order, test)
    return tuple(  # type: ignore[return-value]
        Labelled(
            part=Part(name=name, table=part.table, rows=part.rows[chosen]),
            labels=train.labels,
        )
        for name, chosen in (("training", rest), ("test", test))
    )


def _usable(
    source: str,
    columns: Columns,
    splits: Mapping[str, Any],
    names: Sequence[str],
    remarks: list[str],
) -> bool:
    """Return whether a split has examples, and the columns that a test needs."""
    first, name = (columns_in(splits[split].features) for split in names)
    table = splits[names[1]]
    needed = [x for x in (*columns.inputs, columns.target) if x is not None]
    missing = [x.name for x in needed if x.name not in name]
    if not len(table) or missing:
        lacks = f"has no column '{missing[0]}'" if missing else "has no example"
        remarks.append(f"split '{names[1]}' {lacks}, and is not used")
        return False
    for column in needed:
        _check_same(source, names, first[column.name], name[column.name])
    return True


def _check_same(source: str, names: Sequence[str], one: Column, two: Column) -> None:
    if (one.kind, one.names) == (two.kind, two.names):
        return
    msg = f"'{source}': column '{one.name}' is {one.kind} in split '{names[0]}' and "
    msg += f"{two.kind} in '{names[1]}'"
    if one.kind == two.kind:
        msg += ", with other names of classes"
    raise DataError(msg + "; want the same in both")
