"""Example inputs without constant values, to test a network with."""

import torch
from torch import Tensor


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
