"""Fine-tuning of a codebook's values on data; the assignment of weights is fixed.

The values are trained instead of the weights: the gradient of one is the sum of those
of the weights that share it (Han et al. 2016, arXiv:1510.00149, section 3.3).  They
move by Adam (Kingma and Ba 2015, arXiv:1412.6980), in steps of a share of their
tensor's root mean square: how many weights share a value does not change its step.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from fedprune.client.rounds.measure import validate
from fedprune.common.models.flat import get_weights, set_weights
from fedprune.common.models.inputs import arguments
from fedprune.common.seeding import Use, generator
from fedprune.common.spec import Vector
from fedprune.common.system.device import one_thread
from fedprune.common.tasks.counted import chosen, counted, number_of
from fedprune.common.tasks.loaded import LoadedTask

_BATCH = 64
_STEP = 0.01  # of the root mean square of a tensor's weights
_STREAM = "codebook"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """A network whose codebook was fine-tuned.

    Attributes:
        weights: float32[n]; equal weights of a matrix are still equal, 0 is still 0.
        loss_before: Mean training loss of the initial codebook.
        loss_after: Mean training loss of ``weights``, at most ``loss_before``.
    """

    weights: Vector
    loss_before: float
    loss_after: float


@dataclass(frozen=True, slots=True)
class _Codebook:
    """The codebook of a matrix: the values that its weights share.

    Attributes:
        values: Values other than 0, float32[k], trained.
        symbols: 0, or 1 + the number of the value, int64, in the shape of the matrix.
        step: Length of the first steps of a value, > 0.
    """

    values: Tensor
    symbols: Tensor
    step: float

    def matrix(self) -> Tensor:
        """Return the weights; the gradients of equal ones add up in their value."""
        return torch.cat([self.values.new_zeros(1), self.values])[self.symbols]


Codebooks = Mapping[str, _Codebook]


def tune_centroids(
    model: nn.Module, weights: Vector, task: LoadedTask, epochs: int
) -> Tuned:
    """Train the values of a coded network on the training examples of a task.

    Batch norm keeps its moments, dropout is off, biases and norms do not change.  The
    result is the best of all epochs by training loss, or the given weights.

    Args:
        model: A network of these shapes; it is left in eval mode with the weights
            that are returned.
        weights: Decoded weights of a codebook, float32[n].
        task: LoadedTask with examples, loss and seed.
        epochs: Passes over the examples, >= 1.
    """
    set_weights(model, weights)
    model.eval()
    codebooks = _codebooks(model)
    optimiser = torch.optim.Adam(
        [
            {"params": [codebook.values], "lr": codebook.step}
            for codebook in codebooks.values()
        ]
    )
    with one_thread():
        before = least = _loss(model, task)
        best = weights
        for epoch in range(epochs):
            _pass(model, codebooks, optimiser, task, epoch)
            _write(model, codebooks)
            loss = _loss(model, task)
            if loss < least:
                least, best = loss, get_weights(model)
    set_weights(model, best)
    return Tuned(weights=best, loss_before=before, loss_after=least)


def _codebooks(model: nn.Module) -> Codebooks:
    """Return every matrix that has a weight other than 0."""
    found = {}
    for name, parameter in model.named_parameters():
        weight = parameter.detach()
        values = torch.unique(weight[weight != 0])
        if weight.dim() < 2 or not len(values):  # noqa: PLR2004 - biases have no codebook
            continue
        symbols = torch.where(weight == 0, 0, torch.searchsorted(values, weight) + 1)
        step = _STEP * float(weight.double().square().mean().sqrt())
        found[name] = _Codebook(values.requires_grad_(), symbols, step)
    return found


def _pass(
    model: nn.Module,
    codebooks: Codebooks,
    optimiser: torch.optim.Optimizer,
    task: LoadedTask,
    epoch: int,
) -> None:
    """Train on every example once, in an order of the run's seed."""
    examples = task.sample
    rng = generator(task.config.run.seed, epoch, _STREAM, Use.SHUFFLE)
    order = rng.permutation(len(examples))
    for batch in np.array_split(order, -(-len(order) // _BATCH)):
        found = examples.batch(batch)
        counts = counted(task, found)
        if not number_of(counts, found):
            continue
        optimiser.zero_grad()
        matrices = {name: codebook.matrix() for name, codebook in codebooks.items()}
        outputs = functional_call(model, matrices, arguments(model, found.inputs))
        loss = chosen(task.loss(outputs, found), counts).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def _write(model: nn.Module, codebooks: Codebooks) -> None:
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in codebooks:
                weight.copy_(codebooks[name].matrix())


def _loss(model: nn.Module, task: LoadedTask) -> float:
    found = validate(model, task.sample, task)
    return found.loss_sum / max(found.count, 1)
