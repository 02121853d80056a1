"""Gates: factors on whole channels while a client trains (L0, targeted dropout).

Both act on the channels that later cuts would remove (``targets``), at the measuring
points of importance: the outputs of the norms that scale a unit, or else of the layers
that produce it.  A unit has one factor for all of its points.

``l0``: a hard-concrete gate for each unit, trained beside the weights (Louizos et al.
2018, arXiv:1712.01312).  After training the gates are folded into scales and shifts,
exactly, so the update of the client contains weights only.  A weight that several
modules share has no gate: the factor would be on the output of one of them, and folded
into all.

``targeted-dropout``: each target is zero in a step with probability ``strength``
(Gomez et al. 2019, arXiv:1905.13678), so that the network becomes independent of it.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fedprune.common.methods.method import Method
from fedprune.common.methods.penalty import BETA, GAMMA, ZETA, stretched
from fedprune.common.models.inputs import first_input
from fedprune.common.models.training import is_inside
from fedprune.common.pruning.importance import measure_points
from fedprune.common.sparsity.penalty import (
    PenaltySpec,
    build_penalty,
    checked_factor,
    shrink_weights,
)
from fedprune.common.spec import Mask, Vector
from fedprune.common.structure.after_cut.narrow_embedding import rows_of
from fedprune.common.structure.structure import FIXED, Structure

LOG_ALPHA = 2.0  # a fresh gate is nearly open
RATE = 0.05  # of Adam, for the gates alone


@dataclass(frozen=True, slots=True)
class _Point:
    """One module whose output channels get factors.

    Attributes:
        module: Its name.
        tensor: Name of its weight.
        dim: The dimension of the channels in that weight.
        units: Kept-unit number of each channel, int64[channels]; the last number
            (kept units) = no factor.
    """

    module: str
    tensor: str
    dim: int
    units: Tensor


class ChannelGates:
    """Factors on channels during one local training.

    Args:
        structure: The original network.
        keep: Keep mask of the trained network, bool[units].
        spec: Strength and targets of the penalty.
        method: Draws the factors of a step; a method that needs ``log_alpha`` has
            gates that are trained.
    """

    def __init__(
        self, structure: Structure, keep: Mask, spec: PenaltySpec, method: Method
    ) -> None:
        wanted = keep if spec.targets is None else keep & spec.targets
        self.strength = spec.strength
        self.trained = "log_alpha" in method.needs
        self.points = tuple(
            point
            for point in _points(structure, keep, wanted)
            if not is_inside(point.module, spec.frozen)
        )
        self._method = method
        touched = np.zeros(int(keep.sum()) + 1, dtype=np.bool_)
        for point in self.points:
            touched[point.units.numpy()] = True
        touched[-1] = False
        self.targets = torch.from_numpy(touched)
        start = torch.full((len(touched),), LOG_ALPHA)
        self.log_alpha = nn.Parameter(start, requires_grad=self.trained)
        self._factors: Tensor | None = None
        self._optimiser = torch.optim.Adam([self.log_alpha], lr=RATE)

    @contextmanager
    def attached(self, model: nn.Module) -> Iterator[None]:
        """Multiply outputs by the factors while the block runs, then fold the gates."""
        handles = [
            model.get_submodule(point.module).register_forward_hook(
                self._hook(point), with_kwargs=True
            )
            for point in self._gated(model)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        self.fold(model)

    def draw(self) -> None:
        """Draw the factors of the next step from torch's generator."""
        uniform = torch.rand(len(self.log_alpha))
        drawn = self._method(
            uniform=uniform, strength=self.strength, log_alpha=self.log_alpha
        )
        self._factors = checked_factor(self._method, drawn, uniform, self.targets)

    def cost(self) -> Tensor:
        """Return the loss term: strength times the expected share of open gates."""
        if not self.trained or not bool(self.targets.any()):
            return torch.zeros(())
        open_ = torch.sigmoid(self.log_alpha - BETA * math.log(-GAMMA / ZETA))
        return self.strength * open_[self.targets].mean()

    def step(self) -> None:
        """Take one step of the gates' optimiser, after the backward of the loss."""
        if self.log_alpha.grad is not None:
            self._optimiser.step()
            self._optimiser.zero_grad(set_to_none=True)

    def settled(self) -> Tensor:
        """Return the factors of evaluation, float32[kept units + 1], in 0..1."""
        if not self.trained:
            return torch.ones(len(self.log_alpha))
        with torch.no_grad():
            found = stretched(torch.sigmoid(self.log_alpha))
        return torch.where(self.targets, found, torch.ones_like(found))

    def fold(self, model: nn.Module) -> None:
        """Multiply scales, shifts, rows and biases by the factors of evaluation.

        Law: the folded network computes the same function as the gated one in
        evaluation.
        """
        if not self.trained:
            return
        tensors = dict(model.named_parameters())
        settled = self.settled()
        with torch.no_grad():
            for point in self._gated(model):
                weight = tensors[point.tensor]
                factor = settled[point.units].to(weight.device, weight.dtype)
                shape = [1] * weight.dim()
                shape[point.dim] = -1
                weight.mul_(factor.reshape(shape))
                bias = tensors.get(f"{point.module}.bias")
                if bias is not None:
                    bias.mul_(_of_each_group(factor, len(bias)))

    def _gated(self, model: nn.Module) -> list[_Point]:
        """Return the points that have factors in this network.

        Factors that are folded are on no weight which several modules share.
        """
        if not self.trained:
            return [*self.points]
        places = model.named_parameters(remove_duplicate=False)
        uses = Counter(id(weight) for _, weight in places)
        tensors = dict(model.named_parameters())
        return [one for one in self.points if uses[id(tensors[one.tensor])] == 1]

    def _hook(self, point: _Point) -> Callable[..., Tensor]:
        def gate(
            module: nn.Module,
            given: tuple[Tensor, ...],
            named: Mapping[str, Tensor],
            output: Tensor,
        ) -> Tensor:
            factors = self.settled() if self._factors is None else self._factors
            own = factors[point.units].to(output.device, output.dtype)
            if isinstance(module, nn.Embedding) and point.dim == 0:
                tokens = first_input(given, named)
                return output * own[rows_of(module, tokens)][..., None]
            shape = [1] * output.dim()
            last = isinstance(module, nn.Linear | nn.Embedding)
            axis = -1 if last else 1
            shape[axis] = -1
            return output * _of_each_group(own, output.shape[axis]).reshape(shape)

        return gate


