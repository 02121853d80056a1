"""Int8 arithmetic while a network trains: the grids of an exported int8 file.

Jacob et al. 2018, arXiv:1712.05877.  Weights of convolutions, linear layers and packed
attention lie on a grid of each output channel, ``k * s`` with ``s = max|w| / 64`` and
k in -64..64 (record 0095); tables of embeddings and the inputs of these layers on one
of the whole tensor, ``(k - z) * s`` with k in 0..255 over their range, which contains
0: for inputs that of the batch.  Rounding is to the nearest, ties to even, and its
gradient is 1 (straight through, Bengio et al. 2013, arXiv:1308.3432).

Batch norm needs no folding: it multiplies an output channel of the weights by a number,
and with it the step of that channel.  The integers stay, but for their sign.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fedprune.common.models.inputs import arguments

_LEVELS = 64
_CODES = 255
_TABLE = -1  # one grid for the whole tensor
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_ROWS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_FED = (*_ROWS, *_TRANSPOSED)


class Int8:
    """Weights and inputs of a network as its int8 file will have them.

    Args:
        model: The network that is trained.
    """

    def __init__(self, model: nn.Module) -> None:
        self._axes = dict(_axes(model))

    @contextmanager
    def attached(self, model: nn.Module) -> Iterator[None]:
        """Round the inputs of layers while the block runs."""
        handles = [
            module.register_forward_pre_hook(_round_inputs, with_kwargs=True)
            for module in model.modules()
            if isinstance(module, _FED)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def weights(self, model: nn.Module) -> Mapping[str, Tensor]:
        """Return each rounded weight under its name; gradients reach the exact ones."""
        found = dict(model.named_parameters())
        return {name: on_int8(found[name], axis) for name, axis in self._axes.items()}

    def run(self, model: nn.Module, inputs: object) -> object:
        """Return the network's outputs with rounded weights."""
        given = arguments(model, inputs)
        return functional_call(model, dict(self.weights(model)), given)


def levels(weight: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return the integers of a weight and the step of each output channel.

    Args:
        weight: Float weight of two or more dimensions.
        axis: Dimension of its output channels, >= 0.

    Returns:
        Integers as floats in the shape of the weight, -64..64, and steps > 0,
        float32, of shape ``[1, ..., channels, ..., 1]``.
    """
    others = [dim for dim in range(weight.dim()) if dim != axis]
    largest = weight.detach().abs().amax(others, keepdim=True)
    # In float64, as onnxruntime does: the quotient of float32 differs in its last bit.
    step = (2.0 * largest.double() / (2 * _LEVELS)).float()
    step = torch.where(step < torch.finfo(torch.float32).tiny, 1.0, step)
    return torch.round(weight.detach() / step), step


def on_int8(weight: Tensor, axis: int) -> Tensor:
    """Return a weight on its grid; its gradient is that of the result.

    Args:
        weight: Float weight.
        axis: Dimension of its output channels; -1 = one grid, as for ``rounded``.
    """
    if axis == _TABLE:
        return rounded(weight)
    numbers, step = levels(weight, axis)
    return _straight(weight, numbers * step)


def rounded(value: Tensor) -> Tensor:
    """Return a tensor on the grid of its own range; its gradient is that of the result.

    Args:
        value: Float tensor with an entry.
    """
    with torch.no_grad():
        exact = value.detach().float()
        low, high = exact.amin().clamp(max=0.0), exact.amax().clamp(min=0.0)
        step = (high - low) / _CODES
        step = torch.where(step < torch.finfo(torch.float32).tiny, 1.0, step)
        zero = torch.round(-low / step)
        codes = (torch.round(exact / step) + zero).clamp(0, _CODES)
        found = ((codes - zero) * step).to(value.dtype)
    return _straight(value, found)


def _straight(value: Tensor, found: Tensor) -> Tensor:
    """Return ``found``, with the gradient of the identity to ``value``."""
    return found.detach() + (value - value.detach())


def _round_inputs(
    _: nn.Module, given: tuple[object, ...], named: Mapping[str, object]
) -> tuple[tuple[object, ...], dict[str, object]]:
    """Round the inputs of a layer, also those that are keywords."""
    positional = tuple(_rounded_if_float(item) for item in given)
    return positional, {key: _rounded_if_float(item) for key, item in named.items()}


def _rounded_if_float(item: object) -> object:
    if isinstance(item, Tensor) and item.is_floating_point() and item.numel():
        return rounded(item)
    return item


def _axes(model: nn.Module) -> Iterator[tuple[str, int]]:
    """Yield each weight that an int8 file quantises, and the axis of its channels."""
    names = {id(weight): name for name, weight in model.named_parameters()}
    for module in model.modules():
        for attribute, axis in _own_axes(module):
            name = names.get(id(getattr(module, attribute, None)))
            if name is not None:  # calculated weights and absent ones are left out
                yield name, axis


def _own_axes(module: nn.Module) -> Iterator[tuple[str, int]]:
    if isinstance(module, _ROWS):
        yield "weight", 0
    elif isinstance(module, _TRANSPOSED):
        yield "weight", 1
    elif isinstance(module, nn.Embedding):
        yield "weight", _TABLE
    elif isinstance(module, nn.MultiheadAttention):
        for part in ("in_proj", "q_proj", "k_proj", "v_proj"):
            yield f"{part}_weight", 0
    elif type(module).__name__ == "Conv1D":  # of transformers: [inputs, outputs]
        yield "weight", 1
