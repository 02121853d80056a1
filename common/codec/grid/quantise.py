"""The quantisation grid of weights: integer levels times a step of each row.

The *step* of a row is ``2 ** (code - 48)`` for codes 1..63; a row of zeros has code 0.
A fresh step is the smallest that gives a row at most 127 levels on either side of
zero, or 1023 where the row is a whole bias or norm.  It stays from one broadcast to
the next until a fresh one would be more than two octaves away, so that levels of two
broadcasts can be subtracted; levels are int16 for that reason.  Where a step does
change, the levels before are shifted: steps are powers of two, so that both ends
compute the same integers.

A level stays while its weight is within one step of it, and is the nearest one
otherwise: a weight that has hardly moved costs nothing to send.  A *fine* grid has
steps of a quarter, and none that is coarser stays.  A weight of exactly 0 has level 0.
The quantisation error stays at the server, whose own weights are exact.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedprune.common.codec.layout import tensor_of_row
from fedprune.common.errors import ConfigError
from fedprune.common.messages import GridWeights
from fedprune.common.spec import ModelSpec, Vector

CODES = 64
TOP = 16383  # the largest level: differences of two fit into int16
_CODE_OF_ONE = 48
_NEAR = 2  # octaves that a row may move before its step is chosen anew
_FINER = 2  # octaves
_STAYS = np.float32(1.0)  # steps that a weight may be away from its level
_MATRIX_BITS, _VECTOR_BITS = 7, 10  # a fresh step leaves levels of so many bits
_SIGNIFICAND = 24  # bits of a float32

STEPS: Vector = np.ldexp(np.float32(1), np.arange(CODES) - _CODE_OF_ONE)
STEPS[0] = 0

Codes = NDArray[np.uint8]
T = TypeVar("T", bound=np.generic)


def on_grid(
    weights: Vector, spec: ModelSpec, before: GridWeights | None, *, fine: bool = False
) -> GridWeights:
    """Return weights on the grid, as near to the broadcast before as the rules allow.

    Args:
        weights: float32[spec.size], finite.
        spec: Shapes of the network.
        before: The broadcast before, in the shapes of this one; None for a first.
        fine: Whether steps are a quarter, and none that is coarser stays.

    Raises:
        ConfigError: If a row is too large for any step.
    """
    codes = _fresh_codes(weights, spec, _FINER if fine else 0)
    if before is not None:
        old_codes = before.codes.astype(np.int16)
        coarser = old_codes - codes.astype(np.int16)
        near = (coarser >= -_NEAR) & (coarser <= (0 if fine else _NEAR))
        codes = np.where((old_codes > 0) & (codes > 0) & near, old_codes, codes)
        codes = codes.astype(np.uint8)
    steps = np.repeat(STEPS[codes], _lengths(spec))
    scaled = np.divide(weights, steps, out=np.zeros_like(weights), where=steps > 0)
    levels = np.rint(scaled)
    if before is not None:
        old = rescaled(before, codes, spec).astype(np.float32)
        stays = (np.abs(scaled - old) <= _STAYS) & (weights != 0)
        levels = np.where(stays, old, levels)
    return tidy(codes, levels.astype(np.int16), spec)


def exact_grid(weights: Vector, spec: ModelSpec) -> GridWeights | None:
    """Return the grid that represents weights exactly, or None if there is none.

    Every row takes the largest step of which all its weights are multiples.
    """
    fractions, exponents = np.frexp(weights)
    whole = np.ldexp(np.abs(fractions), _SIGNIFICAND).astype(np.int64)
    lowest = np.frexp((whole & -whole).astype(np.float64))[1] - 1
    units = np.where(whole > 0, exponents - _SIGNIFICAND + lowest, CODES)
    codes = _per_row(np.minimum, units, spec) + _CODE_OF_ONE
    codes = np.minimum(codes, CODES - 1)
    if len(codes) and int(codes.min()) < 1:
        return None
    exact = codes.astype(np.uint8)
    steps = np.repeat(STEPS[exact], _lengths(spec))
    levels = weights / steps
    if len(levels) and float(np.abs(levels).max()) > TOP:
        return None
    return tidy(exact, levels.astype(np.int16), spec)


def grid_values(grid: GridWeights, spec: ModelSpec) -> Vector:
    """Return the weights of a grid, float32[spec.size], exactly."""
    steps = np.repeat(STEPS[grid.codes], _lengths(spec))
    values: Vector = grid.levels.astype(np.float32) * steps
    return values


def rescaled(grid: GridWeights, codes: Codes, spec: ModelSpec) -> NDArray[np.int32]:
    """Return the levels of a grid in other steps, int32[spec.size], within +-16383.

    A finer step shifts to the left, a coarser one to the right, halves upwards.
    Levels of a row without a step, before or after, become 0.
    """
    new, old = codes.astype(np.int32), grid.codes.astype(np.int32)
    levels = grid.levels.astype(np.int32)
    if not np.any(old):
        return np.zeros_like(levels)
    changed = new != old
    if not np.any(changed):
        return levels
    by = np.where((new > 0) & (old > 0), old - new, -CODES)[changed]
    positions = np.repeat(changed, _lengths(spec))
    up = np.repeat(by, _lengths(spec)[changed])
    some = levels[positions]
    # Beyond 16 octaves a level becomes 0 or is clipped.
    left = some << np.clip(up, 0, 15)
    down = np.clip(-up, 0, 17)
    right = (some + ((1 << down) >> 1)) >> down
    found = np.where(up > 0, np.clip(left, -TOP, TOP), right)
    levels[positions] = np.where(up == -CODES, 0, found)
    return levels


def empty_grid(spec: ModelSpec) -> GridWeights:
    """Return the grid of weights that are all 0."""
    return GridWeights(
        codes=np.zeros(spec.rows, dtype=np.uint8),
        levels=np.zeros(spec.size, dtype=np.int16),
    )


def filled_rows(levels: NDArray[np.int16], spec: ModelSpec) -> NDArray[np.bool_]:
    """Return the rows that have a level other than 0, bool[rows]."""
    return _per_row(np.maximum, (levels != 0).view(np.uint8), spec).view(np.bool_)


def tidy(codes: Codes, levels: NDArray[np.int16], spec: ModelSpec) -> GridWeights:
    """Return a grid in which exactly the rows of zeros have code 0."""
    kept = np.where(filled_rows(levels, spec), codes, 0).astype(np.uint8)
    return GridWeights(codes=kept, levels=levels)


def _fresh_codes(weights: Vector, spec: ModelSpec, finer: int) -> Codes:
    """Return the code of the smallest step that leaves each row its levels.

    Steps are ``finer`` octaves smaller than those of a coarse grid.
    """
    most = _per_row(np.maximum, np.abs(weights), spec)
    bits = np.repeat(
        [_MATRIX_BITS if len(t.shape) > 1 else _VECTOR_BITS for t in spec.tensors],
        [t.rows for t in spec.tensors],
    ).astype(np.int64)
    bits += finer
    fractions, octaves = np.frexp(most)
    # The largest may round to one level too many: the next octave is used then.
    over = np.ldexp(fractions, bits) > (1 << bits) - 1
    exponents = octaves.astype(np.int64) - bits + over
    codes = np.where(most > 0, np.maximum(exponents + _CODE_OF_ONE, 1), 0)
    bad = np.flatnonzero(codes >= CODES)
    if len(bad):
        tensor = tensor_of_row(spec, int(bad[0]))
        msg = (
            f"{tensor} holds {float(most[bad[0]]):g}, beyond the grid of broadcasts: "
            "set broadcast.values to 'float32' or find out why it grows"
        )
        raise ConfigError(msg)
    return codes.astype(np.uint8)


def _per_row(rule: np.ufunc, values: NDArray[T], spec: ModelSpec) -> NDArray[T]:
    """Return the maximum or minimum of each row; 0 of a row without positions."""
    lengths = _lengths(spec)
    starts = np.cumsum(lengths) - lengths
    found = np.zeros(len(lengths), dtype=values.dtype)
    filled = np.flatnonzero(lengths)
    if len(filled):
        found[filled] = rule.reduceat(values, starts[filled])
    return found


def _lengths(spec: ModelSpec) -> NDArray[np.int64]:
    return spec.row_lengths
