"""Fine-tune the values of a codebook on data; which weight has which value stays.

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
from fedprune.common.seeding import Use, generator
from fedprune.common.spec import Vector
from fedprune.common.task import Task
from fedprune.simulations.export.onnx_int8 import one_thread

_BATCH = 64
_STEP = 0.01  # of the root mean square of a tensor's weights
_STREAM = "codebook"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """A network whose codebook was fine-tuned.

    Attributes:
        weights: float32[n]; equal weights of a matrix are still equal, 0 is still 0.
        loss_before: Mean training loss of the codebook that it began with.
        loss_after: Mean training loss of ``weights``, at most ``loss_before``.
    """

    weights: Vector
    loss_before: float
    loss_after: float


@dataclass(frozen=True, slots=True)
class _Book:
    """A matrix as the values that its weights share.

    Attributes:
        values: Values other than 0, float32[k], trained.
        symbols: 0, or 1 + the number of the value, int64, in the shape of the matrix.
        step: How far a value moves at first, > 0.
    """

    values: Tensor
    symbols: Tensor
    step: float

    def matrix(self) -> Tensor:
        """Return the weights; the gradients of equal ones add up in their value."""
        return torch.cat([self.values.new_zeros(1), self.values])[self.symbols]


Books = Mapping[str, _Book]


def tune_centroids(model: nn.Module, weights: Vector, task: Task, epochs: int) -> Tuned:
    """Train the values of a coded network on the training examples of a task.

    Batch norm keeps its moments, dropout is off, biases and norms stay as they are.
    What is returned is the best of all epochs by training loss, or what was given.

    Args:
        model: A network of these shapes; it is left in eval mode with the weights
            that are returned.
        weights: What a codebook decodes to, float32[n].
        task: Gives examples, loss and seed.
        epochs: Passes over the examples, >= 1.
    """
    set_weights(model, weights)
    model.eval()
    books = _books(model)
    optimiser = torch.optim.Adam(
        [{"params": [book.values], "lr": book.step} for book in books.values()]
    )
    with one_thread():
        before = least = _loss(model, task)
        best = weights
        for epoch in range(epochs):
            _pass(model, books, optimiser, task, epoch)
            _write(model, books)
            loss = _loss(model, task)
            if loss < least:
                least, best = loss, get_weights(model)
    set_weights(model, best)
    return Tuned(weights=best, loss_before=before, loss_after=least)


def _books(model: nn.Module) -> Books:
    """Return every matrix that has a weight other than 0."""
    found = {}
    for name, weight in model.named_parameters():
        held = weight.detach()
        values = torch.unique(held[held != 0])
        if held.dim() < 2 or not len(values):  # noqa: PLR2004 - biases have no codebook
            continue
        symbols = torch.where(held == 0, 0, torch.searchsorted(values, held) + 1)
        step = _STEP * float(held.double().square().mean().sqrt())
        found[name] = _Book(values.requires_grad_(), symbols, step)
    return found


def _pass(
    model: nn.Module,
    books: Books,
    optimiser: torch.optim.Optimizer,
    task: Task,
    epoch: int,
) -> None:
    """Train on every example once, in an order of the run's seed."""
    examples = task.dataset.train
    rng = generator(task.config.run.seed, epoch, _STREAM, Use.SHUFFLE)
    order = rng.permutation(len(examples))
    for batch in np.array_split(order, -(-len(order) // _BATCH)):
        found = examples.batch(batch)
        optimiser.zero_grad()
        matrices = {name: book.matrix() for name, book in books.items()}
        outputs = functional_call(model, matrices, (found.inputs,))
        task.loss(outputs, found).mean().backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def _write(model: nn.Module, books: Books) -> None:
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name in books:
                weight.copy_(books[name].matrix())


def _loss(model: nn.Module, task: Task) -> float:
    found = validate(model, task.dataset.train, task)
    return found.loss_sum / found.count
