"""Positions of the entries of a delta: a bit for each, with context modelling.

Rows and columns have classes by their odds of an entry, which are sent.  As an update
is about a sum of outer products, the odds of a position are those of its row times
those of its column over those of its tensor: the *score* adds their logarithms.  The
context of a position is its score and the class of its weight in the base.
"""

from dataclasses import dataclass

import numpy as np

from fedprune.common import native
from fedprune.common.codec.delta.options import CodingFlags
from fedprune.common.codec.delta.side_information import SideInformation
from fedprune.common.codec.entropy.coder import Coder
from fedprune.common.codec.entropy.contexts import (
    DENSITIES,
    EMPTY,
    Class,
    density_classes,
    full_class,
)
from fedprune.common.codec.entropy.models import Model, bit_model
from fedprune.common.codec.entropy.rans import Ints
from fedprune.common.codec.layout import TENSORS, Layout, positions_of
from fedprune.common.errors import PayloadError, Reason
from fedprune.common.spec import Indices, Mask

SCORES = 64  # classes of a position by row and column
_MIDDLE = 8  # score of a row of class 0 in a column of mean class

_FIELD = "delta.positions"


def code_positions(
    coder: Coder,
    flags: CodingFlags,
    side_info: SideInformation,
    count: int,
    sent: Indices | None,
) -> tuple[Indices, Class]:
    """Encode rising positions, or decode them.

    Args:
        coder: Either end.
        flags: Contexts to use.
        side_info: Side information of both ends.
        count: Number of entries.
        sent: int64[count] to write, or None to read.

    Returns:
        The positions, int64[count], strictly rising, and the score of each.
    """
    shape = side_info.layout
    mask = None if sent is None else shape.mask(sent)
    if flags.no_classes:
        any_row = np.ones(len(shape.lengths), dtype=np.uint8)
        scores = np.zeros(shape.size, dtype=np.uint8)
        known = _PositionClasses(rows=any_row, scores=scores, count=count)
        indices = _coded(_code_bits(coder, flags, side_info, known, mask), sent)
        return indices, scores[indices]
    rows, columns = (None, None) if sent is None else classes_of(sent, shape, flags)
    rows = _code_classes(coder, shape.row_tensors, rows)
    if flags.columns:
        columns = _code_classes(coder, shape.column_tensors, columns)
    else:
        columns = np.zeros(0, dtype=np.uint8)
    scores = scores_of(rows, columns, shape)
    known = _PositionClasses(rows=rows, scores=scores, count=count)
    indices = _coded(_code_bits(coder, flags, side_info, known, mask), sent)
    if sent is not None:
        return indices, scores[indices]
    _check_rows(shape.row_counts(indices), rows, shape, flags.resolution)
    if flags.columns:
        _check_columns(indices, columns, shape, flags.resolution)
    return indices, scores[indices]


@dataclass(frozen=True, slots=True, kw_only=True)
class _PositionClasses:
    """Classes and scores that are the contexts of the bits of positions.

    Attributes:
        rows: Class of each row by its share of entries, uint8[rows].
        scores: Score of each position, uint8[size].
        count: Number of entries.
    """

    rows: Class
    scores: Class
    count: int


def classes_of(
    indices: Indices, shape: Layout, flags: CodingFlags
) -> tuple[Class, Class | None]:
    """Return the classes of rows and columns of rising positions."""
    counts = shape.row_counts(indices)
    rows = density_classes(counts, shape.lengths, flags.resolution)
    if not flags.columns:
        return rows, None
    counts = shape.column_counts(indices)
    return rows, density_classes(counts, shape.column_lengths, flags.resolution)


def scores_of(rows: Class, columns: Class, shape: Layout) -> Class:
    """Return the score of each position, uint8[size]: 0 in an empty row or column.

    Else ``row + column - mean column of the tensor + 8``, within 1..63, all classes;
    without columns ``row``.
    """
    kernels = native.kernels()
    if kernels is not None:
        return kernels.scores(shape.table, rows, columns, shape.size)
    out = np.empty(shape.size, dtype=np.uint8)
    at = 0
    for grid in shape.tensor_layouts:
        height = rows[grid.row : grid.row + grid.rows].astype(np.int16)
        part = out[grid.part].reshape(grid.rows, grid.columns, grid.depth)
        if not len(columns):
            part[:] = height.astype(np.uint8)[:, None, None]
            continue
        across = columns[at : at + grid.columns].astype(np.int16)
        at += grid.columns
        filled = across[across != EMPTY]
        mean = int(filled.sum()) // max(len(filled), 1)
        score = np.clip(height[:, None] + (across - mean + _MIDDLE), 1, SCORES - 1)
        score[height == EMPTY] = 0
        score[:, across == EMPTY] = 0
        part[:] = score.astype(np.uint8)[:, :, None]
    return out


def _code_classes(coder: Coder, tensors: Class, classes: Class | None) -> Class:
    return coder.code(Model(DENSITIES, (TENSORS,)), (tensors,), classes)


def _code_bits(
    coder: Coder,
    flags: CodingFlags,
    side_info: SideInformation,
    known: _PositionClasses,
    mask: Mask | None,
) -> Mask:
    """Code a bit for each position of the rows that are neither empty nor full."""
    shape, rows, scores = side_info.layout, known.rows, known.scores
    full = rows == full_class(flags.resolution)
    open_rows = (rows != EMPTY) & ~full
    reference, number = side_info.position_classes(flags)
    model = bit_model((number, SCORES), ones=(known.count, shape.size))
    if np.all(open_rows):
        bits = None if mask is None else mask.view(np.uint8)
        return coder.code(model, (reference, scores), bits).view(np.bool_)
    some = None if reference is None else _gather(reference, shape, open_rows)
    bits = None if mask is None else _gather(mask.view(np.uint8), shape, open_rows)
    contexts = (some, _gather(scores, shape, open_rows))
    return _spread(coder.code(model, contexts, bits), shape, open_rows, full)


def _coded(mask: Mask, sent: Indices | None) -> Indices:
    """Return the positions of a coded mask, which the writer knows."""
    return positions_of(mask) if sent is None else sent


def _gather(values: Class, shape: Layout, rows: Mask) -> Class:
    """Return the values of the chosen rows one after another, uint8[n]."""
    kernels = native.kernels()
    if kernels is not None:
        return kernels.gather_rows(values, shape.bounds, rows)
    found: Class = values[np.repeat(rows, shape.lengths)]
    return found


def _spread(bits: Class, shape: Layout, rows: Mask, full: Mask) -> Mask:
    """Return the mask of bits of the chosen rows; of others the full have ones."""
    kernels = native.kernels()
    if kernels is not None:
        return kernels.spread_rows(bits, shape.bounds, rows, full).view(np.bool_)
    out: Mask = np.repeat(full, shape.lengths)
    out[np.repeat(rows, shape.lengths)] = bits.view(np.bool_)
    return out


def _check_rows(counts: Ints, rows: Class, shape: Layout, resolution: int) -> None:
    """Refuse classes that contradict the mask: equal masks have equal bytes."""
    if not np.array_equal(density_classes(counts, shape.lengths, resolution), rows):
        detail = "the class of a row is not that of its entries"
        raise PayloadError(Reason.BAD_VALUE, _FIELD, detail)


def _check_columns(
    indices: Indices, columns: Class, shape: Layout, resolution: int
) -> None:
    counts = shape.column_counts(indices)
    found = density_classes(counts, shape.column_lengths, resolution)
    if not np.array_equal(found, columns):
        detail = "the class of a column is not that of its entries"
        raise PayloadError(Reason.BAD_VALUE, _FIELD, detail)
