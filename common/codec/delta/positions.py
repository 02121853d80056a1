"""Positions of the entries of a delta: a bit for each, with context modelling.

Rows and columns have classes by their odds of an entry, which are sent.  As an update
is about a sum of outer products, the odds of a position are those of its row times
those of its column over those of its tensor: the *score* adds their logarithms.  The
context of a position is its score and the class of its weight in the base.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

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
_NO_COLUMNS: Class = np.zeros(0, dtype=np.uint8)

_FIELD = "delta.positions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """Rising positions, as a mask and counted.

    Attributes:
        indices: int64[count].
        mask: bool[size].
        rows: Number in each row, int64[rows].
        columns: Number in each column, int64[columns].
    """

    indices: Indices
    mask: Mask
    rows: Ints
    columns: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Positions under some flags, as a writer knows them.

    Attributes:
        marked: The positions.
        rows: Class of each row by its share of entries, uint8[rows].
        columns: Class of each column, uint8[columns]; empty without.
        scores: Score of each position of the network, uint8[size].
    """

    marked: Marked
    rows: Class
    columns: Class
    scores: Class


def mark(indices: Indices, shape: Layout) -> Marked:
    """Return rising positions as a mask and counted."""
    return Marked(
        indices=indices,
        mask=shape.mask(indices),
        rows=shape.row_counts(indices),
        columns=shape.column_counts(indices),
    )


def places_of(marked: Marked, shape: Layout, flags: CodingFlags) -> Places:
    """Return positions under these flags."""
    rows, columns = _any_row(shape), _NO_COLUMNS
    if not flags.no_classes:
        rows = density_classes(marked.rows, shape.lengths, flags.resolution)
    if flags.columns:
        lengths = shape.column_lengths
        columns = density_classes(marked.columns, lengths, flags.resolution)
    scores = _scores(flags, rows, columns, shape)
    return Places(marked=marked, rows=rows, columns=columns, scores=scores)


def code_positions(
    coder: Coder,
    flags: CodingFlags,
    side_info: SideInformation,
    count: int,
    sent: Places | None,
) -> tuple[Indices, Class]:
    """Encode rising positions, or decode them.

    Args:
        coder: Either end.
        flags: Contexts to use.
        side_info: Side information of both ends.
        count: Number of entries.
        sent: The positions under these flags to write, or None to read.

    Returns:
        The positions, int64[count], strictly rising, and the score of each position of
        the network, uint8[size].
    """
    shape = side_info.layout
    rows, columns = (None, None) if sent is None else (sent.rows, sent.columns)
    if flags.no_classes:
        rows = _any_row(shape)
    else:
        rows = _code_classes(coder, shape.row_tensors, rows)
    if flags.columns:
        columns = _code_classes(coder, shape.column_tensors, columns)
    else:
        columns = _NO_COLUMNS
    if sent is not None and rows is sent.rows and columns is sent.columns:
        scores = sent.scores
    else:
        scores = _scores(flags, rows, columns, shape)
    contexts = _Contexts(rows=rows, scores=scores, count=count)
    indices = _code_bits(coder, flags, side_info, contexts, sent)
    if sent is not None:
        return indices, scores
    if not flags.no_classes:
        _check_rows(shape.row_counts(indices), rows, shape, flags.resolution)
    if flags.columns:
        _check_columns(indices, columns, shape, flags.resolution)
    return indices, scores


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contexts:
    """Contexts of the bits of positions.

    Attributes:
        rows: Class of each row by its share of entries, uint8[rows].
        scores: Score of each position, uint8[size].
        count: Number of entries.
    """

    rows: Class
    scores: Class
    count: int


def _any_row(shape: Layout) -> Class:
    """Return the classes of rows that have none: neither empty nor full."""
    return np.ones(len(shape.lengths), dtype=np.uint8)


def _scores(flags: CodingFlags, rows: Class, columns: Class, shape: Layout) -> Class:
    if flags.no_classes:
        return np.zeros(shape.size, dtype=np.uint8)
    return scores_of(rows, columns, shape)


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
    contexts: _Contexts,
    sent: Places | None,
) -> Indices:
    """Code a bit for each position of the rows that are neither empty nor full."""
    shape, rows = side_info.layout, contexts.rows
    full = rows == full_class(flags.resolution)
    some = (rows != EMPTY) & ~full
    reference, number = side_info.position_classes(flags)
    if reference is not None:
        reference = _gather(reference, shape, some)
    model = bit_model((number, SCORES), ones=(contexts.count, shape.size))
    scores = _gather(contexts.scores, shape, some)
    bits = None
    if sent is not None:
        bits = _gather(sent.marked.mask.view(np.uint8), shape, some)
    bits = coder.code(model, (reference, scores), bits)
    return _coded(partial(_spread, bits, shape, some, full), sent)


def _coded(mask: Callable[[], Mask], sent: Places | None) -> Indices:
    """Return the positions of a coded mask, which the writer knows."""
    return positions_of(mask()) if sent is None else sent.marked.indices


def _gather(values: Class, shape: Layout, rows: Mask) -> Class:
    """Return the values of the chosen rows one after another, uint8[n]."""
    if np.all(rows):
        return values
    kernels = native.kernels()
    if kernels is not None:
        return kernels.gather_rows(values, shape.bounds, rows)
    found: Class = values[np.repeat(rows, shape.lengths)]
    return found


def _spread(bits: Class, shape: Layout, rows: Mask, full: Mask) -> Mask:
    """Return the mask of bits of the chosen rows; of others the full have ones."""
    if np.all(rows):
        return bits.view(np.bool_)
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
