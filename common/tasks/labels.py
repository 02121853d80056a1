"""Agreement on the meaning of class numbers: data are renumbered by class names."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch

from fedprune.common.data.examples import (
    ArrayExamples,
    Batch,
    Dataset,
    MappedExamples,
    Targets,
)
from fedprune.common.errors import DataError
from fedprune.common.text import and_more

Part: TypeAlias = ArrayExamples | MappedExamples

_SHOWN = 10  # names in a line


def with_labels(dataset: Dataset, names: Sequence[str], whose: str) -> Dataset:
    """Return a data set whose class numbers are places in a list of class names.

    Where the data name their own classes, each gets the number of its name; a name
    that has no class in the data is a class without examples.  Where they have numbers
    only, the numbers stay and are those of ``names``.

    Args:
        dataset: The data.
        names: Names of the classes, in order, each once.
        whose: Whose names these are, for messages.

    Raises:
        DataError: If the data have a class without a name, or more classes than names.
    """
    own = dataset.label_names
    if own == tuple(names):
        return dataset
    if not own:
        if dataset.num_outputs > len(names):
            msg = f"'{dataset.name}' has {dataset.num_outputs} classes; {whose} has "
            msg += f"{len(names)}: {and_more(names, _SHOWN)}"
            raise DataError(msg)
        return replace(dataset, label_names=tuple(names), num_outputs=len(names))
    places = {name: number for number, name in enumerate(names)}
    unknown = [name for name in own if name not in places]
    if unknown:
        missing = [name for name in names if name not in own]
        msg = f"'{dataset.name}' has the classes {and_more(unknown, _SHOWN)}, which "
        msg += f"{whose} does not have: {and_more(names, _SHOWN)}"
        if missing:
            msg += f"; not in these data: {and_more(missing, _SHOWN)}"
        raise DataError(msg)
    table = np.array([places[name] for name in own], dtype=np.int64)
    renumber = partial(_numbers, table=table, count=len(names))
    return replace(
        dataset,
        train=_renumbered(dataset.train, renumber),
        test=_renumbered(dataset.test, renumber),
        label_names=tuple(names),
        num_outputs=len(names),
    )


def _renumbered(part: Part, renumber: Callable[[Targets], Targets]) -> Part:
    """Return examples with other class numbers; the inputs are shared."""
    if isinstance(part, ArrayExamples):
        return ArrayExamples(
            inputs=part.inputs,
            targets=renumber(part.targets),
            offset=part.offset,
            scale=part.scale,
        )
    collate = part.collate

    def renumbered(items: Sequence[Any]) -> Batch:
        inputs, targets = collate(items)
        return Batch(inputs, torch.from_numpy(renumber(targets.numpy())))

    labels = None if part.labels is None else renumber(part.labels)
    return replace(part, collate=renumbered, labels=labels)


def _numbers(targets: Targets, table: np.ndarray, count: int) -> Targets:
    """Return other class numbers; what is below 0 stays as it is.

    Floats under names of classes are 0 or 1 for each: their columns move.
    """
    if targets.dtype.kind == "f":
        moved = np.zeros((len(targets), count), dtype=np.float32)
        moved[:, table] = targets
        return moved
    found: Targets = np.where(targets < 0, targets, table[np.maximum(targets, 0)])
    return found


def describe_labels(own: Sequence[str], names: Sequence[str]) -> str:
    """Return a line about the class numbers of data under the names of a server.

    Args:
        own: Names of the classes in the data, in their order; () = numbers only.
        names: The server's names; () = it names none.

    Returns:
        The line, or "" where both have the same classes, or neither names any.
    """
    if tuple(own) == tuple(names) or not (own or names):
        return ""
    if not names:
        numbered = [f"{number} {name}" for number, name in enumerate(own)]
        text = "the server names no classes (task.labels), so that the numbers of these"
        return f"{text} data count: {and_more(numbered, _SHOWN)}"
    if not own:
        numbered = [f"{number} {name}" for number, name in enumerate(names)]
        text = "the data name no classes, so that their numbers are the server's"
        return f"{text}: {and_more(numbered, _SHOWN)}"
    places = {name: number for number, name in enumerate(names)}
    moved = [
        f"{name} {number} -> {places[name]}"
        for number, name in enumerate(own)
        if places[name] != number
    ]
    missing = [name for name in names if name not in own]
    parts = []
    if moved:
        parts.append(f"classes get the server's numbers: {and_more(moved, _SHOWN)}")
    if missing:
        parts.append(f"no example of the classes {and_more(missing, _SHOWN)}")
    return "; ".join(parts)
