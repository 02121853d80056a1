"""Residual blocks that can be dropped as a whole: layer pruning.

Found by trying here; ``fedprune.common.structure.parts`` says which ones a plan drops.

A block ``act(x + f(x))`` computes the identity on its inputs when the last scale and
shift of ``f`` are zero and the activation does not change its input (a ReLU after a
ReLU).  This is tried, not concluded: the block runs on its inputs in the network, with
its last layers at zero.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fedprune.common.errors import ConfigError, StructureError
from fedprune.common.models.inputs import Arguments, arguments, copied, tensors_in
from fedprune.common.structure.parts import inner_units, misfit
from fedprune.common.structure.structure import Structure

_LEAVES = 2  # a module with fewer layers with weights is no block


def find_blocks(model: nn.Module, example: object) -> tuple[str, ...]:
    """Return the names of the residual blocks that can be dropped, in model order.

    Of nested blocks only the outer one is named.  The model is left as it was.

    Args:
        model: The dense network.
        example: One valid input, batch first, as of ``find_structure``; of floats only
            the shape is used.
    """
    network = copy.deepcopy(model).eval()
    inputs = _inputs(network, varied(arguments(model, example)))
    found: list[str] = []
    for name, module in network.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if name and name in inputs and not inside and _is_block(module, inputs[name]):
            found.append(name)
    return tuple(found)


def offer_blocks(model: nn.Module, example: object, structure: Structure) -> Structure:
    """Return the structure with the blocks of the network that a plan may drop.

    Such a block is the identity without its last layer, has units inside of it alone,
    and nothing else in the network depends on it: with the identity in its place the
    outputs equal those with that layer at zero, bit for bit.

    Args:
        model: The dense network; left as it was.
        example: One valid input, as of ``find_blocks``.
        structure: Its structure without blocks.
    """
    network = copy.deepcopy(model).eval()
    given = varied(arguments(model, example))
    firsts = {
        name: int(units[0])
        for name in find_blocks(network, example)
        if (units := inner_units(replace(structure, blocks=(name,)))[name]).size
        and _stands_alone(network, name, given)
    }
    found = structure
    for name in sorted(firsts, key=lambda name: firsts[name]):
        more = replace(found, blocks=(*found.blocks, name))
        found = found if misfit(more) else more
    return found


def drop_blocks(model: nn.Module, names: Sequence[str]) -> nn.Module:
    """Replace modules by the identity, in place; return the model.

    Law: for blocks of ``find_blocks`` the outputs equal those with the last scale and
    shift of each of these blocks at zero, bit for bit.

    Raises:
        ConfigError: If the network has no module of a name.
    """
    modules = dict(model.named_modules())
    unknown = sorted(set(names) - modules.keys() | ({""} & set(names)))
    if unknown:
        msg = f"blocks {unknown} are no modules of the network"
        raise ConfigError(msg)
    for name in names:
        path, _, last = name.rpartition(".")
        setattr(model.get_submodule(path), last, nn.Identity())
    return model


def check_blocks(model: nn.Module, names: Sequence[str], example: object) -> None:
    """Refuse names that are not those of residual blocks.

    Raises:
        StructureError: If dropping one would not leave the identity.
    """
    known = find_blocks(model, example)
    wrong = [name for name in names if name not in known]
    if wrong:
        msg = f"{wrong} cannot be dropped: with its last layer at zero it is not the"
        msg += f" identity; want some of {[*known]}"
        raise StructureError(msg)


def block_scores(
    model: nn.Module, names: Sequence[str], loss: Callable[[nn.Module], float]
) -> dict[str, float]:
    """Return the rise of the loss without each block, one at a time.

    Args:
        model: The dense network; left as it was.
        names: Blocks of ``find_blocks``.
        loss: Measures a network, for example on a proxy set.
    """
    before = loss(model)
    return {
        name: loss(drop_blocks(copy.deepcopy(model), [name])) - before for name in names
    }


def varied(given: Arguments) -> Arguments:
    """Return noise like the inputs: a batch of zeros would pass through anything."""
    generator = torch.Generator().manual_seed(0)

    def noise(leaf: Tensor) -> Tensor:
        if not leaf.is_floating_point():
            return leaf
        return torch.randn(leaf.shape, generator=generator).to(leaf.dtype)

    found: Arguments = pytree.tree_map_only(Tensor, noise, given)
    return found


def _stands_alone(model: nn.Module, name: str, given: Arguments) -> bool:
    """Return whether the rest of the network runs as before without a block."""
    own = {id(item) for item in model.get_submodule(name).parameters()}
    rest = [
        id(item)
        for path, item in model.named_parameters(remove_duplicate=False)
        if not path.startswith(f"{name}.")
    ]
    if own & {*rest}:  # tied weights
        return False
    passing = copy.deepcopy(model)
    module = passing.get_submodule(name)
    calls: list[int] = []

    def pass_through(_: nn.Module, taken: tuple[Tensor, ...], __: object) -> Tensor:
        calls.append(len(taken))
        return taken[0]

    module.register_forward_hook(pass_through)
    try:
        with torch.no_grad():
            wanted = [*tensors_in(passing(*copied(given)))]
            dropped = drop_blocks(copy.deepcopy(model), [name])
            found = [*tensors_in(dropped(*copied(given)))]
    except (Exception, SystemExit):  # the model's own code runs here
        return False
    same = len(found) == len(wanted) and all(map(torch.equal, found, wanted))
    return (
        bool(wanted) and same and calls == [1]
    )  # shared blocks were tried on one input only


def _inputs(model: nn.Module, given: Arguments) -> dict[str, Tensor]:
    """Return the input of each module with inner layers, where it is one tensor."""
    seen: dict[str, Tensor] = {}

    def recorder(name: str) -> Callable[[nn.Module, tuple[object, ...]], None]:
        def record(_: nn.Module, taken: tuple[object, ...]) -> None:
            if len(taken) == 1 and isinstance(taken[0], Tensor):
                seen[name] = taken[0].clone()

        return record

    handles = [
        module.register_forward_pre_hook(recorder(name))
        for name, module in model.named_modules()
        if len([*module.parameters()]) >= _LEAVES
    ]
    try:
        with torch.no_grad():
            model(*copied(given))
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _is_block(module: nn.Module, value: Tensor) -> bool:
    """Return whether a module is the identity once its last layer is at zero."""
    layers = [item for item in module.modules() if [*item.parameters(recurse=False)]]
    if len(layers) < _LEAVES:
        return False
    # The last layer in definition order need not be the last that runs.
    return any(_is_identity(module, layer, value) for layer in reversed(layers))


def _is_identity(module: nn.Module, layer: nn.Module, value: Tensor) -> bool:
    parameters = [*layer.parameters(recurse=False)]
    saved = [item.detach().clone() for item in parameters]
    with torch.no_grad():
        for item in parameters:
            item.zero_()
        found = module(value.clone())
        for item, before in zip(parameters, saved, strict=True):
            item.copy_(before)
    return isinstance(found, Tensor) and torch.equal(found, value)
