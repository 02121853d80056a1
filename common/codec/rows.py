"""Quantisation rows of a model: which row a flat position lies in, and its tensor."""

import numpy as np

from fedprune.common.messages import Indices, ModelSpec


def row_bounds(spec: ModelSpec) -> Indices:
    """Return where each row starts, and at last the size, int64[rows + 1]."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(spec.row_lengths)])


def entries_per_row(indices: Indices, spec: ModelSpec) -> Indices:
    """Return how many of the rising positions lie in each row, int64[rows]."""
    return np.diff(np.searchsorted(indices, row_bounds(spec)))


def tensor_of_row(spec: ModelSpec, row: int) -> str:
    """Return the name of the tensor that row ``row`` belongs to."""
    end = 0
    for tensor in spec.tensors:
        end += tensor.rows
        if row < end:
            return tensor.name
    return "?"
