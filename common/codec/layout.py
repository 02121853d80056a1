"""Rows and columns of a network, as quantisation and entropy coding see them."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedprune.common import native
from fedprune.common.codec.entropy.contexts import Class
from fedprune.common.codec.entropy.rans import Ints
from fedprune.common.spec import Indices, Mask, ModelSpec

Numbers: TypeAlias = NDArray[np.uint32]

TENSORS = 64  # tensors with a number of their own; later ones share the last


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorLayout:
    """One tensor: rows of columns of ``depth`` positions.

    Attributes:
        start: Its first position in the flat vector.
        row: Its first row among all rows.
        rows: Outputs of a weight, 1 of any other tensor.
        columns: Inputs of a weight, 1 of any other tensor.
        depth: Positions of one row and column, such as the taps of a kernel.
    """

    start: int
    row: int
    rows: int
    columns: int
    depth: int

    @property
    def part(self) -> slice:
        """Its positions in the flat vector."""
        return slice(self.start, self.start + self.rows * self.columns * self.depth)


class Layout:
    """Rows and columns of a network in its flat vector of weights.

    Attributes:
        spec: Names and shapes of the tensors.
        size: Number of weights.
        tensor_layouts: Layouts of the tensors that are not empty.
        table: (start, row, rows, columns, depth) of each, int64[n, 5].
        tensors: Start of each tensor, and the end, int64[tensors + 1].
        bounds: Start of each row, and the end, int64[rows + 1].
        lengths: Positions of each row, int64[rows].
        row_tensors: Number of the tensor of each row, uint8[rows].
        column_lengths: Positions of each column, int64[columns].
        column_tensors: Number of the tensor of each column, uint8[columns].
    """

    def __init__(self, spec: ModelSpec) -> None:
        tensor_layouts = []
        start = row = 0
        for tensor in spec.tensors:
            if tensor.size:
                columns = tensor.shape[1] if len(tensor.shape) > 1 else 1
                depth = tensor.size // (tensor.rows * columns)
                tensor_layouts.append(
                    TensorLayout(
                        start=start,
                        row=row,
                        rows=tensor.rows,
                        columns=columns,
                        depth=depth,
                    )
                )
            start, row = start + tensor.size, row + tensor.rows
        self.spec = spec
        self.size = spec.size
        self.tensor_layouts = tuple(tensor_layouts)
        self.table = np.array(
            [(t.start, t.row, t.rows, t.columns, t.depth) for t in tensor_layouts],
            dtype=np.int64,
        ).reshape(-1, 5)
        sizes = np.array([0, *(t.size for t in spec.tensors)], dtype=np.int64)
        self.tensors: Ints = np.cumsum(sizes)
        self.bounds: Ints = row_bounds(spec)
        self.lengths: Ints = np.diff(self.bounds)
        self.row_tensors = _numbered([t.rows for t in spec.tensors])
        self.column_tensors = _numbered([g.columns for g in tensor_layouts])
        deep = [g.rows * g.depth for g in tensor_layouts]
        widths = [g.columns for g in tensor_layouts]
        self.column_lengths: Ints = np.repeat(np.array(deep, dtype=np.int64), widths)

    def mask(self, indices: Indices) -> Mask:
        """Return bool[size], True at these positions."""
        found: Mask = np.zeros(self.size, dtype=np.bool_)
        found[indices] = True
        return found

    def row_counts(self, indices: Indices) -> Ints:
        """Return the number of rising positions in each row, int64[rows]."""
        return np.diff(np.searchsorted(indices, self.bounds))

    def columns_of(self, indices: Indices) -> Numbers:
        """Return the column of each rising position, uint32[n]."""
        kernels = native.kernels()
        if kernels is not None:
            return kernels.columns(self.table, indices)
        found = np.empty(len(indices), dtype=np.uint32)
        before = 0
        for tensor_layout in self.tensor_layouts:
            part = tensor_layout.part
            low, high = np.searchsorted(indices, [part.start, part.stop])
            within = (indices[low:high] - tensor_layout.start) % (
                tensor_layout.columns * tensor_layout.depth
            )
            found[low:high] = before + within // tensor_layout.depth
            before += tensor_layout.columns
        return found

    def column_counts(self, indices: Indices) -> Ints:
        """Return the number of rising positions in each column, int64[columns]."""
        kernels = native.kernels()
        if kernels is not None:
            columns = len(self.column_lengths)
            return kernels.column_counts(self.table, indices, columns)
        found = self.columns_of(indices)
        return np.bincount(found, minlength=len(self.column_lengths))


def positions_of(mask: Mask) -> Indices:
    """Return the positions that are True, int64[n], rising."""
    kernels = native.kernels()
    return np.flatnonzero(mask) if kernels is None else kernels.positions(mask)


def _numbered(counts: list[int]) -> Class:
    numbers = np.minimum(np.arange(len(counts)), TENSORS - 1).astype(np.uint8)
    return np.repeat(numbers, np.array(counts, dtype=np.int64))


def row_bounds(spec: ModelSpec) -> Indices:
    """Return the start of each row, and the end, int64[rows + 1]."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(spec.row_lengths)])


def entries_per_row(indices: Indices, spec: ModelSpec) -> Indices:
    """Return the number of rising positions in each row, int64[rows]."""
    return np.diff(np.searchsorted(indices, row_bounds(spec)))


def tensor_of_row(spec: ModelSpec, row: int) -> str:
    """Return the name of the tensor that row ``row`` belongs to."""
    end = 0
    for tensor in spec.tensors:
        end += tensor.rows
        if row < end:
            return tensor.name
    return "?"
