"""Training of the values of a codebook: equal weights of a matrix stay equal.

The gradient of a value is the sum of those of its weights (Han et al. 2016,
arXiv:1510.00149, section 3.3), and its rate the learning rate over their number: a step
is the part of an unbound step that leaves equal weights equal.  With the sum alone a
value of a thousand weights would take a thousand times the step.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fedprune.common.tasks.loaded import run_network


class SharedValues:
    """The codebooks that the weights of a network lie on.

    Args:
        model: The network; weights of 0 stay 0.
    """

    def __init__(self, model: nn.Module) -> None:
        self._groups = {
            name: _Groups(weight.detach())
            for name, weight in model.named_parameters()
            if weight.dim() > 1 and weight.requires_grad and weight.numel()
        }

    @contextmanager
    def attached(self, model: nn.Module) -> Iterator[None]:
        """Share gradients while the block runs; then make weights of a value equal.

        Frozen weights stay as they are.
        """
        weights = {n: w for n, w in model.named_parameters() if w.requires_grad}
        trained = {n: g for n, g in self._groups.items() if n in weights}
        handles = [
            weights[name].register_hook(_sharing(groups))  # type: ignore[no-untyped-call]
            for name, groups in trained.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        with torch.no_grad():
            for name, groups in trained.items():
                weights[name].copy_(groups.mean(weights[name]))

    def run(self, model: nn.Module, inputs: object) -> object:
        """Return the network's outputs."""
        return run_network(model, inputs)


class _Groups:
    """The groups of weights of a matrix that share a value.

    Args:
        weight: The matrix.
    """

    def __init__(self, weight: Tensor) -> None:
        _, number, count = torch.unique(weight, return_inverse=True, return_counts=True)
        self._number, self._count = number, count
        self._used = weight != 0

    def mean(self, entries: Tensor) -> Tensor:
        """Return for each weight the mean entry of its group; 0 for weights of 0."""
        sums = torch.zeros(len(self._count), dtype=torch.float32, device=entries.device)
        sums.index_add_(0, self._number.reshape(-1), entries.reshape(-1).float())
        found: Tensor = (sums / self._count)[self._number] * self._used
        return found.to(entries.dtype)


def _sharing(groups: _Groups) -> Callable[[Tensor], Tensor]:
    return lambda gradient: groups.mean(gradient.detach())
