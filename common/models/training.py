"""Training of parts of a network: frozen modules, and the precision of a step.

A module that ``task.freeze`` names is frozen with everything inside of it: its weights
have no gradient, and its batch norms normalise by the moments of the first network.
"""

import difflib
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from fedprune.common.errors import ConfigError
from fedprune.common.messages import Statistics
from fedprune.common.models.flat import get_running, get_statistics, norm_modules
from fedprune.common.spec import Mask

_SHOWN = 8  # names in a message


def is_inside(name: str, modules: Collection[str]) -> bool:
    """Return whether a tensor or module is one of the modules, or inside of one.

    >>> is_inside("layers.0.weight", ["layers.0"]), is_inside("fc10.bias", ["fc1"])
    (True, False)
    """
    return any(name == one or name.startswith(f"{one}.") for one in modules)


@contextmanager
def frozen(model: nn.Module, modules: Collection[str]) -> Iterator[None]:
    """Switch off the gradients of frozen weights while the block runs.

    Args:
        model: The network; left as it was.
        modules: Names of the frozen modules; those that the network lacks, such as
            those in a dropped block, are passed over.
    """
    found = [
        weight
        for name, weight in model.named_parameters()
        if weight.requires_grad and is_inside(name, modules)
    ]
    for weight in found:
        weight.requires_grad = False
    try:
        yield
    finally:
        for weight in found:
            weight.requires_grad = True


def frozen_moments(model: nn.Module, modules: Collection[str]) -> Mask:
    """Return which batch-norm moments belong to frozen modules, bool[moments]."""
    parts = [
        np.full(norm.num_features, is_inside(name, modules))
        for name, norm in norm_modules(model)
    ]
    return np.concatenate([np.zeros(0, dtype=np.bool_), *parts])


def first_statistics(
    model: nn.Module, modules: Collection[str], running: Iterable[str] = ()
) -> Statistics | None:
    """Return the moments and running values of a network before its first round.

    Args:
        model: The uncut network in its initial state.
        modules: Names of the frozen modules.
        running: Names of the running buffers.

    Returns:
        Its running values, and its moments where a batch norm is frozen: else the first
        round measures all of them.  None if there are neither.
    """
    values = get_running(model, running)
    mean = variance = np.zeros(0, dtype=np.float32)
    if frozen_moments(model, modules).any():
        mean, variance = get_statistics(model)
    if not len(mean) and not len(values):
        return None
    return Statistics(num_examples=1, mean=mean, variance=variance, running=values)


def holders(model: nn.Module) -> frozenset[str]:
    """Return the names of the modules that have weights, the network itself aside."""
    return frozenset(
        name
        for name, module in model.named_modules()
        if name and next(module.parameters(), None) is not None
    )


def check_frozen(model: nn.Module, modules: Collection[str]) -> None:
    """Check that every name is a module, and that something is left to train.

    Args:
        model: The uncut network.
        modules: ``task.freeze``.

    Raises:
        ConfigError: If a name is not that of a module with weights, if a frozen weight
            has its name outside of the frozen modules, or if all weights are frozen.
    """
    known = holders(model)
    for name in modules:
        if name not in known:
            msg = f"task.freeze: found '{name}', want a module with weights; "
            raise ConfigError(msg + _meant(name, known))
    own = {id(weight): name for name, weight in model.named_parameters()}
    for name in modules:
        for weight in model.get_submodule(name).parameters():
            if not is_inside(own[id(weight)], modules):
                msg = f"task.freeze: a weight of '{name}' is also '{own[id(weight)]}'; "
                raise ConfigError(msg + "want the module of that name in the list too")
    left = [n for n, w in model.named_parameters() if w.requires_grad]
    if modules and all(is_inside(name, modules) for name in left):
        msg = "task.freeze: found all weights frozen, want some that are trained"
        raise ConfigError(msg)


def autocast(model: nn.Module, precision: str) -> AbstractContextManager[object]:
    """Return the context in which a training step computes its forward and its loss.

    Args:
        model: The network; its first weight says which device computes.
        precision: "float32", which changes nothing, or "bf16": matrix products and
            convolutions in bfloat16, by torch's own list (``torch.autocast``).
    """
    if precision != "bf16":
        return nullcontext()
    weight = next(model.parameters(), None)
    device = "cpu" if weight is None else weight.device.type
    return torch.autocast(device, dtype=torch.bfloat16)


def at_least_float32(values: Tensor) -> Tensor:
    """Return values as float32, or as they are if they are finer.

    Sums in bfloat16, which has eight bits, would be too coarse.
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _meant(name: str, known: Collection[str]) -> str:
    """Return a hint: the module that was probably meant, or the modules there are."""
    ordered = sorted(known)
    close = [one for one in (name.rpartition(".")[0],) if one in known]
    close += difflib.get_close_matches(name, ordered, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    more = ", ..." if len(ordered) > _SHOWN else ""
    return f"the network has {', '.join(ordered[:_SHOWN])}{more}"
