"""Fresh weights of a network at given widths, drawn from the run's seed.

The network's own code draws them where it draws at all: it is called with another
seed, without ``task.weights``, and a pretrained network of a library is asked for its
random weights (``NAME@random``).  A tensor that two calls leave alike is pretrained, or
fixed: then ``reset_parameters`` of its module draws it.  A constant (the ones of a
norm) stays what it is.  Weights of layers are drawn for the widths that they have now:
those of the uncut layer are scaled by the root of the inputs that were cut.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from math import prod, sqrt

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from fedprune.common.errors import ConfigError
from fedprune.common.messages import Statistics
from fedprune.common.models.flat import get_weights
from fedprune.common.models.training import first_statistics
from fedprune.common.models.zoo import LOADERS
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.seeding import Use, seed_globals, torch_seed
from fedprune.common.spec import Mask, Vector
from fedprune.common.structure.structure import Structure
from fedprune.common.system.device import one_thread
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.common.text import and_more
from fedprune.common.user_code import RANDOM, split_blocks

_RESETS = ("reset_parameters", "_reset_parameters")
_LAYERS = (nn.Linear, _ConvNd)
_ALIKE = 1000  # entries for each one that two draws may have alike, by chance
_NAMED = 3  # parameters that an error names


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshNetwork:
    """A network before its first round.

    Attributes:
        weights: float32[n of the cut network].
        statistics: Its running values, and moments that frozen modules keep; None
            where it has neither.
    """

    weights: Vector
    statistics: Statistics | None


def draw_fresh(
    task: LoadedTask, structure: Structure, keep: Mask, frozen: Collection[str] = ()
) -> FreshNetwork:
    """Return the network that keeps ``keep`` with fresh weights; same seed, same bits.

    Args:
        task: The task; its ``run.seed`` is the seed.
        structure: The original network.
        keep: The units that stay, bool[units].
        frozen: Names of the modules whose first moments are kept.

    Raises:
        ConfigError: If parameters can be drawn neither by the network's code nor by
            their modules; they are named.
    """
    one, two = (_drawn(task, key) for key in ("fresh", "fresh-again"))
    left = undrawn(one, two)
    before = {name: item.shape for name, item in one.named_parameters()}
    cut = apply_plan(one, structure, keep)
    _rescale(cut, before, left)
    _reset(
        cut, left & {name for name, _ in cut.named_parameters()}, task.config.run.seed
    )
    running = structure.living(keep).running
    return FreshNetwork(
        weights=get_weights(cut),
        statistics=first_statistics(cut, frozen, running),
    )


def check_fresh(task: LoadedTask, structure: Structure) -> None:
    """Refuse before a run a network that cannot be drawn again.

    Raises:
        ConfigError: As ``draw_fresh``.
    """
    draw_fresh(task, structure, structure.full())


def _drawn(task: LoadedTask, key: str) -> nn.Module:
    """Return the uncut network as its code makes it with another seed."""
    config = task.config
    seed = torch_seed(config.run.seed, 0, key, Use.INIT)
    change: dict[str, object] = {"weights": "", "model": _random(config.task.model)}
    if task.factory is None and not task.task.has_own_network:
        # Known by now: the data are not loaded again for it.
        change |= {"outputs": task.num_outputs, "input_shape": task.input_shape}
    other = config.model_copy(
        update={
            "task": config.task.model_copy(update=change),
            "run": config.run.model_copy(update={"seed": seed}),
        }
    )
    return replace(task, config=other).build_model().cpu()


def _random(model: str) -> str:
    """Return the name of a network with random weights.

    >>> _random("timm:resnet18[-layer1.1]"), _random("mlp")
    ('timm:resnet18@random[-layer1.1]', 'mlp')
    """
    whole, _ = split_blocks(model)
    if whole.partition(":")[0] not in LOADERS or whole.endswith(RANDOM):
        return model
    return whole + RANDOM + model[len(whole) :]


def undrawn(one: nn.Module, two: nn.Module) -> set[str]:
    """Return the parameters that two draws leave alike, constants aside.

    Args:
        one: A network as its code makes it.
        two: The same with another seed.
    """
    pairs = zip(one.named_parameters(), two.named_parameters(), strict=True)
    return {name for (name, a), (_, b) in pairs if _is_alike(a.detach(), b.detach())}


def _is_alike(one: Tensor, two: Tensor) -> bool:
    """Return whether two draws of a tensor share more than one constant and chance."""
    alike = one[one == two]
    _, counts = torch.unique(alike, return_counts=True)
    others = int(alike.numel()) - int(counts.max() if counts.numel() else 0)
    return others * _ALIKE > one.numel()


def _rescale(model: nn.Module, before: dict[str, torch.Size], left: set[str]) -> None:
    """Scale the weights of layers, which were drawn for the inputs of uncut ones."""
    for name, module in model.named_modules():
        weight = f"{name}.weight" if name else "weight"
        if not isinstance(module, _LAYERS) or weight in left or weight not in before:
            continue
        had, has = prod(before[weight][1:]), prod(module.weight.shape[1:])
        if had != has:
            with torch.no_grad():
                module.weight.mul_(sqrt(had / has))


def _reset(model: nn.Module, names: set[str], seed: int) -> None:
    """Draw parameters by the resetting methods of their modules.

    Raises:
        ConfigError: If some of them stay as they were.
    """
    found = dict(model.named_parameters())
    owners = sorted({name.rpartition(".")[0] for name in names})
    seeded = seed_globals(seed, 0, "fresh-reset", Use.INIT)
    with torch.no_grad(), seeded, one_thread():
        for name in names:
            found[name].fill_(np.nan)
        for owner in owners:
            _call_reset(model.get_submodule(owner))
    stuck = sorted(name for name in names if bool(torch.isnan(found[name]).any()))
    if stuck:
        msg = f"{and_more(stuck, _NAMED)} cannot be drawn again: the network's code "
        msg += "gives them the same values every time, and their modules have no "
        msg += "reset_parameters; want one, or prune.restart = 'keep' and run.controls "
        msg += "without 'scratch' and 'uniform'"
        raise ConfigError(msg)


def _call_reset(module: nn.Module) -> None:
    for name in _RESETS:
        reset = getattr(module, name, None)
        if callable(reset):
            reset()
            return
