"""L1-type penalties by proximal steps: exact zeros, not small numbers.

A penalty is a map from (weights, threshold) to shrunken weights.  Which tensors it
touches is worked out once for a cut network (``Penalty.build``); the same object
serves the client (after each local step) and the server (once a round).

Clients train as in Federated Dual Averaging (Yuan et al. 2021, arXiv:2011.08474,
Alg. 1): they accumulate steps on the pre-prox weights, use the shrunken ones for the
gradient, and send the change of the pre-prox weights.  The server adds the mean and
applies the whole threshold once: averaging cannot fill zeros in again, and each round
shrinks once, not once per client and once more at the server.

Units and ranges: a threshold is in weight magnitude (root mean square over the
entries of the unit), >= 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common.errors import ConfigError
from common.messages import Mask, ModelSpec, Vector
from common.pruning.structure import Structure

PENALTIES = ("none", "l1", "group", "bn-l1", "bn-l1+group")

# A step never shrinks a pruning group by more than this share of its median unit: at
# least half of each group outlives any round, so no layer can collapse.
_GROUP_CAP = 0.5


@dataclass(frozen=True, slots=True)
class _Slice:
    """One tensor dimension and the kept unit of each position (last = fixed)."""

    tensor: str
    dim: int
    units: Tensor


@dataclass(frozen=True, slots=True)
class Penalty:
    """A penalty laid out for one cut network.

    Attributes:
        units: Number of kept units.
        groups: The kept units of each pruning group.
        norms: Batch-norm weights and biases with the unit of each channel; empty for
            networks without batch norm.
        slices: All trained (tensor, dim) with units, for group lasso without norms.
        weights: Names of tensors under plain L1.
        norm_steps: How many proximal factors the norms get ("bn-l1", "group").
        scales: Names of the norm weights among ``norms``.
    """

    units: int
    groups: tuple[Tensor, ...]
    norms: tuple[_Slice, ...]
    scales: frozenset[str]
    slices: tuple[_Slice, ...]
    weights: tuple[str, ...]
    use_gamma: bool
    use_output: bool

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors that the penalty may change, without repeats."""
        names = [s.tensor for s in (*self.norms, *self.slices)] + list(self.weights)
        return tuple(dict.fromkeys(names))

    def shrink(self, tensors: Mapping[str, Tensor], threshold: float) -> None:
        """Apply one proximal step in place.

        Args:
            tensors: The tensors named by ``tensors``; changed in place.
            threshold: Shrink in weight magnitude, >= 0; 0 changes nothing.
        """
        if threshold <= 0.0:
            return
        with torch.no_grad():
            for name in self.weights:
                value = tensors[name]
                shrunk = torch.clamp(value.abs() - threshold, min=0.0)
                value.copy_(torch.copysign(shrunk, value))
            if self.use_gamma:
                scales = tuple(s for s in self.norms if s.tensor in self.scales)
                self._shrink_groups(tensors, scales, self.norms, threshold)
            if self.use_output:
                self._shrink_groups(tensors, self.norms, self.norms, threshold)
            if self.slices:
                self._shrink_groups(tensors, self.slices, self.slices, threshold)

    def _shrink_groups(
        self,
        tensors: Mapping[str, Tensor],
        measured: tuple[_Slice, ...],
        changed: tuple[_Slice, ...],
        threshold: float,
    ) -> None:
        """Multiply each unit by max(0, 1 - threshold / its root mean square).

        Source: the proximal operator of the group lasso, Yuan & Lin 2006; the root
        mean square is the norm over the square root of the group's size.
        """
        total = torch.zeros(self.units + 1, dtype=torch.float64)
        count = torch.zeros(self.units + 1, dtype=torch.float64)
        for part in measured:
            value = tensors[part.tensor]
            square = value.to(torch.float64) ** 2
            rest = [d for d in range(value.dim()) if d != part.dim]
            total.index_add_(0, part.units, square.sum(dim=rest) if rest else square)
            size = value.numel() // max(value.shape[part.dim], 1)
            count.index_add_(
                0, part.units, torch.full((len(part.units),), float(size)).double()
            )
        rms = torch.sqrt(total / torch.clamp(count, min=1.0))
        shrink = self._capped(rms, threshold)
        factor = torch.clamp(1.0 - shrink / torch.clamp(rms, min=1e-30), min=0.0)
        factor[self.units] = 1.0
        for part in changed:
            value = tensors[part.tensor]
            shape = [1] * value.dim()
            shape[part.dim] = -1
            value.mul_(factor[part.units].to(value.dtype).reshape(shape))


    def _capped(self, rms: Tensor, threshold: float) -> Tensor:
        """Return the threshold of each unit, capped within its pruning group."""
        shrink = torch.full_like(rms, threshold)
        for units in self.groups:
            cap = _GROUP_CAP * float(rms[units].median())
            if cap < threshold:
                shrink[units] = cap
        return shrink


