"""Gradients that are no longer than a bound."""

from collections.abc import Sequence

from torch import nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

_SMALL = 1e-6  # as torch adds it to a norm


def clip_gradients(weights: Sequence[nn.Parameter], most: float) -> None:
    """Shorten the gradients of weights to a norm over all of them, in place.

    Bit for bit as ``torch.nn.utils.clip_grad_norm_``, which multiplies every gradient
    by 1 where the norm is smaller.  On a CPU that is left out; elsewhere to read the
    norm would make the device wait.

    Args:
        weights: Parameters; those without a gradient are passed over.
        most: Largest norm, > 0.
    """
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    if not gradients:
        return
    norm = get_total_norm(gradients)
    if norm.device.type == "cpu" and bool(most / (norm + _SMALL) >= 1.0):
        return
    clip_grads_with_norm_(weights, most, norm)
