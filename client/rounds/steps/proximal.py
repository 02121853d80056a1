"""The proximal term of FedProx, which keeps local training near the broadcast."""

import torch
from torch import nn


class ProximalTerm:
    """The gradient of ``mu / 2 * ||w - w_broadcast||**2``, added to that of the loss.

    Source: Li et al. 2020, arXiv:1812.06127, Eq. 2.

    Args:
        model: The network, with the weights of the broadcast.
        strength: mu, > 0.
    """

    def __init__(self, model: nn.Module, strength: float) -> None:
        self._strength = strength
        self._pairs = [
            (weight, weight.detach().clone())
            for weight in model.parameters()
            if weight.requires_grad
        ]

    def add_gradient(self) -> None:
        """Add ``mu * (w - w_broadcast)`` to the gradients, after the backward."""
        with torch.no_grad():
            for weight, start in self._pairs:
                if weight.grad is not None:
                    weight.grad.add_(weight - start, alpha=self._strength)


def proximal_term(model: nn.Module, strength: float) -> ProximalTerm | None:
    """Return the term, or None for a strength of 0: nothing is computed then."""
    return ProximalTerm(model, strength) if strength > 0.0 else None