def build_penalty(structure: Structure, keep: Mask, name: str) -> Penalty | None:
    """Lay a penalty out for the network that ``keep`` leaves.

    With batch norm: "bn-l1" is L1 on gamma, shared by the pruning group (the root
    mean square of the unit's gammas); "group" is group lasso on the root mean square
    of the normalised output, ``sqrt(mean(gamma**2 + beta**2))``: the norm of the
    BN-folded channel, whatever scale the convolution in front has.  Both change
    gamma and beta together, so a dead unit is dead in every tensor of its norms.
    Raw convolution weights in front of batch norm are never shrunken: their scale is
    divided out again, so that it makes no zeros and only hurts.

    Without batch norm: "group" is group lasso over all tensors of the unit, "l1" (and
    "bn-l1") is L1 on every weight of two or more dimensions.

    Raises:
        ConfigError: If the name is unknown.
    """
    if name not in PENALTIES:
        msg = f"client.penalty is '{name}'; want one of {', '.join(PENALTIES)}"
        raise ConfigError(msg)
    if name == "none":
        return None
    parts = set(name.split("+"))
    places = np.full(structure.units + 1, int(keep.sum()), dtype=np.int64)
    places[:-1][keep] = np.arange(int(keep.sum()))
    norm_weights = {norm for group in structure.groups for norm in group.norms}
    norm_biases = {norm.removesuffix("weight") + "bias" for norm in norm_weights}
    trained = {tensor.name: len(tensor.shape) for tensor in structure.tensors}
    slices = tuple(
        _Slice(d.tensor, d.dim, _kept_units(structure, d.tensor, d.dim, keep, places))
        for d in structure.dims
        if d.tensor in trained
    )
    norms = tuple(s for s in slices if s.tensor in norm_weights | norm_biases)
    plain = () if norms else tuple(n for n, dims in trained.items() if dims > 1)
    return Penalty(
        units=int(keep.sum()),
        groups=tuple(
            torch.from_numpy(places[group.units[keep[group.units]]])
            for group in structure.groups
        ),
        norms=norms,
        scales=frozenset(norm_weights),
        slices=slices if "group" in parts and not norms else (),
        weights=plain if parts & {"l1", "bn-l1"} else (),
        use_gamma=bool(norms) and bool(parts & {"l1", "bn-l1"}),
        use_output=bool(norms) and "group" in parts,
    )


def _kept_units(
    structure: Structure, tensor: str, dim: int, keep: Mask, places: np.ndarray
) -> Tensor:
    """Return the kept-unit number of each remaining position; fixed = last."""
    units = next(d.units for d in structure.dims if d.tensor == tensor and d.dim == dim)
    kept = structure.kept_index(tensor, dim, keep)
    return torch.from_numpy(places[units[kept]])


def views(spec: ModelSpec, weights: Vector) -> dict[str, Tensor]:
    """Return each tensor of a flat vector as a view that shares its memory."""
    flat = torch.from_numpy(weights)
    out = {}
    start = 0
    for tensor in spec.tensors:
        out[tensor.name] = flat[start : start + tensor.size].reshape(tensor.shape)
        start += tensor.size
    return out


def shrink_weights(
    penalty: Penalty, spec: ModelSpec, weights: Vector, threshold: float
) -> Vector:
    """Return flat weights after one proximal step; the input is not changed."""
    out = weights.copy()
    penalty.shrink(views(spec, out), threshold)
    return out


class DualSteps:
    """Pre-prox weights of one local training, beside the network that uses them.

    Law: with threshold 0 the network and ``change`` are those of plain training.

    Args:
        penalty: The penalty, laid out for the network.
        parameters: ``dict(model.named_parameters())``.
        threshold: Threshold of the whole round.
        steps: Local steps of this client, >= 1: each adds an equal part, so the size
            of the shrink does not depend on how much data a client has.
    """

    def __init__(
        self,
        penalty: Penalty,
        parameters: Mapping[str, Tensor],
        threshold: float,
        steps: int,
    ) -> None:
        self._penalty = penalty
        self._parameters = {name: parameters[name] for name in penalty.tensors}
        self._threshold = threshold
        self._steps = steps
        self._done = 0
        self._dual = {n: p.detach().clone() for n, p in self._parameters.items()}
        self._used = {n: p.detach().clone() for n, p in self._parameters.items()}

    def after_step(self) -> None:
        """Take up the optimiser's step and put shrunken weights in its place."""
        self._done += 1
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                self._dual[name] += parameter - self._used[name]
                parameter.copy_(self._dual[name])
            part = self._threshold * self._done / self._steps
            self._penalty.shrink(self._parameters, part)
            for name, parameter in self._parameters.items():
                self._used[name].copy_(parameter)

    def restore(self) -> None:
        """Put the pre-prox weights into the network: what the client answers with."""
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(self._dual[name])