def _of_each_group(factors: Tensor, channels: int) -> Tensor:
    """Return the factor of each output channel.

    In a transposed convolution a position of the weight makes one in each group.
    """
    return factors.repeat(channels // len(factors))


def build_gates(
    structure: Structure, keep: Mask, spec: PenaltySpec
) -> ChannelGates | None:
    """Return the gates of a penalty, or None for a penalty without gates.

    Raises:
        ConfigError: If the name is unknown, or means several gates.
    """
    found = [one for one in spec.methods if "threshold" not in one.needs]
    return ChannelGates(structure, keep, spec, found[0]) if found else None


def try_penalty(structure: Structure, weights: Vector, spec: PenaltySpec) -> None:
    """Apply a user's own penalty once to the uncut network, before a run starts.

    Args:
        structure: The original network.
        weights: Its weights, float32[n].
        spec: The penalty.

    Raises:
        ConfigError: If it fails, or returns no factor for each channel or entry.
    """
    if not any(one.own for one in spec.methods):
        return
    keep = structure.full()
    penalty = build_penalty(structure, keep, weights, spec)
    if penalty is not None:
        shrink_weights(penalty, structure.spec(keep), weights)
    gates = build_gates(structure, keep, spec)
    if gates is not None:
        with torch.random.fork_rng(devices=[]):
            gates.draw()


def _points(structure: Structure, keep: Mask, wanted: Mask) -> Iterator[_Point]:
    """Yield the modules whose outputs have wanted units."""
    numbers = np.cumsum(keep) - 1
    for point in measure_points(structure.living(keep)):
        if not point.module:
            continue  # heads inside nn.MultiheadAttention have no output of their own
        units = point.units[structure.kept_index(point.tensor, point.dim, keep)]
        free = (units != FIXED) & wanted[units]
        if free.any():
            found = np.where(free, numbers[units], int(keep.sum()))
            yield _Point(point.module, point.tensor, point.dim, torch.from_numpy(found))
