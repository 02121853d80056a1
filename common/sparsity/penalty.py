"""L1-type penalties by proximal steps: exact zeros, not small numbers.

A penalty is a map from (weights, share of the round) to shrunken weights.  It is built
once for a broadcast (``build_penalty``); the client (after each local step) and the
server (once a round) use the same object.

Clients train as in Federated Dual Averaging (Yuan et al. 2021, arXiv:2011.08474,
Alg. 1): they accumulate steps on the pre-prox weights, use the shrunken ones for the
gradient, and send the delta of the pre-prox weights.  The server adds the mean and
applies the whole threshold once: averaging cannot fill zeros in again, and each round
shrinks once, not once per client and once more at the server.

Targets are the channels that later cuts would remove by the last consensus: each
channel has its own weight in the L1 norm, 1 or 0, as in the adaptive lasso (Zou 2006)
and in growing regularisation (Wang et al. 2021, arXiv:2012.09243).  An L1 norm over ALL
channels of a batch-norm network selects none within a few rounds: the next layer
divides the common scale out again, gammas stay within 5 % of each other, and a uniform
shrink moves them all (measured: docs/decisions/0004).

Units and ranges: a strength is a share of the median channel of the pruning group
(root mean square) that one round takes away, >= 0: it means the same in every layer.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedprune.common.errors import ConfigError
from fedprune.common.methods.kinds import PENALTY
from fedprune.common.methods.method import Method
from fedprune.common.methods.registry import find_all
from fedprune.common.models.training import is_inside
from fedprune.common.spec import Mask, ModelSpec, Vector
from fedprune.common.structure.structure import Structure
from fedprune.common.system.device import CPU, wide, wide_type


@dataclass(frozen=True, slots=True)
class _Slice:
    """One tensor dimension and the kept unit of each position (last = fixed)."""

    tensor: str
    dim: int
    units: Tensor


@dataclass(frozen=True, slots=True)
class _ProximalStep:
    """One proximal step on whole units.

    Attributes:
        measured: Tensors whose root mean square is a unit's magnitude.
        sizes: Entries that each kept unit has in them, >= 1, float64[units + 1].
        changed: Tensors that are multiplied by the unit's factor.
        aimed: Those of them with a unit that shrinks: the others' factors are all 1.
        thresholds: Threshold of each kept unit for a whole round, float64[units + 1].
        input: Name of the method's input for the magnitudes.
        method: Returns the factor on each unit, 0..1.
    """

    measured: tuple[_Slice, ...]
    sizes: Tensor
    changed: tuple[_Slice, ...]
    aimed: tuple[_Slice, ...]
    thresholds: Tensor
    input: str
    method: Method


@dataclass(frozen=True, slots=True)
class _Entries:
    """One proximal step on the entries of matrices.

    Attributes:
        thresholds: Tensor name -> threshold for a whole round, >= 0.
        method: Returns the factor on each entry, 0..1.
    """

    thresholds: Mapping[str, float]
    method: Method


@dataclass(frozen=True, slots=True)
class Penalty:
    """A penalty built for one broadcast.

    Attributes:
        units: Proximal steps on whole units, applied in order.
        entries: Proximal steps on single entries, applied first.
    """

    units: tuple[_ProximalStep, ...]
    entries: tuple[_Entries, ...] = ()

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors that the penalty may change, without repeats.

        Also those without a target: which tensors have dual weights, whose sums are
        rounded, does not depend on the targets.
        """
        names = [part.tensor for one in self.units for part in one.changed]
        names += [name for one in self.entries for name in one.thresholds]
        return tuple(dict.fromkeys(names))

    def shrink(self, tensors: Mapping[str, Tensor], share: float) -> None:
        """Apply one proximal step in place.

        Args:
            tensors: The tensors named by ``tensors``; changed in place.
            share: Share of the round's threshold, 0..1; 0 changes nothing.
        """
        with torch.no_grad():
            for entries in self.entries:
                for name, level in entries.thresholds.items():
                    _shrink_entries(entries.method, tensors[name], share * level)
            for one in self.units:
                _shrink_units(one, tensors, share)


