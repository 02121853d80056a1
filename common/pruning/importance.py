"""Importance of units from the broadcast weights, and where clients measure theirs.

Everything here works on flat weights and numpy: the server scores without a network.
Importance is always float32[units of the original]; units already cut have 0.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedprune.common.errors import ConfigError
from fedprune.common.methods.channel_weights import ChannelWeights, Rows
from fedprune.common.methods.kinds import IMPORTANCE
from fedprune.common.methods.registry import Method, Side, find
from fedprune.common.spec import Mask, Vector
from fedprune.common.structure.structure import FIXED, Structure


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurePoint:
    """A tensor whose channels are the place to measure units.

    Attributes:
        tensor: Its name.
        dim: The dimension along which it holds the channels.
        module: Dotted name of the module that gives these channels out; empty for a
            tensor that no module's output shows.
        kind: "norm" or "producer".
        units: Unit of each output channel of the dense network, int32[channels];
            -1 = not measured here.
    """

    tensor: str
    dim: int
    module: str
    kind: str
    units: NDArray[np.int32]


def weight_scores(
    structure: Structure,
    keep: Mask,
    weights: Vector,
    criterion: str,
    rng: np.random.Generator,
) -> Vector:
    """Return an importance of each unit that needs no data, float32[units].

    Args:
        structure: The structure of the original network.
        keep: What the weights' network keeps.
        weights: Flat weights, float32[size of that network].
        criterion: One that the server can work out: it asks for weights and draws.
        rng: Makes the draws: one for every unit of the original network, so that they
            do not depend on what is kept.

    Raises:
        ConfigError: If the criterion is unknown, needs what clients measure, or gives
            no finite number.
    """
    method = find(IMPORTANCE, criterion)
    if method.side is not Side.SERVER:
        msg = f"importance '{criterion}' is measured by clients; want one of weights"
        raise ConfigError(msg)
    tensors = dict(_split(structure, keep, weights))
    draws = rng.random(structure.units)
    living = structure.living(keep)
    found = np.zeros(structure.units)
    for group in living.groups:
        kept = group.units[keep[group.units]]
        view = channel_weights(living, keep, tensors, kept)
        scores = method(weights=view, draws=draws[kept])
        found[kept] = checked_scores(method, scores, len(kept))
    if not np.all(np.isfinite(found)):
        count = np.count_nonzero(~np.isfinite(found))
        msg = f"importance '{criterion}' is not finite for {count} of {len(found)} "
        msg += "channels; want numbers >= 0"
        raise ConfigError(msg)
    return np.where(keep, found, 0.0).astype(np.float32)


def checked_scores(method: Method, found: object, channels: int) -> NDArray[np.float64]:
    """Return what a criterion returned, float64[channels].

    Raises:
        ConfigError: If it is no number for each channel.
    """
    scores = np.asarray(found)
    if scores.shape != (channels,) or not np.issubdtype(scores.dtype, np.number):
        msg = (
            f"importance '{method.name}' returned {scores.dtype}{list(scores.shape)}; "
            f"want float64[{channels}], one number for each channel"
        )
        raise ConfigError(msg)
    return scores.astype(np.float64)


def channel_weights(
    structure: Structure,
    keep: Mask,
    tensors: Mapping[str, Vector],
    units: NDArray[np.int64] | NDArray[np.int32],
) -> ChannelWeights:
    """Return the weights that produce and scale some kept units.

    Args:
        structure: The living part of the original structure.
        keep: What the tensors' network keeps, bool[units].
        tensors: The tensors of the cut network, by name.
        units: Unit of each channel; -1 = one without weights.
    """
    numbers = np.full(len(keep) + 1, FIXED, dtype=np.int64)  # the last: of FIXED
    free = units != FIXED
    numbers[units[free]] = np.flatnonzero(free)
    wanted = set(units[free].tolist())

    def rows(name: str, dim: int) -> Rows:
        found = structure.lookup[name, dim][structure.kept_index(name, dim, keep)]
        return Rows(channel=numbers[found], values=_rows(tensors[name], dim))

    producers, norms = [], []
    for group in structure.groups:
        if wanted.intersection(group.units.tolist()):
            producers += [rows(n, structure.made_dim(n)) for n in group.producers]
            norms += [rows(name, 0) for name in group.norms]
    return ChannelWeights(
        channels=len(units), producers=tuple(producers), norms=tuple(norms)
    )


def unit_sum(
    structure: Structure, keep: Mask, per_tensor: Mapping[str, NDArray[np.floating]]
) -> Vector:
    """Return per-channel scores added onto the units that carry them, float32[units].

    Args:
        structure: The structure of the original network.
        keep: What the measured network keeps.
        per_tensor: Scores of the kept positions along dim 0, by tensor name.

    Raises:
        ValueError: If scores do not have the length of their tensor.
    """
    found = np.zeros(structure.units)
    # In the structure's order, not the caller's: a float sum depends on its order.
    for dim in structure.living(keep).dims:
        if dim.dim == structure.made_dim(dim.tensor) and dim.tensor in per_tensor:
            units = _units(structure, keep, dim.tensor)
            scores = per_tensor[dim.tensor]
            if scores.shape != units.shape:
                msg = f"'{dim.tensor}' has {len(units)} channels, got {scores.shape}"
                raise ValueError(msg)
            found += _add(units, scores.astype(np.float64), structure.units)
    return found.astype(np.float32)


def measure_points(structure: Structure) -> tuple[MeasurePoint, ...]:
    """Return where data-driven importance is measured, in model order.

    Units that have norms are measured at all their norms, others at their producers.
    """
    normed = _normed(structure)
    norms = {name for group in structure.groups for name in group.norms}
    producers = {name for group in structure.groups for name in group.producers}
    found = []
    for dim in structure.dims:
        units = dim.units
        made = dim.tensor in producers and dim.dim == structure.made_dim(dim.tensor)
        if not made and (dim.dim != 0 or dim.tensor not in norms):
            continue
        kind = "norm" if dim.tensor in norms else "producer"
        if kind == "producer":
            units = np.where((units != FIXED) & ~normed[units], units, FIXED)
        if (units != FIXED).any():
            title, _, last = dim.tensor.rpartition(".")
            found.append(
                MeasurePoint(
                    tensor=dim.tensor,
                    dim=dim.dim,
                    module=title if last == "weight" else "",
                    kind=kind,
                    units=units,
                )
            )
    return tuple(found)


def zero_units(structure: Structure, keep: Mask, weights: Vector) -> Mask:
    """Return the kept units that are exactly zero at their gates, bool[units].

    With norms: every norm weight of the unit is 0.  Without: every entry of every row
    that produces it is 0.  Shifts and biases are not looked at.
    """
    tensors = dict(_split(structure, keep, weights))
    living = np.zeros(structure.units)
    for gate in measure_points(structure.living(keep)):
        rows = _rows(tensors[gate.tensor], gate.dim)
        units = gate.units[structure.kept_index(gate.tensor, gate.dim, keep)]
        alive = (rows != 0.0).any(axis=1).astype(np.float64)
        living += _add(units, alive, structure.units)
    dead: Mask = keep & (living == 0.0)
    return dead


def _split(
    structure: Structure, keep: Mask, weights: Vector
) -> Iterator[tuple[str, Vector]]:
    """Yield name and tensor of each part of the flat weights."""
    spec = structure.spec(keep)
    if weights.shape != (spec.size,):
        msg = f"weights have shape {list(weights.shape)}; want [{spec.size}]"
        raise ValueError(msg)
    start = 0
    for tensor in spec.tensors:
        yield tensor.name, weights[start : start + tensor.size].reshape(tensor.shape)
        start += tensor.size


def _units(structure: Structure, keep: Mask, tensor: str) -> NDArray[np.int32]:
    """Return the unit of each kept position along the dimension that is made."""
    dim = structure.made_dim(tensor)
    return structure.lookup[tensor, dim][structure.kept_index(tensor, dim, keep)]


def _add(
    units: NDArray[np.int32], scores: NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    """Add scores onto units, one after another; fixed positions are left out."""
    free = units != FIXED
    return np.bincount(units[free], scores[free], count).astype(np.float64, copy=False)


def _rows(tensor: Vector, dim: int) -> NDArray[np.float64]:
    """Return one row for each position along ``dim``, float64[shape[dim], k]."""
    first = np.moveaxis(tensor.astype(np.float64), dim, 0)
    return first.reshape(len(first), -1)


def _normed(structure: Structure) -> Mask:
    """Return which units some norm scales, bool[units]."""
    found = np.zeros(structure.units, dtype=np.bool_)
    for group in structure.groups:
        for name in group.norms:
            units = structure.lookup[name, 0]
            found[units[units != FIXED]] = True
    return found
