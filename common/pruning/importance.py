"""Importance of units from the broadcast weights, and where clients measure theirs.

Everything here works on flat weights and numpy: the server scores without a network.
Importance is always float32[units of the original]; units already cut have 0.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedprune.common.errors import ConfigError
from fedprune.common.spec import Mask, Vector
from fedprune.common.structure.structure import FIXED, Structure

CRITERIA = ("l1", "l2", "l1-group", "l2-group", "gamma", "fpgm", "lamp", "random")
PER_GROUP = "-group"  # the same score over its mean in the group


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
    """Return a magnitude (or random) importance of each unit, float32[units].

    * ``l1``, ``l2``: mean magnitude, root mean square, of all entries in the rows that
      produce the unit.  Per entry, so that wide layers do not win by their width.
      Source: Li et al. 2017, arXiv:1608.08710, per entry instead of per filter.
    * ``gamma``: sum of the magnitudes of its norm weights; ``l2`` for units without
      norms.  Source: Liu et al. 2017, arXiv:1708.06519.
    * ``l1-group``, ``l2-group``: l1 and l2 over their mean in the group, so that
      groups with small weights are not cut first.
    * ``fpgm``: mean distance to the other rows of the same weight, per entry: what the
      others can replace goes first.  Source: He et al. 2019, arXiv:1811.00250.
    * ``lamp``: energy of the unit over that of all units of its group that are not
      below it.  Source: Lee et al. 2021, arXiv:2010.07611, Eq. 4, by unit.
    * ``random``: uniform in [0, 1), drawn for every unit of the original, so that a
      draw does not depend on what is kept.

    Args:
        structure: The structure of the original network.
        keep: What the weights' network keeps.
        weights: Flat weights, float32[size of that network].
        criterion: One of ``CRITERIA``.
        rng: Used by ``random`` only.

    Raises:
        ConfigError: If the criterion is unknown.
    """
    if criterion not in CRITERIA:
        msg = f"importance '{criterion}' is unknown; want one of {[*CRITERIA]}"
        raise ConfigError(msg)
    if criterion == "random":
        found = rng.random(structure.units)
    else:
        tensors = dict(_split(structure, keep, weights))
        found = _measured(structure.living(keep), keep, tensors, criterion)
    return np.where(keep, found, 0.0).astype(np.float32)


def _measured(
    structure: Structure, keep: Mask, tensors: Mapping[str, Vector], criterion: str
) -> NDArray[np.float64]:
    """Return a criterion of weights, float64[units]."""
    if criterion == "fpgm":
        return _distances(structure, keep, tensors)
    if criterion == "lamp":
        return _layer_adaptive(structure, keep, tensors)
    power = 1 if criterion.startswith("l1") else 2
    found = _row_means(structure, keep, tensors, power)
    if criterion == "gamma":
        return _gammas(structure, keep, tensors, otherwise=found)
    if criterion.endswith(PER_GROUP):
        for group in structure.groups:
            kept = group.units[keep[group.units]]
            mean = found[kept].mean() if len(kept) else 0.0
            found[kept] /= mean if mean > 0.0 else 1.0
    return found


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


def _distances(
    structure: Structure, keep: Mask, tensors: Mapping[str, Vector]
) -> NDArray[np.float64]:
    """Return the mean distance of each unit's rows to all rows, float64[units]."""
    total = np.zeros(structure.units)
    count = np.zeros(structure.units)
    for group in structure.groups:
        for name in group.producers:
            rows = _rows(tensors[name], structure.made_dim(name))
            square = (rows**2).sum(axis=1)
            gram = square[:, None] + square - 2.0 * rows @ rows.T
            far = np.sqrt(np.maximum(gram, 0.0)).mean(axis=1)
            units = _units(structure, keep, name)
            total += _add(units, far / np.sqrt(rows.shape[1]), structure.units)
            count += _add(units, np.ones(len(rows)), structure.units)
    found: NDArray[np.float64] = total / np.maximum(count, 1.0)
    return found


def _layer_adaptive(
    structure: Structure, keep: Mask, tensors: Mapping[str, Vector]
) -> NDArray[np.float64]:
    """Return energy over the energy that is not below it, float64[units]."""
    energy = _row_means(structure, keep, tensors, 2) ** 2
    found = np.zeros(structure.units)
    for group in structure.groups:
        kept = group.units[keep[group.units]]
        order = kept[np.argsort(energy[kept], kind="stable")]
        above = np.cumsum(energy[order][::-1])[::-1]
        found[order] = energy[order] / np.where(above > 0.0, above, 1.0)
    return found


def _row_means(
    structure: Structure, keep: Mask, tensors: Mapping[str, Vector], power: int
) -> NDArray[np.float64]:
    """Return the power mean of the entries that produce each unit, float64[units]."""
    total = np.zeros(structure.units)
    entries = np.zeros(structure.units)
    for group in structure.groups:
        for name in group.producers:
            rows = _rows(tensors[name], structure.made_dim(name))
            rows = np.abs(rows) if power == 1 else rows * rows
            units = _units(structure, keep, name)
            total += _add(units, rows.sum(axis=1), structure.units)
            widths = np.full(len(rows), float(rows.shape[1]))
            entries += _add(units, widths, structure.units)
    found: NDArray[np.float64] = (total / np.maximum(entries, 1.0)) ** (1.0 / power)
    return found


def _gammas(
    structure: Structure,
    keep: Mask,
    tensors: Mapping[str, Vector],
    *,
    otherwise: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the sum of norm weight magnitudes, or ``otherwise`` without norms."""
    total = np.zeros(structure.units)
    for group in structure.groups:
        for name in group.norms:
            scale = np.abs(tensors[name].astype(np.float64))
            total += _add(_units(structure, keep, name), scale, structure.units)
    return np.where(_normed(structure), total, otherwise)


def _normed(structure: Structure) -> Mask:
    """Return which units some norm scales, bool[units]."""
    found = np.zeros(structure.units, dtype=np.bool_)
    for group in structure.groups:
        for name in group.norms:
            units = structure.lookup[name, 0]
            found[units[units != FIXED]] = True
    return found