def checked_factor(
    method: Method, found: object, like: Tensor, targets: Tensor | None = None
) -> Tensor:
    """Return the factor that a penalty returned.

    Args:
        method: The penalty.
        found: What it returned.
        like: What it was asked about: channels or entries.
        targets: Which of them it may change, bool; None = all.

    Raises:
        ConfigError: If it is no factor for each of them, or of a user's own function
            one outside of 0..1.
    """
    wanted = f"want a torch tensor of factors 0..1, {list(like.shape)}"
    real = isinstance(found, Tensor) and not found.is_complex()
    if not isinstance(found, Tensor) or not real or found.shape != like.shape:
        shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        msg = f"client.penalty '{method.name}' returned {shape}; {wanted}"
        raise ConfigError(msg)
    if targets is not None:
        found = torch.where(targets, found, torch.ones_like(found))
    wrong = found[~((found >= 0.0) & (found <= 1.0))] if method.own else found[:0]
    if wrong.numel():
        msg = f"client.penalty '{method.name}' returned {float(wrong[0]):g}; {wanted}"
        raise ConfigError(msg)
    return found


def _shrink_entries(method: Method, value: Tensor, threshold: float) -> None:
    """Multiply each entry by the factor that the method gives for its magnitude."""
    if threshold > 0.0:
        factor = method(entries=value.abs(), threshold=threshold)
        value.mul_(checked_factor(method, factor, value))


def _shrink_units(
    one: _ProximalStep, tensors: Mapping[str, Tensor], share: float
) -> None:
    """Multiply each unit by the factor that the method gives for its magnitude."""
    magnitude = _magnitudes(one.measured, one.sizes, tensors)
    threshold = share * one.thresholds.to(magnitude.device, magnitude.dtype)
    targets = threshold > 0.0  # before the method has the threshold in its hands
    found = one.method(**{one.input: magnitude, "threshold": threshold})
    factor = checked_factor(one.method, found, magnitude, targets)
    for part in one.aimed:
        value = tensors[part.tensor]
        shape = [1] * value.dim()
        shape[part.dim] = -1
        value.mul_(factor[part.units.to(value.device)].to(value.dtype).reshape(shape))


def _magnitudes(
    measured: tuple[_Slice, ...], sizes: Tensor, tensors: Mapping[str, Tensor]
) -> Tensor:
    """Return the root mean square of each kept unit, float64[units + 1]."""
    device = tensors[measured[0].tensor].device if measured else CPU
    total = torch.zeros(len(sizes), dtype=wide_type(device), device=device)
    last, square = "", total
    for part in measured:
        if part.tensor != last:  # a tensor with units in both dimensions comes twice
            last, square = part.tensor, wide(tensors[part.tensor].detach()).square()
        rest = [d for d in range(square.dim()) if d != part.dim]
        summed = square.sum(dim=rest) if rest else square
        total.index_add_(0, part.units.to(device), summed)
    return torch.sqrt(total / sizes.to(device, total.dtype))


