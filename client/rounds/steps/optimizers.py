"""The optimiser of one local training, fresh in every round."""

from collections.abc import Iterable

import torch
from torch import nn

from fedprune.common.codec.fields import OPTIMIZERS
from fedprune.common.errors import ConfigError
from fedprune.common.messages import TrainSettings

_SLOW = 0.999  # beta2 of Adam, as torch has it


def build_optimizer(
    parameters: Iterable[nn.Parameter], settings: TrainSettings
) -> torch.optim.Optimizer:
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
