"""Groups whose norms scale all that their producers make, and groups where they do not.

Importance is measured at the norms of a unit, a unit is dead where they are zero, and a
penalty acts on them alone.  All that is wrong where the channels also go on without
them: a stem without a norm in front of residual blocks, or residual blocks that begin
with one and a network that does not end with one.  The units of such a group count as
units without norms.

This is tried, not concluded: with the norms of half of a group at zero, the producers
of that half must not change the outputs.
"""

import copy
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, fx, nn

from fedprune.common.models.inputs import Arguments, copied, tensors_in
from fedprune.common.structure.blocks import varied
from fedprune.common.structure.structure import PruningGroup, Structure, positions_kept

_SPREAD = 0.1  # of what stands for a tensor of zeros, through which nothing would pass


def with_covering_norms(
    model: nn.Module, graph: fx.Graph, examples: Arguments, structure: Structure
) -> Structure:
    """Return the structure whose groups have norms only where nothing goes past them.

    Args:
        model: The dense network; left as it was.
        graph: Its operations.
        examples: The arguments of one valid call.
        structure: Its structure.
    """
    open_ = [
        group
        for group in structure.groups
        if group.norms and not _ends_in_norms(model, graph, group)
    ]
    if not open_:
        return structure
    network, given = copy.deepcopy(model).eval(), varied(examples)
    _fill_zeros(network)
    past = {g.name for g in open_ if _goes_past(network, given, structure, g)}
    groups = tuple(
        replace(group, norms=()) if group.name in past else group
        for group in structure.groups
    )
    return replace(structure, groups=groups) if past else structure


def _ends_in_norms(model: nn.Module, graph: fx.Graph, group: PruningGroup) -> bool:
    """Return whether each way from the producers ends in a norm of the group.

    It may lead through operations without weights, such as the concatenations of a
    dense block.  False is not known: that is tried, at the cost of two forwards.
    """
    makers = [n for n in graph.nodes if _weight_of(n) in group.producers]
    if {_weight_of(node) for node in makers} != {*group.producers}:
        return False
    waiting = [user for node in makers for user in node.users]
    seen: set[fx.Node] = set()
    while waiting:
        node = waiting.pop()
        if node in seen or _weight_of(node) in group.norms:
            continue
        if not _is_without_weights(model, node):
            return False
        seen.add(node)
        waiting.extend(node.users)
    return True


def _weight_of(node: fx.Node) -> str:
    """Return the name of the weight of a module that is called, or ""."""
    return f"{node.target}.weight" if node.op == "call_module" else ""


def _is_without_weights(model: nn.Module, node: fx.Node) -> bool:
    if node.op == "output" or any(n.op == "get_attr" for n in node.all_input_nodes):
        return False
    if node.op != "call_module":
        return True
    return not any(True for _ in model.get_submodule(str(node.target)).parameters())


def _goes_past(
    network: nn.Module,
    examples: Arguments,
    structure: Structure,
    group: PruningGroup,
) -> bool:
    """Return whether what the producers make reaches the outputs without the norms.

    For half of the group: with all its norms at zero a way that leads back into it, as
    from a stem through a block that is added to it, would be closed.
    """
    shifts = [norm.removesuffix("weight") + "bias" for norm in group.norms]
    norms = [(name, 0) for name in (*group.norms, *shifts)]
    makers = [(name, structure.made_dim(name)) for name in group.producers]
    with _without(network, structure, group, norms):
        wanted = _outputs(network, examples)
        with _without(network, structure, group, makers):
            found = _outputs(network, examples)
    return any(
        not torch.equal(one.nan_to_num(), other.nan_to_num())
        for one, other in zip(wanted, found, strict=False)
    )


@contextmanager
def _without(
    network: nn.Module,
    structure: Structure,
    group: PruningGroup,
    places: Collection[tuple[str, int]],
) -> Iterator[None]:
    """Set tensors to zero at half of a group's units while the block runs."""
    keep = structure.full()
    keep[group.units[: (len(group.units) + 1) // 2]] = False
    tensors = dict(network.named_parameters())
    saved: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        for name, dim in places:
            if name in tensors and (name, dim) in structure.lookup:
                item = tensors[name]
                saved.append((item, item.clone()))
                kept = positions_kept(structure.lookup[name, dim], keep)
                gone = torch.from_numpy(np.flatnonzero(~kept))
                item.index_fill_(dim, gone.to(item.device), 0.0)
    try:
        yield
    finally:
        with torch.no_grad():
            for changed, value in saved:
                changed.copy_(value)


def _outputs(network: nn.Module, examples: Arguments) -> list[Tensor]:
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [*tensors_in(network(*copied(examples)))]


def _fill_zeros(network: nn.Module) -> None:
    """Draw numbers for tensors that are zero, as the last scales of blocks may be."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for item in network.parameters():
            if item.is_floating_point() and not bool(item.any()):
                drawn = _SPREAD * torch.randn(item.shape, generator=generator)
                item.copy_(drawn)
