"""Remapping of vectors from one prune plan to another.

Weights, deltas, residuals and momentum are flat vectors in model order, so one map of
positions is used for all; moments and running values have the same map of their own.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedprune.common.messages import GridWeights
from fedprune.common.spec import Indices, Mask, Vector
from fedprune.common.structure.structure import MEAN, Structure, positions_kept

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    """The source of the positions of one dimension.

    Attributes:
        dim: The dimension.
        source: Old position of each new position, int64[new]; 0 for regrown ones.
        regrown: New positions without an old one, int64[k].
    """

    dim: int
    source: Indices
    regrown: Indices


@dataclass(frozen=True, slots=True, kw_only=True)
class _Move:
    """One tensor's old shape, and the dimensions that change."""

    shape: tuple[int, ...]
    axes: tuple[_Axis, ...]


def remap(vector: Vector, structure: Structure, old: Mask, new: Mask) -> Vector:
    """Return a flat vector of the network ``old`` as one of the network ``new``.

    Entries whose positions both keep are copied; entries that come back are 0.

    Laws: from the full mask it equals the effect of ``apply_plan`` on the weights; a
    detour over a mask that keeps all that both keep changes nothing.

    Args:
        vector: float32[size of ``old``].
        structure: The structure of the original network.
        old: Keep mask of the vector's network, bool[units].
        new: Keep mask of the result's network, bool[units].

    Raises:
        ValueError: If the vector does not have the size of the network ``old``.
    """
    names = tuple(tensor.name for tensor in structure.tensors)
    return _carry(vector, _moves(structure, names, *_bytes(structure, old, new)), 0.0)


def remap_moments(
    vector: Vector, structure: Structure, old: Mask, new: Mask, *, fill: float = 0.0
) -> Vector:
    """Return batch-norm means or variances of ``old`` as those of ``new``.

    Args:
        vector: float32[moments of ``old``].
        structure: The structure of the original network.
        old: Keep mask of the vector's network, bool[units].
        new: Keep mask of the result's network, bool[units].
        fill: Value of channels that come back (means 0, variances 1).

    Raises:
        ValueError: If the vector does not have the moments of the network ``old``.
    """
    names = tuple(moment.name + MEAN for moment in structure.moments)
    return _carry(vector, _moves(structure, names, *_bytes(structure, old, new)), fill)


def remap_running(vector: Vector, structure: Structure, old: Mask, new: Mask) -> Vector:
    """Return the running values of ``old`` as those of ``new``; 0 where one comes back.

    Args:
        vector: float32[running values of ``old``].
        structure: The structure of the original network.
        old: Keep mask of the vector's network, bool[units].
        new: Keep mask of the result's network, bool[units].

    Raises:
        ValueError: If the vector does not have the running values of ``old``.
    """
    moves = _moves(structure, structure.running, *_bytes(structure, old, new))
    return _carry(vector, moves, 0.0)


def remap_grid(
    grid: GridWeights, structure: Structure, old: Mask, new: Mask
) -> GridWeights:
    """Return the grid of the network ``old`` as one of the network ``new``.

    Levels and steps that both keep are copied; levels that come back are 0, and so are
    the steps of rows that come back.

    Raises:
        ValueError: If the grid does not have the size of the network ``old``.
    """
    if np.array_equal(old, new):
        return grid
    before, after = structure.spec(old), structure.spec(new)
    if len(grid.codes) != before.rows:
        msg = f"grid has {len(grid.codes)} rows; want {before.rows}"
        raise ValueError(msg)
    names = tuple(tensor.name for tensor in structure.tensors)
    moves = _moves(structure, names, *_bytes(structure, old, new))
    codes = _carry(np.repeat(grid.codes, before.row_lengths), moves, 0)
    lengths = after.row_lengths
    filled = np.flatnonzero(lengths)
    found = np.zeros(after.rows, dtype=np.uint8)
    if len(filled):
        # Where only a part of a row comes back, its other positions have its code.
        starts = (np.cumsum(lengths) - lengths)[filled]
        found[filled] = np.maximum.reduceat(codes, starts)
    return GridWeights(codes=found, levels=_carry(grid.levels, moves, 0))


def _bytes(structure: Structure, old: Mask, new: Mask) -> tuple[bytes, bytes]:
    structure.check_mask(old)
    structure.check_mask(new)
    return old.tobytes(), new.tobytes()


@lru_cache(maxsize=16)
def _moves(
    structure: Structure, names: tuple[str, ...], old: bytes, new: bytes
) -> tuple[_Move, ...]:
    """Return the move of each tensor, as one list of positions a dimension."""
    before = np.frombuffer(old, dtype=np.bool_)
    after = np.frombuffer(new, dtype=np.bool_)
    left, now = structure.living(before), structure.living(after)
    moves = []
    for name in names:
        if name not in left.shapes or name not in now.shapes:  # in a dropped block
            moves += _whole(left, now, name, before, after)
            continue
        axes = [
            _axis(structure, name, dim, before, after)
            for dim in range(len(structure.shapes[name]))
            if (name, dim) in structure.lookup
        ]
        changed = tuple(axis for axis in axes if axis is not None)
        moves.append(_Move(shape=structure.shape(name, before), axes=changed))
    return tuple(moves)


def _whole(
    left: Structure, now: Structure, name: str, before: Mask, after: Mask
) -> list[_Move]:
    """Return the move of a tensor that is dropped or comes back as a whole, flat."""
    had = prod(left.shape(name, before)) if name in left.shapes else 0
    has = prod(now.shape(name, after)) if name in now.shapes else 0
    come = _Axis(dim=0, source=np.zeros(has, np.int64), regrown=np.arange(has))
    return [_Move(shape=(had,), axes=(come,))]


def _axis(
    structure: Structure, name: str, dim: int, before: Mask, after: Mask
) -> _Axis | None:
    """Return the source of a dimension's positions; None = nothing changes."""
    units = structure.lookup[name, dim]
    had, has = positions_kept(units, before), positions_kept(units, after)
    if np.array_equal(had, has):
        return None
    place = np.where(had, np.cumsum(had) - 1, 0)
    return _Axis(
        dim=dim,
        source=place[has].astype(np.int64),
        regrown=np.flatnonzero(~had[has]).astype(np.int64),
    )


def _carry(vector: NDArray[T], moves: tuple[_Move, ...], fill: float) -> NDArray[T]:
    size = sum(prod(move.shape) for move in moves)
    if vector.shape != (size,):
        msg = f"vector has shape {list(vector.shape)}; want [{size}]"
        raise ValueError(msg)
    parts = []
    start = 0
    for move in moves:
        end = start + prod(move.shape)
        part = vector[start:end].reshape(move.shape)
        for axis in move.axes:
            if not part.size:  # no old entries
                shape = [*part.shape]
                shape[axis.dim] = len(axis.source)
                part = np.zeros(shape, dtype=vector.dtype)
            else:
                part = part.take(axis.source, axis=axis.dim)
            if axis.regrown.size:
                part[(slice(None),) * axis.dim + (axis.regrown,)] = fill
        parts.append(part.reshape(-1))
        start = end
    return np.concatenate(parts) if parts else vector.copy()
