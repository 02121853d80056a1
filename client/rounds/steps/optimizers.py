"""The optimiser of one local training, fresh in every round."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from fedprune.common.codec.fields import OPTIMIZERS
from fedprune.common.errors import ConfigError
from fedprune.common.messages import TrainSettings

_SLOW = 0.999  # beta2 of Adam, as torch has it


class Steps(Protocol):
    """The part of an optimiser that training uses."""

    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: FBT001, FBT002 - torch's
        """Forget the gradients."""

    def step(self) -> object:
        """Change the weights by their gradients."""


class Sgd:
    """SGD on a CPU, with the bits of torch's, which imports torch's compiler.

    Args:
        trained: The parameters.
        settings: Learning rate, momentum and weight decay.
    """

    def __init__(
        self, trained: Sequence[nn.Parameter], settings: TrainSettings
    ) -> None:
        self._trained, self._settings = trained, settings
        self._momenta: dict[int, Tensor] = {}

    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: FBT001, FBT002 - torch's
        """Forget the gradients."""
        for weight in self._trained:
            if set_to_none or weight.grad is None:
                weight.grad = None
            else:
                weight.grad.zero_()

    def step(self) -> None:
        """Change the weights by their gradients."""
        with torch.no_grad():
            for number, weight in enumerate(self._trained):
                if weight.grad is not None:
                    change = self._change(number, weight, weight.grad)
                    weight.add_(change, alpha=-self._settings.lr)

    def _change(self, number: int, weight: Tensor, grad: Tensor) -> Tensor:
        decay, momentum = self._settings.weight_decay, self._settings.momentum
        if decay:
            grad = grad.add(weight, alpha=decay)
        if not momentum:
            return grad
        if number in self._momenta:
            self._momenta[number].mul_(momentum).add_(grad)
        else:
            self._momenta[number] = grad.clone()
        return self._momenta[number]


def build_optimizer(
    parameters: Iterable[nn.Parameter], settings: TrainSettings
) -> Steps:
    """Return the optimiser of those parameters that have a gradient.

    Penalties, masks and gates act on the weights after each of its steps, whichever it
    is.  ``settings.momentum`` is that of SGD and RMSprop, and beta1 of Adam and AdamW;
    the weight decay is decoupled for AdamW, and part of the gradient for the others.

    Args:
        parameters: ``model.parameters()``.
        settings: Name, learning rate, momentum and weight decay.

    Raises:
        ConfigError: If the name is unknown.
    """
    trained = [weight for weight in parameters if weight.requires_grad]
    lr, decay, momentum = settings.lr, settings.weight_decay, settings.momentum
    betas = (momentum, _SLOW)
    if settings.optimizer == "sgd":
        if all(weight.device.type == "cpu" for weight in trained):
            return Sgd(trained, settings)
        return torch.optim.SGD(trained, lr=lr, momentum=momentum, weight_decay=decay)
    if settings.optimizer == "adam":
        return torch.optim.Adam(trained, lr=lr, betas=betas, weight_decay=decay)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(trained, lr=lr, betas=betas, weight_decay=decay)
    if settings.optimizer == "rmsprop":
        return torch.optim.RMSprop(
            trained, lr=lr, momentum=momentum, weight_decay=decay
        )
    msg = f"optimizer is {settings.optimizer!r}; want one of {', '.join(OPTIMIZERS)}"
    raise ConfigError(msg)
