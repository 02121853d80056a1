"""Where a delta has entries: a bit for each place, in the contexts that both ends hold.

Rows and columns have classes by their share of entries, which travel; inside, a bit is
told by the classes of its row and column, of the weight, and of what the weight would
be if it moved on as in the round before.
"""

import numpy as np
from numpy.typing import NDArray

from common.codec.adaptive import Model
from common.codec.classes import (
    COARSE,
    DENSITIES,
    EMPTY,
    FLOATS,
    FULL,
    Class,
    density_classes,
    float_classes,
)
from common.codec.coder import Coder
from common.codec.rans import Ints
from common.codec.recipe import Known, Recipe
from common.codec.shape import TENSORS, Shape
from common.errors import PayloadError, Reason
from common.messages import Indices, Mask, Vector

_FIELD = "delta.positions"
_QUARTERS = 21  # bits cut off a float, so that quarters of an octave are left
_HALVES = 22
_COLUMN_GRAIN = 2
_NO_CLASSES: Class = np.zeros(0, dtype=np.uint8)


def code_places(
    coder: Coder, recipe: Recipe, known: Known, count: int, mask: Mask | None
) -> Indices:
    """Write the positions of a mask, or read them.

    Args:
        coder: Either end.
        recipe: Contexts to use.
        known: What both ends hold.
        count: Number of entries.
        mask: bool[size] to write, or None to read.

    Returns:
        The positions, int64[count], strictly rising.
    """
    shape, grain = known.shape, 1 << recipe.row_grain
    rows, columns = None, None
    if mask is not None:
        counts = shape.row_counts(np.flatnonzero(mask))
        rows = density_classes(counts, shape.lengths, grain)
        columns = density_classes(
            shape.column_counts(mask), shape.column_lengths, _COLUMN_GRAIN
        )
    rows = _code_classes(coder, shape.row_tensors, rows)
    columns = (
        _code_classes(coder, shape.column_tensors, columns)
        if recipe.columns
        else _NO_CLASSES
    )
    bits = _code_bits(coder, recipe, known, (rows, columns, count), mask)
    indices = np.flatnonzero(bits)
    _check_rows(shape.row_counts(indices), rows, shape, grain)
    if recipe.columns:
        _check_columns(bits, columns, shape)
    return indices


def _code_classes(coder: Coder, tensors: Class, classes: Class | None) -> Class:
    model = Model(DENSITIES, (TENSORS,))
    return coder.code(model, tensors, classes)


def _code_bits(
    coder: Coder,
    recipe: Recipe,
    known: Known,
    classes: tuple[Class, Class, int],
    mask: Mask | None,
) -> Mask:
    """Code a bit for each place of the rows that are neither empty nor full."""
    rows, columns, count = classes
    shape = known.shape
    middle = -(-(FULL - 1) // (1 << recipe.row_grain))  # classes between
    across = -(-(FULL - 1) // _COLUMN_GRAIN) + 2 if len(columns) else 1
    open_rows = (rows != EMPTY) & (rows != FULL)
    of_rows = np.where(open_rows, rows - 1, 0).astype(np.uint8) % middle
    of_columns = np.where(columns == FULL, across - 1, columns).astype(np.uint8)
    of_columns %= across
    contexts, sizes = _reference(recipe, known)
    contexts *= np.uint32(middle * across)
    contexts += shape.spread(of_rows, of_columns, across)
    model = Model(2, (*sizes, middle, across), ones=(count, shape.size))
    out: Mask = np.repeat(rows == FULL, shape.lengths)
    if np.all(open_rows):
        bits = None if mask is None else mask.view(np.uint8)
        return coder.code(model, contexts, bits).view(np.bool_)
    places = np.repeat(open_rows, shape.lengths)
    bits = None if mask is None else mask[places].view(np.uint8)
    out[places] = coder.code(model, contexts[places], bits).view(np.bool_)
    return out


def _reference(
    recipe: Recipe, known: Known
) -> tuple[NDArray[np.uint32], tuple[int, ...]]:
    """Return the class of each place by what both ends hold, and the parts' sizes."""
    shape = known.shape
    if not recipe.base:
        return np.zeros(shape.size, dtype=np.uint32), ()
    weights = float_classes(known.base, shape.tensors, shift=_QUARTERS, classes=FLOATS)
    if not recipe.last or known.last is None:
        return weights.astype(np.uint32), (FLOATS,)
    moved = _moved(known.base, known.last)
    on = float_classes(moved, shape.tensors, shift=_HALVES, classes=COARSE)
    on += (moved < 0).view(np.uint8) * np.uint8(COARSE)
    contexts = on.astype(np.uint32) * np.uint32(FLOATS // 2) + (weights >> 1)
    return contexts, (2 * COARSE, FLOATS // 2)


def _moved(base: Vector, last: Vector) -> Vector:
    """Return the size of each weight if it moved on; below 0 if it changed sign."""
    moved = np.sign(base)
    moved *= last
    moved += np.abs(base)
    return moved


def _check_rows(counts: Ints, rows: Class, shape: Shape, grain: int) -> None:
    """Refuse classes that the mask does not have: equal masks have equal bytes."""
    if not np.array_equal(density_classes(counts, shape.lengths, grain), rows):
        detail = "the class of a row is not that of its entries"
        raise PayloadError(Reason.BAD_VALUE, _FIELD, detail)


def _check_columns(bits: Mask, columns: Class, shape: Shape) -> None:
    counts = shape.column_counts(bits)
    found = density_classes(counts, shape.column_lengths, _COLUMN_GRAIN)
    if not np.array_equal(found, columns):
        detail = "the class of a column is not that of its entries"
        raise PayloadError(Reason.BAD_VALUE, _FIELD, detail)
