"""The same networks cut by torch-pruning, evaluated as ours are.

Weights are numbered before the cut, so that what is left names the entries that stay.
The dense network without the other entries must then equal the cut one.
"""

import copy
import math
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fedprune.common.text import first_line
from fedprune.simulations.benchmarks.kit.coverage.exact import BATCHES
from fedprune.simulations.benchmarks.kit.coverage.nets.entry import Inputs
from fedprune.simulations.benchmarks.kit.coverage.row import (
    BREAKS,
    CRASHED,
    EXACT,
    INEXACT,
    NOTHING,
)
from fedprune.simulations.benchmarks.kit.coverage.trial import (
    LIMIT,
    distance,
    outputs,
    quiet,
    spread,
    wide,
)

_RATIO = 0.5
_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)  # noqa: SLF001 - the base of all convolutions
Result = tuple[str, str]


def cut_by_rival(network: nn.Module, inputs: Inputs) -> Result:
    """Return torch-pruning's outcome on a network, and the message of a failure.

    Half of the channels of each layer go; layers that make the outputs are ignored.

    Args:
        network: The dense network; it is left as it was.
        inputs: Its inputs.
    """
    dense = spread(copy.deepcopy(network).double().eval(), seed=1)
    numbered = copy.deepcopy(dense)
    _number(numbered)
    try:
        cut = _cut(numbered, wide(inputs(1)))
    except TimeoutError:
        raise
    except Exception as error:  # whatever it raises on this network
        return CRASHED, first_line(error, kind=True)
    if _size(cut) == _size(dense):
        return NOTHING, ""
    masked = copy.deepcopy(dense)
    try:
        _transfer(dense, masked, cut)
        apart = 0.0
        for size in BATCHES:
            batch = wide(inputs(size))
            wanted, found = outputs(masked, batch), outputs(cut, batch)
            apart = max(apart, distance(wanted, found))
    except TimeoutError:
        raise
    except Exception as error:  # its cut network, on any input
        return BREAKS, first_line(error, kind=True)
    if math.isnan(apart) or apart > LIMIT:
        return INEXACT, f"differs by {apart:.1e} of the largest output"
    return EXACT, ""


def _cut(network: nn.Module, given: tuple[object, ...]) -> nn.Module:
    pruning: Any = import_module("torch_pruning")
    with quiet():
        pruner = pruning.pruner.BasePruner(
            network,
            given if len(given) > 1 else given[0],
            importance=pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=_RATIO,
            ignored_layers=output_layers(network, given),
        )
        pruner.step()
    return network.eval()


def output_layers(network: nn.Module, given: tuple[object, ...]) -> list[nn.Module]:
    """Return the linear layers and convolutions nearest to the outputs.

    They are found by walking back from the outputs, along what autograd recorded.
    """
    owners: dict[int, nn.Module] = {
        id(item): module
        for module in network.modules()
        if isinstance(module, _LAYERS)
        for item in module.parameters(recurse=False)
    }
    with quiet(), torch.enable_grad():
        found = network(*given)
    leaves = [x for x in pytree.tree_leaves(found) if isinstance(x, Tensor)]
    todo = [x.grad_fn for x in leaves if x.grad_fn is not None]
    seen: set[object] = set()
    layers: list[nn.Module] = []
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        parents = [parent for parent, _ in node.next_functions if parent is not None]
        here = _owner(parents, owners)
        if here is None:
            todo += parents
        elif here not in layers:
            layers.append(here)
    return layers


def _owner(parents: list[Any], owners: dict[int, nn.Module]) -> nn.Module | None:
    """Return the layer whose operation has these parents in autograd's graph."""
    for parent in parents:
        # A linear layer's weight is transposed on its way.
        further = [node for node, _ in parent.next_functions if node is not None]
        direct = (
            further if parent.name().startswith(("TBackward", "TransposeB")) else []
        )
        for node in (parent, *direct):
            variable = getattr(node, "variable", None)
            if variable is not None and id(variable) in owners:
                return owners[id(variable)]
    return None


def _number(network: nn.Module) -> None:
    """Give every entry of every tensor of floats its own number, from 1 on."""
    with torch.no_grad():
        for item in network.state_dict().values():
            if item.is_floating_point():
                item.copy_(torch.arange(1.0, item.numel() + 1).reshape(item.shape))


def _transfer(dense: nn.Module, masked: nn.Module, cut: nn.Module) -> None:
    """Put the dense weights into the cut network; zero what it lacks in ``masked``."""
    source = dense.state_dict()
    trained = dict(masked.named_parameters())
    with torch.no_grad():
        for name, item in cut.state_dict().items():
            if not item.is_floating_point():
                continue
            places = item.reshape(-1).round().long() - 1
            item.copy_(source[name].reshape(-1)[places].reshape(item.shape))
            if name in trained:
                whole = torch.zeros_like(trained[name]).reshape(-1)
                whole[places] = source[name].reshape(-1)[places]
                trained[name].copy_(whole.reshape(trained[name].shape))


def _size(network: nn.Module) -> int:
    return sum(item.numel() for item in network.parameters())
