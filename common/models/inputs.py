"""Example inputs to test a network with: without constant values, long enough."""

import math

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

EXAMPLES = 4  # a batch norm over two numbers gives +-1, and gradients of rounding only


def without_constants(leaf: object, generator: torch.Generator) -> object:
    """Return an input; floats that are all equal become noise in (0, 1).

    A batch of zeros, as a server without data uses, would hide differences.
    """
    if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
        return leaf
    if leaf.numel() <= 1 or bool(leaf.min() != leaf.max()):
        return leaf
    noise = torch.rand(leaf.shape, generator=generator, dtype=torch.float64)
    return noise.to(leaf.dtype)


def longer_batch(inputs: tuple[object, ...]) -> tuple[object, ...]:
    """Return inputs of a batch of at least ``EXAMPLES`` examples.

    Args:
        inputs: Arguments, batch first.  They are returned as they are where a tensor
            has no batch dimension, or a long enough one.
    """
    leaves = [x for x in pytree.tree_leaves(inputs) if isinstance(x, Tensor)]
    if not leaves or any(not x.dim() or len(x) >= EXAMPLES for x in leaves):
        return inputs
    generator = torch.Generator().manual_seed(0)
    times = math.ceil(EXAMPLES / max(1, *map(len, leaves)))

    def longer(leaf: object) -> object:
        if not isinstance(leaf, Tensor):
            return leaf
        if not leaf.is_floating_point():
            return torch.cat([leaf] * times)
        shape = ((times - 1) * len(leaf), *leaf.shape[1:])
        noise = torch.rand(shape, generator=generator, dtype=leaf.dtype)
        return torch.cat([leaf, torch.cat([leaf] * (times - 1)) * noise])

    found: tuple[object, ...] = pytree.tree_map(longer, inputs)
    return found
