"""Check of buffers: state that a federation would lose is refused before a run.

Weights are averaged, batch-norm moments are pooled; any other buffer stays as the
network's code made it, on the server and in the final file.
"""

import copy

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

_POOLED = ("running_mean", "running_var", "num_batches_tracked")
_NAMED = 5  # buffers in a message
_TYPES = frozenset(
    {
        *(torch.float16, torch.float32, torch.float64, torch.complex64, torch.bool),
        *(torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    }
)


def check_buffers(model: nn.Module, example: object) -> None:
    """Refuse state that no file can store, and buffers that a training step changes.

    Args:
        model: The network; left as it was.
        example: One valid input, batch first, as of ``find_structure``.

    Raises:
        ConfigError: If the network does not run in training mode, a buffer that
            belongs to its state changes and is no batch-norm moment, or a file cannot
            store a part of its state.
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
    names = sorted(before.keys() | after.keys())
    changed = [name for name in names if not _same(before.get(name), after.get(name))]
    if not changed:
        return
    listed = and_more([f"'{name}'" for name in changed], _NAMED)
    msg = (
        f"training changes {listed}, which no client sends, so the final network "
        "would not have it; want buffers that stay constant: track_running_stats=False "
        "for instance norms, BatchNorm for running statistics, or persistent=False for "
        "what is only a cache"
    )
    raise ConfigError(msg)


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


def _state(network: nn.Module) -> dict[str, Tensor]:
    """Return copies of the buffers of a network's state that are not pooled."""
    known = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            known |= {f"{name}.{item}" if name else item for item in _POOLED}
    return {
        name: item.detach().clone()
        for name, item in network.state_dict().items()
        if isinstance(item, Tensor) and name not in known
    }


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
    if before is None or after is None or before.dtype != after.dtype:
        return False
    if before.shape != after.shape:
        return False
    # Bit by bit: a buffer may hold NaN.
    pair = [item.contiguous().reshape(-1).view(torch.uint8) for item in (before, after)]
    return torch.equal(*pair)
