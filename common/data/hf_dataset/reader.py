"""The interface of readers: rows of a data set to a batch, and a check of all rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fedprune.common.data.examples import Batch, Targets
from fedprune.common.data.hf_dataset.labels import chunks_of
from fedprune.common.data.optional import optional_module
from fedprune.common.errors import DataError
from fedprune.common.spec import Indices
from fedprune.common.text import and_more

Row = Mapping[str, Any]  # column -> value, as Python has it

_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A split and the rows of it that are used.

    Attributes:
        name: "training" or "test".
        table: The split, of the library.
        rows: Positions, int64[n], rising.
    """

    name: str
    table: Any
    rows: Indices


class Reader(Protocol):
    """Makes batches of rows."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input; () = it is not one tensor of a fixed shape."""

    @property
    def stored(self) -> str:
        """Type of the stored inputs, "uint8" for pixels; "" = as they are used."""

    @property
    def outputs(self) -> int:
        """Entries of the output that the inputs alone ask for; 0 = the targets do."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """One line for each change."""

    def batch(self, rows: Sequence[Row], targets: Targets | None) -> Batch:
        """Return rows as a batch.

        Args:
            rows: Values of the read columns, of each example.
            targets: Their targets, or None where the inputs have them.

        Raises:
            DataError: If a value is not usable.
        """

    def check(self, part: Part) -> tuple[str, ...]:
        """Check the inputs of a part before a run.

        Returns:
            One line for each change.

        Raises:
            DataError: If values are missing or do not fit together.
        """


def as_tensor(targets: Targets | None) -> Tensor:
    """Return targets as a tensor.

    Raises:
        DataError: If there are none.
    """
    if targets is None:
        msg = "the examples have no targets; want task.target, the name of their column"
        raise DataError(msg)
    return torch.from_numpy(targets)


def refuse_missing(source: str, part: Part, column: str) -> None:
    """Refuse a column in which values are missing.

    Raises:
        DataError: With their number and the first rows.
    """
    chunks = chunks_of(part.table, column)
    if not chunks.null_count:
        return
    compute = optional_module("pyarrow.compute", "pyarrow", "hf")
    missing = compute.is_null(chunks).to_numpy()
    rows = part.rows[missing[part.rows]]
    if not len(rows):
        return
    msg = f"'{source}': column '{column}' has no value in {len(rows)} of "
    msg += (
        f"{len(part.rows)} {part.name} examples (rows {and_more(list(rows), _NAMED)})"
    )
    msg += "; fill them or leave them out, or want another task.inputs"
    raise DataError(msg)


def spread(rows: Indices, most: int) -> Indices:
    """Return at most ``most`` rows, evenly spread."""
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
