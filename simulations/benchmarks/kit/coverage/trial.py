"""Outputs of two networks, and how far they are apart."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fedprune.common.pruning.trial_modes import in_double
from fedprune.common.structure.tracing.find import Example

LIMIT = 1e-9  # relative, float64: a larger difference is another function
_LOW, _HIGH = 0.5, 1.5
_LEAST = 1e-6  # of the largest output: a tensor below it counts as one of that size
_STATISTICS = ("running_mean", "running_var")


def arguments(example: Example) -> tuple[object, ...]:
    """Return the positional arguments of an example."""
    return example if isinstance(example, tuple) else (example,)


def wide(example: Example) -> tuple[object, ...]:
    """Return the arguments of an example, floats in float64."""
    found: tuple[object, ...] = pytree.tree_map(_double, arguments(example))
    return found


def spread(network: nn.Module, seed: int) -> nn.Module:
    """Make every tensor of equal numbers random, in (0.5, 1.5), in place.

    Norms, their statistics and biases start as constants, which hide wrong cuts: a
    channel with shift 0 that was not removed is 0.
    """
    generator = torch.Generator().manual_seed(seed)
    for weight in network.parameters():
        if weight.is_complex():  # double() leaves them in single precision
            weight.data = weight.data.to(torch.complex128)
    tensors: list[Tensor] = [*network.parameters()]
    tensors += [b for n, b in network.named_buffers() if n.endswith(_STATISTICS)]
    with torch.no_grad():
        for item in tensors:
            if item.is_floating_point() and item.numel() > 1:
                flat = item.reshape(-1)
                if bool((flat == flat[0]).all()):
                    noise = torch.rand(item.shape, generator=generator)
                    item.copy_(_LOW + (_HIGH - _LOW) * noise)
    return network


def outputs(network: nn.Module, given: tuple[object, ...]) -> list[Tensor]:
    """Return all output tensors, in float64, of a run that draws the same numbers."""
    with torch.no_grad(), quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with in_double() if _is_double(network) else nullcontext():
            found = network(*given)
    leaves = [leaf for leaf in pytree.tree_leaves(found) if isinstance(leaf, Tensor)]
    return [
        (torch.view_as_real(leaf) if leaf.is_complex() else leaf).double()
        for leaf in leaves
    ]


def distance(wanted: list[Tensor], found: list[Tensor]) -> float:
    """Return the largest difference of two outputs, relative, tensor by tensor.

    Infinite for other shapes and where only one is finite, NaN where ``wanted`` is not
    finite.
    """
    if [x.shape for x in wanted] != [x.shape for x in found]:
        return math.inf
    if not all(bool(torch.isfinite(x).all()) for x in wanted):
        return math.nan
    if not all(bool(torch.isfinite(x).all()) for x in found):
        return math.inf
    tops = [float(x.abs().max()) if x.numel() else 0.0 for x in wanted]
    least = max(max(tops, default=0.0) * _LEAST, torch.finfo(torch.float64).tiny)
    return max(
        (
            float((x - y).abs().max()) / max(top, least)
            for x, y, top in zip(wanted, found, tops, strict=True)
            if x.numel()
        ),
        default=0.0,
    )


def _is_double(network: nn.Module) -> bool:
    return any(item.dtype == torch.float64 for item in network.parameters())


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore the warnings of foreign code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _double(leaf: object) -> object:
    if isinstance(leaf, Tensor) and leaf.is_floating_point():
        return leaf.double()
    return leaf
