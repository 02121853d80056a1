"""Importance of units from the broadcast weights, and the measuring points of clients.

The functions use flat weights and numpy: the server scores without building a network.
Importance is always float32[units of the original network]; cut units have 0.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedprune.common.errors import ConfigError
from fedprune.common.methods.channel_weights import ChannelWeights, Rows
from fedprune.common.methods.kinds import IMPORTANCE
from fedprune.common.methods.method import Method, Side
from fedprune.common.methods.registry import find
from fedprune.common.spec import Mask, Vector
from fedprune.common.structure.structure import FIXED, Structure


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurePoint:
    """A measuring point: a tensor whose channels are measured for their units.

    Attributes:
        tensor: Its name.
        dim: The dimension of the channels.
        module: Dotted name of the module that outputs these channels; "" for a tensor
            whose channels are not the output of a module.
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
    """Return an importance of each unit from weights alone, float32[units].

    Args:
        structure: The structure of the original network.
        keep: Keep mask of the weights' network, bool[units].
        weights: Flat weights, float32[size of that network].
        criterion: A criterion of the server, which needs weights and draws only.
        rng: Makes the draws: one for every unit of the original network, so that they
            do not depend on the keep mask.

    Raises:
        ConfigError: If the criterion is unknown, needs what clients measure, or gives
            no finite number.
    """
    method = find(IMPORTANCE, criterion)
    if method.side is not Side.SERVER:
        msg = f"importance '{criterion}' is measured by clients; want a criterion of"
        msg += " the weights"
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


def checked_scores(
    method: Method, found: object, channels: int, *, finite: bool = True
) -> NDArray[np.float64]:
    """Return the scores of a criterion after a check, float64[channels].

    Args:
        method: The criterion.
        found: What it returned.
        channels: Number of channels.
        finite: Whether its inputs were finite; those of a diverged network are not.

    Raises:
        ConfigError: If they are not one real number for each channel, or of a user's
            own function not finite and >= 0.
    """
    scores = np.asarray(found)
    wanted = f"want float64[{channels}], one number for each channel"
    if scores.shape != (channels,) or scores.dtype.kind not in "biuf":
        what = f"{scores.dtype}{list(scores.shape)}"
        what = type(found).__name__ if scores.dtype.kind == "O" else what
        msg = f"{IMPORTANCE.key} '{method.name}' returned {what}; {wanted}"
        raise ConfigError(msg)
    wrong = ~((scores >= 0.0) & np.isfinite(scores))
    if method.own and finite and wrong.any():
        first = scores[wrong][0]
        msg = f"{IMPORTANCE.key} '{method.name}' returned {first} for "
        msg += f"{np.count_nonzero(wrong)} of {channels} channels; want finite numbers "
        msg += ">= 0"
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
        keep: Keep mask of the tensors' network, bool[units].
        tensors: Name -> tensor of the cut network.
        units: Unit of each channel; -1 = a channel without weights.
    """
    numbers = np.full(len(keep) + 1, FIXED, dtype=np.int64)  # the last is for FIXED
    known = np.unique(units[units != FIXED])
    numbers[known] = np.arange(len(known))
    wanted = set(known.tolist())

    def rows(name: str, dim: int) -> Rows:
        found = structure.lookup[name, dim][structure.kept_index(name, dim, keep)]
        stored = _rows(tensors[name], dim)
        stored.flags.writeable = False  # criteria share them
        return Rows(unit=numbers[found], stored=stored)

    # A tensor may produce units of several groups, and counts once.
    mine = [g for g in structure.groups if wanted.intersection(g.units.tolist())]
    producers = dict.fromkeys(name for group in mine for name in group.producers)
    norms = dict.fromkeys(name for group in mine for name in group.norms)
    return ChannelWeights(
        channels=len(units),
        producers=tuple(rows(name, structure.made_dim(name)) for name in producers),
        norms=tuple(rows(name, 0) for name in norms),
        unit=numbers[units],
    )


def unit_sum(
    structure: Structure, keep: Mask, per_tensor: Mapping[str, NDArray[np.floating]]
) -> Vector:
    """Return the importance of units, float32[units]: the sum of channels' scores.

    Args:
        structure: The structure of the original network.
        keep: Keep mask of the measured network, bool[units].
        per_tensor: Scores of the kept positions along the produced dimension, by tensor
            name.

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
    """Return the measuring points of data-driven importance, in model order.

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
        # A tensor may have units of groups with norms and of others.
        here = normed[units] == (kind == "norm")
        units = np.where((units != FIXED) & here, units, FIXED)
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
    """Return the kept units that are exactly zero where measured, bool[units].

    With norms: every scale and shift of the unit is 0.  Without: every entry of every
    row that produces it, and its bias.  A cut of such a unit changes nothing; without
    its weights alone it would still be a constant that the layers behind it read.
    """
    tensors = dict(_split(structure, keep, weights))
    living = np.zeros(structure.units)
    for point in measure_points(structure.living(keep)):
        shift = point.tensor.removesuffix("weight") + "bias"
        for name, dim in ((point.tensor, point.dim), (shift, 0)):
            if name in tensors and (name, dim) in structure.lookup:
                kept = structure.kept_index(name, dim, keep)
                units = structure.lookup[name, dim][kept]
                units = np.where(np.isin(units, point.units), units, FIXED)
                alive = (_rows(tensors[name], dim) != 0.0).any(axis=1)
                living += _add(units, alive.astype(np.float64), structure.units)
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
    """Return the unit of each kept position along the produced dimension."""
    dim = structure.made_dim(tensor)
    return structure.lookup[tensor, dim][structure.kept_index(tensor, dim, keep)]


def _add(
    units: NDArray[np.int32], scores: NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    """Return the sum of scores for each unit, without those of fixed positions."""
    free = units != FIXED
    return np.bincount(units[free], scores[free], count).astype(np.float64, copy=False)


def _rows(tensor: Vector, dim: int) -> Vector:
    """Return one row for each position along ``dim``, float32[shape[dim], k]."""
    first = np.moveaxis(tensor, dim, 0)
    return first.reshape(len(first), -1)


def _normed(structure: Structure) -> Mask:
    """Return the units of groups with norms, bool[units]."""
    found = np.zeros(structure.units, dtype=np.bool_)
    for group in structure.groups:
        found[group.units] = bool(group.norms)
    return found


def normalise(importance: Vector) -> NDArray[np.float64]:
    """Return an importance, clamped at 0 and scaled to sum 1 over ALL units.

    Loss-based scores are comparable across layers, and one scale per client preserves
    that; it also makes the scale of a client's loss irrelevant.  All-zero scores stay
    zero: such a client abstains.
    """
    clamped = np.maximum(importance.astype(np.float64), 0.0)
    total = float(clamped.sum())
    return clamped / total if total > 0.0 else clamped


def is_informative(importance: Vector) -> bool:
    """Return whether a client's scores rank its units; one that does not abstains.

    Scores that are all equal rank nothing; those with a single unit above zero would
    cut all others.
    """
    if len(importance) == 1:
        return bool(importance[0] > 0.0)
    ranks = bool(np.any(importance != importance[0]))
    return ranks and int(np.count_nonzero(importance > 0.0)) > 1
