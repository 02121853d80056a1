"""Buffers: which of them training changes, and whether clients can average these.

Weights are averaged, batch-norm moments are pooled.  Each other buffer of floats that
training changes is a running buffer, and is averaged as well; constant ones stay as the
network's code made them, on the server and in the final file; a changing buffer of
another type is refused before a run.
"""

import copy
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from fedprune.common.errors import ConfigError
from fedprune.common.models.inputs import (
    Arguments,
    arguments,
    copied,
    tensors_in,
    without_constants,
)
from fedprune.common.text import and_more, first_line

_COUNTER = "num_batches_tracked"
_POOLED = ("running_mean", "running_var", _COUNTER)
_NAMED = 5  # buffers in a message
_TYPES = frozenset(
    {
        *(torch.float16, torch.float32, torch.float64, torch.complex64, torch.bool),
        *(torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    }
)


def running_buffers(model: nn.Module, example: object) -> tuple[str, ...]:
    """Return the running buffers of a network, in model order.

    Batch-norm moments are pooled and not among them; constant buffers of any type stay
    as they are; batch counters (``num_batches_tracked``) start anew in each round.

    Args:
        model: The network; left as it was.
        example: One valid input, batch first, as of ``find_structure``.

    Raises:
        ConfigError: If the network does not run in training mode, a buffer of its state
            changes that cannot be averaged, or a file cannot store a part of its state.
    """
    _check_files(model)
    network = copy.deepcopy(model).train()
    before = _state(network)
    generator = torch.Generator().manual_seed(0)
    given = arguments(model, example)
    _step(
        network,
        pytree.tree_map(lambda leaf: without_constants(leaf, generator), given),
    )
    after = _state(network)
    found = [name for name, _ in model.named_buffers() if name in before]
    changed = [x for x in found if not _same(before[x], after.get(x))]
    refused = {
        name: _obstacle(before.get(name), after.get(name))
        for name in [*changed, *(after.keys() - before.keys())]
    }
    listed = [f"'{name}' ({why})" for name, why in sorted(refused.items()) if why]
    if listed:
        msg = (
            f"training changes {and_more(listed, _NAMED)}, which clients cannot "
            "average, so the final network would not have it; want a buffer of floats "
            "of one shape, the name num_batches_tracked for a count of batches, or "
            "persistent=False for what is only a cache"
        )
        raise ConfigError(msg)
    return tuple(changed)


def changed_buffers(
    first: Mapping[str, Tensor], model: nn.Module, running: Collection[str]
) -> str:
    """Return the buffers of a trained network that differ and are not averaged, or "".

    Args:
        first: Every buffer before the training, with its name.
        model: The network after it.
        running: Names of the buffers that are averaged.
    """
    changed = [
        f"'{name}'"
        for name, item in _state(model, copies=False).items()
        if name in first and name not in running and not _same(first[name], item)
    ]
    return and_more(changed, _NAMED) if changed else ""


def drawn_buffers(one: nn.Module, other: nn.Module) -> str:
    """Return the buffers that no file holds and that random numbers decide, or "".

    Args:
        one: The network as its code makes it with one seed.
        other: The same with another seed.
    """
    stored, again = one.state_dict().keys(), dict(other.named_buffers())
    drawn = [
        f"'{name}'"
        for name, item in one.named_buffers()
        if name not in stored and not _same(item, again.get(name))
    ]
    return and_more(drawn, _NAMED) if drawn else ""


def is_like(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors have one type and one shape."""
    return one.dtype == other.dtype and one.shape == other.shape


def _obstacle(before: Tensor | None, after: Tensor | None) -> str:
    """Return why clients cannot average a buffer, or ""."""
    if before is None:
        return "which is not there before"
    if after is None:
        return "which is not there afterwards"
    if not before.is_floating_point():
        return str(before.dtype).removeprefix("torch.")
    if not is_like(before, after):
        return "whose shape or type changes"
    if not bool(torch.isfinite(after).all()):
        return "which becomes infinite or NaN"
    return ""


def _check_files(model: nn.Module) -> None:
    """Refuse state that could not be written when the run has ended."""
    for name, item in model.state_dict().items():
        if not isinstance(item, Tensor):
            msg = f"'{name}' is a {type(item).__name__} in the network's state; want"
            msg += " tensors only, because files store tensors"
            raise ConfigError(msg)
        if item.dtype not in _TYPES:
            msg = f"tensor '{name}' has type {item.dtype}, which files cannot store;"
            msg += " want float32, an integer type or bool, or persistent=False"
            raise ConfigError(msg)
        if not bool(torch.isfinite(item).all()):
            msg = f"tensor '{name}' holds values that are not finite, which files do"
            msg += " not store; want large numbers instead, or persistent=False"
            raise ConfigError(msg)


def _state(network: nn.Module, *, copies: bool = True) -> dict[str, Tensor]:
    """Return the buffers of a network's state that are neither pooled nor counters."""
    known = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            known |= {f"{name}.{item}" if name else item for item in _POOLED}
    return {
        name: item.detach().clone() if copies else item.detach()
        for name, item in network.state_dict().items()
        if isinstance(item, Tensor)
        and name not in known
        and not _is_counter(name, item)
    }


def _is_counter(name: str, item: Tensor) -> bool:
    """Return whether a tensor counts the batches that a norm has seen."""
    return name.rpartition(".")[2] == _COUNTER and not item.is_floating_point()


def _step(network: nn.Module, inputs: Arguments) -> None:
    """Train one step as a client does, and run again; the generator is not moved."""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            leaves = tensors_in(network(*copied(inputs)))
            outputs = [x for x in leaves if x.requires_grad]
            torch.autograd.backward([item.abs().sum() for item in outputs])
            with torch.no_grad():
                # Some buffers follow the weights, and change only with them.
                for weight in network.parameters():
                    if weight.is_floating_point():
                        weight.mul_(1.0 + 0.1 * torch.rand_like(weight))
                network(*copied(inputs))
    except (Exception, SystemExit) as error:  # the network's own code runs here
        text = first_line(error)
        msg = f"the network does not run in training mode: {text}"
        raise ConfigError(msg) from error


def _same(before: Tensor | None, after: Tensor | None) -> bool:
    if before is None or after is None or not is_like(before, after):
        return False
    # Bit by bit: a buffer may hold NaN.
    pair = [item.contiguous().reshape(-1).view(torch.uint8) for item in (before, after)]
    return torch.equal(*pair)