def _sizes(
    measured: tuple[_Slice, ...], tensors: Mapping[str, Tensor], units: int
) -> Tensor:
    """Return the entries that each kept unit has, >= 1, float64[units + 1]."""
    count = torch.zeros(units + 1, dtype=torch.float64)
    for part in measured:
        value = tensors[part.tensor]
        size = float(value.numel() // max(value.shape[part.dim], 1))
        ones = torch.full((len(part.units),), size, dtype=torch.float64)
        count.index_add_(0, part.units, ones)
    return torch.clamp(count, min=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PenaltySpec:
    """Name, strength and targets of a penalty.

    Attributes:
        name: A registered penalty, "a+b", "none", or a user's own function.
        strength: Share of the group's median channel that one round takes away, >= 0.
        targets: bool[units], True = shrinks; None = all units.
        frozen: Names of the frozen modules, whose weights it leaves alone.
    """

    name: str
    strength: float
    targets: Mask | None = None
    frozen: tuple[str, ...] = ()

    @property
    def methods(self) -> tuple[Method, ...]:
        """The penalty's methods; () if its strength is 0.

        Raises:
            ConfigError: If the name is unknown.
        """
        return find_all(PENALTY, self.name) if self.strength > 0.0 else ()


def build_penalty(
    structure: Structure, keep: Mask, weights: Vector, spec: PenaltySpec
) -> Penalty | None:
    """Return a penalty built for a broadcast, or None if it would change nothing.

    The name of a method's first parameter selects its tensors.  "scales": the gammas of
    batch norm, measured as their root mean square in the unit.  "channels": with batch
    norm the root mean square of the normalised output, ``sqrt(mean(gamma**2 +
    beta**2))``, the norm of the BN-folded channel, which does not depend on the scale
    of the convolution before it; of a unit without batch norm all its tensors.  Both
    change gamma and beta together, so a zero unit is zero in every tensor of its norms.
    Convolution weights before a batch norm are never shrunken: their scale is divided
    out again.  "entries": every weight of two or more dimensions, with the strength as
    a share of the tensor's median magnitude.  Several methods share the strength on
    channels.

    Args:
        structure: The original network.
        keep: Keep mask of the broadcast, bool[units].
        weights: The decoded broadcast, float32[n]: thresholds are measured on it, so
            that all clients and the server use the same.
        spec: Name, strength and targets.

    Raises:
        ConfigError: If the name is unknown.
    """
    proximal = [one for one in spec.methods if "threshold" in one.needs]
    if not proximal:
        return None
    tensors = views(structure.spec(keep), weights.copy())
    structure = structure.living(keep)
    slices = tuple(_slices(structure, keep, tensors))
    scales = {norm for group in structure.groups for norm in group.norms}
    shifts = {norm.removesuffix("weight") + "bias" for norm in scales}
    norms = tuple(s for s in slices if s.tensor in scales | shifts)
    gammas = tuple(s for s in norms if s.tensor in scales)
    channels = (*norms, *_without_norm(structure, keep, slices))
    measures = {"scales": (gammas, norms), "channels": (channels, channels)}
    measures = {
        name: (_free(measured, spec.frozen), _free(changed, spec.frozen))
        for name, (measured, changed) in measures.items()
    }
    strength = spec.strength / len(proximal)
    units: list[_ProximalStep] = []
    for one in proximal:
        for name, (measured, changed) in measures.items():
            if name not in one.needs or not measured:
                continue
            sizes = _sizes(measured, tensors, int(keep.sum()))
            magnitude = _magnitudes(measured, sizes, tensors)
            medians = _medians(structure, keep, magnitude, spec.targets)
            thresholds = strength * medians
            units.append(
                _ProximalStep(
                    measured=measured,
                    sizes=sizes,
                    changed=changed,
                    aimed=_aimed(changed, thresholds),
                    thresholds=thresholds,
                    input=name,
                    method=one,
                )
            )
    return Penalty(
        units=tuple(units),
        entries=tuple(
            _Entries(thresholds=_entry_thresholds(tensors, spec), method=one)
            for one in proximal
            if "entries" in one.needs
        ),
    )


def _aimed(slices: tuple[_Slice, ...], thresholds: Tensor) -> tuple[_Slice, ...]:
    """Return the slices with a unit that shrinks."""
    return tuple(one for one in slices if bool((thresholds[one.units] > 0.0).any()))


def _free(slices: tuple[_Slice, ...], frozen: tuple[str, ...]) -> tuple[_Slice, ...]:
    """Return the slices of tensors that are trained."""
    return tuple(one for one in slices if not is_inside(one.tensor, frozen))


def _entry_thresholds(
    tensors: Mapping[str, Tensor], spec: PenaltySpec
) -> dict[str, float]:
    return {
        name: spec.strength * float(value.abs().median())
        for name, value in tensors.items()
        if value.dim() > 1 and not is_inside(name, spec.frozen)
    }


def _slices(
    structure: Structure, keep: Mask, tensors: Mapping[str, Tensor]
) -> Iterator[_Slice]:
    """Yield every trained tensor dimension with its kept units."""
    numbers = _numbers(keep)
    for dim in structure.dims:
        if dim.tensor in tensors:
            kept = structure.kept_index(dim.tensor, dim.dim, keep)
            units = torch.from_numpy(numbers[dim.units[kept]])
            yield _Slice(dim.tensor, dim.dim, units)


def _without_norm(
    structure: Structure, keep: Mask, slices: Sequence[_Slice]
) -> Iterator[_Slice]:
    """Yield the slices whose units have no batch norm, as hidden linear layers."""
    numbers, count = _numbers(keep), int(keep.sum())
    scaled = np.zeros(count, dtype=np.bool_)
    for group in structure.groups:
        if group.norms:
            scaled[numbers[group.units[keep[group.units]]]] = True
    for one in slices:
        carried = one.units[one.units < count].numpy()
        if len(carried) and not scaled[carried].any():
            yield one


def _numbers(keep: Mask) -> NDArray[np.int64]:
    """Return the kept-unit number of each unit; the last entry (fixed = -1) = count."""
    count = int(keep.sum())
    numbers = np.full(len(keep) + 1, count, dtype=np.int64)
    numbers[:-1][keep] = np.arange(count)
    return numbers


def _medians(
    structure: Structure, keep: Mask, magnitude: Tensor, targets: Mask | None
) -> Tensor:
    """Return for each target the median magnitude of its group, 0 for other units.

    The median is over the units that stay, so that shrinking ones do not lower it.
    """
    wanted = keep if targets is None else keep & targets
    numbers = _numbers(keep)
    medians = torch.zeros(len(magnitude), dtype=torch.float64)
    for group in structure.groups:
        alive = group.units[keep[group.units]]
        chosen = alive[wanted[alive]]
        staying = alive[~wanted[alive]] if len(chosen) < len(alive) else alive
        if len(chosen):
            middle = magnitude[torch.from_numpy(numbers[staying])].median()
            medians[torch.from_numpy(numbers[chosen])] = middle
    return medians


def views(spec: ModelSpec, weights: Vector) -> dict[str, Tensor]:
    """Return each tensor of a flat vector as a view that shares its memory."""
    flat = torch.from_numpy(weights)
    out = {}
    start = 0
    for tensor in spec.tensors:
        out[tensor.name] = flat[start : start + tensor.size].reshape(tensor.shape)
        start += tensor.size
    return out


def shrink_weights(penalty: Penalty, spec: ModelSpec, weights: Vector) -> Vector:
    """Return flat weights after a whole round's penalty; the input is not changed."""
    out = weights.copy()
    penalty.shrink(views(spec, out), 1.0)
    return out


class DualSteps:
    """Pre-prox weights of one local training (dual averaging).

    The network itself has the shrunken weights.  Law: with a penalty that changes
    nothing the result equals that of training without a penalty.

    Args:
        penalty: The penalty, built for the broadcast.
        parameters: ``dict(model.named_parameters())``.
        steps: Local steps of this client, >= 1: each adds an equal part of the
            threshold, so the shrinkage does not depend on a client's number of
            examples.
    """

    def __init__(
        self, penalty: Penalty, parameters: Mapping[str, Tensor], steps: int
    ) -> None:
        self._penalty = penalty
        self._parameters = {name: parameters[name] for name in penalty.tensors}
        self._steps = steps
        self._done = 0
        self._dual = {n: p.detach().clone() for n, p in self._parameters.items()}
        self._used = {n: p.detach().clone() for n, p in self._parameters.items()}

    def after_step(self) -> None:
        """Add the optimiser's step to the pre-prox weights; shrink the network's."""
        self._done += 1
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.sub_(self._used[name])
                parameter.copy_(self._dual[name].add_(parameter))
            self._penalty.shrink(self._parameters, self._done / self._steps)
            for name, parameter in self._parameters.items():
                self._used[name].copy_(parameter)

    def restore(self) -> None:
        """Put the pre-prox weights into the network: the delta is made of these."""
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(self._dual[name])
