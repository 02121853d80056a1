"""What channels of a network give out: summaries of module outputs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

SUMMARIES = ("activation-mean", "activation-variance", "apoz")


def summary(
    model: nn.Module, name: str, seen: Mapping[str, Tensor], criterion: str
) -> NDArray[np.float64]:
    """Return one of ``SUMMARIES`` of each channel of a module's output, float64.

    Args:
        model: The network.
        name: The module.
        seen: Outputs by module, as ``outputs`` records them.
        criterion: Mean magnitude, variance, or share of positive entries.
    """
    value = seen[name].double()
    last = isinstance(model.get_submodule(name), nn.Linear | nn.Embedding)
    axis = value.dim() - 1 if last else 1
    dims = [dim for dim in range(value.dim()) if dim != axis]
    if criterion == "activation-mean":
        return value.abs().mean(dim=dims).numpy()
    if criterion == "apoz":
        return (value > 0.0).double().mean(dim=dims).numpy()
    return value.var(dim=dims, correction=0).numpy()


@contextmanager
def outputs(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of modules while the block runs."""
    seen: dict[str, Tensor] = {}

    def recorder(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def record(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            # A copy: an activation behind it may work in place.
            seen[name] = output.clone()

        return record

    handles = [
        model.get_submodule(name).register_forward_hook(recorder(name))
        for name in names
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
