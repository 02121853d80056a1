"""Importance of units from the broadcast weights, and where clients measure theirs.

Everything here works on flat weights and numpy: the server scores without a network.
Importance is always float32[units of the original]; units already cut have 0.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import ConfigError
from common.messages import Mask, Vector
from common.pruning.structure import FIXED, Structure

CRITERIA = ("l1", "l2", "gamma", "random")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A module whose output channels are the place to measure units.

    Attributes:
        module: Dotted module name.
        kind: "norm" or "producer".
        units: Unit of each output channel of the dense network, int32[channels];
            -1 = not measured here.
    """

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
        power = 1 if criterion == "l1" else 2
        found = _row_means(structure, keep, tensors, power)
        if criterion == "gamma":
            found = _gammas(structure, keep, tensors, otherwise=found)
    return np.where(keep, found, 0.0).astype(np.float32)


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
    for dim in structure.dims:
        if dim.dim == structure.made_dim(dim.tensor) and dim.tensor in per_tensor:
            units = _units(structure, keep, dim.tensor)
            scores = per_tensor[dim.tensor]
            if scores.shape != units.shape:
                msg = f"'{dim.tensor}' has {len(units)} channels, got {scores.shape}"
                raise ValueError(msg)
            found += _add(units, scores.astype(np.float64), structure.units)
    return found.astype(np.float32)


def gates(structure: Structure) -> tuple[Gate, ...]:
    """Return where data-driven importance is measured, in model order.

    Units that have norms are measured at all their norms, others at their producers.
    """
    normed = _normed(structure)
    norms = {name for group in structure.groups for name in group.norms}
    producers = {name for group in structure.groups for name in group.producers}
    found = []
    for dim in structure.dims:
        units = dim.units
        if dim.dim != 0 or dim.tensor not in norms | producers:
            continue
        kind = "norm" if dim.tensor in norms else "producer"
        if kind == "producer":
            units = np.where((units != FIXED) & ~normed[units], units, FIXED)
        if (units != FIXED).any():
            module = dim.tensor.removesuffix(".weight")
            found.append(Gate(module=module, kind=kind, units=units))
    return tuple(found)


def zero_units(structure: Structure, keep: Mask, weights: Vector) -> Mask:
    """Return the kept units that are exactly zero at their gates, bool[units].

    With norms: every norm weight of the unit is 0.  Without: every entry of every row
    that produces it is 0.  Shifts and biases are not looked at.
    """
    tensors = dict(_split(structure, keep, weights))
    living = np.zeros(structure.units)
    for gate in gates(structure):
        name = f"{gate.module}.weight"
        rows = tensors[name].reshape(len(tensors[name]), -1)
        units = gate.units[structure.kept_index(name, 0, keep)]
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


def _row_means(
    structure: Structure, keep: Mask, tensors: Mapping[str, Vector], power: int
) -> NDArray[np.float64]:
    """Return the power mean of the entries that produce each unit, float64[units]."""
    total = np.zeros(structure.units)
    entries = np.zeros(structure.units)
    for group in structure.groups:
        for name in group.producers:
            rows = np.abs(tensors[name].astype(np.float64)) ** power
            rows = rows.reshape(len(rows), -1)
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
