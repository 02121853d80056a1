"""Verification of a structure: masked and cut networks, training, a second cut."""

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fedprune.common.models.flat import get_statistics, get_weights
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.pruning.remap import remap, remap_moments
from fedprune.common.pruning.trial import Trial, pair
from fedprune.common.pruning.verify import trial_masks
from fedprune.common.spec import Mask
from fedprune.common.structure.structure import Structure
from fedprune.common.text import first_line
from fedprune.simulations.benchmarks.kit.coverage.nets.entry import Inputs
from fedprune.simulations.benchmarks.kit.coverage.trial import (
    arguments,
    distance,
    outputs,
    quiet,
    spread,
    wide,
)

BATCHES = (1, 3)
_SEED = 1  # that of the check before a run is 0: other masks, other numbers
_RATE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """Comparison of masked and cut networks.

    Attributes:
        difference: Largest relative difference; NaN where nothing is finite, infinite
            where a cut network fails.
        change: Smallest relative change of the output by a mask that cuts every group;
            one group alone may be without effect.
        error: Failure of a cut network, of its training or of a second cut; or empty.
    """

    difference: float
    change: float
    error: str = ""


def verify(network: nn.Module, structure: Structure, inputs: Inputs) -> Verified:
    """Compare masked and cut networks in float64, eval mode, eight masks.

    The masks are two at random of each of three densities, and the first and the last
    half of each group; each is tried on every batch size of ``BATCHES``.

    Args:
        network: The dense network; it is left as it was.
        structure: Its structure, with at least one unit.
        inputs: Its inputs.
    """
    dense = spread(copy.deepcopy(network).double().eval(), _SEED)
    trial = Trial(dense=dense, structure=structure, inputs=())
    batches = [wide(inputs(size)) for size in BATCHES]
    whole = [outputs(dense, batch) for batch in batches]
    worst, change = 0.0, math.inf
    for keep in trial_masks(structure, _SEED):
        both = pair(trial, keep)
        for batch, before in zip(batches, whole, strict=True):
            wanted = outputs(both.masked, batch)
            if _cuts_all(keep, structure):
                change = min(change, distance(before, wanted))
            try:
                apart = distance(wanted, outputs(both.cut, batch))
            except Exception as error:  # foreign code on new lengths
                return Verified(
                    difference=worst, change=change, error=first_line(error, kind=True)
                )
            worst = math.nan if math.isnan(apart) else max(worst, apart)
            if math.isnan(worst):
                return Verified(difference=worst, change=change)
    return Verified(difference=worst, change=change)


def _cuts_all(keep: Mask, structure: Structure) -> bool:
    groups = [group.units for group in structure.groups if len(group.units) > 1]
    return not any(keep[units].all() for units in groups)


def train_step(network: nn.Module, structure: Structure, inputs: Inputs) -> str:
    """Train a cut network for one step; return its failure, or nothing.

    Args:
        network: The dense network; it is left as it was.
        structure: Its structure.
        inputs: Its inputs; three examples are taken.
    """
    cut = apply_plan(copy.deepcopy(network), structure, _masks(structure)[0]).train()
    for item in cut.parameters():
        item.requires_grad_(item.is_floating_point() or item.is_complex())
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            loss = _loss(cut(*arguments(inputs(BATCHES[-1]))))
            torch.autograd.backward(loss)
    except Exception as error:  # foreign code on new lengths
        return f"training: {first_line(error, kind=True)}"
    grads = [item.grad for item in cut.parameters() if item.grad is not None]
    if not grads:
        return "training: no parameter has a gradient"
    torch.optim.SGD(cut.parameters(), lr=_RATE).step()
    if not all(bool(torch.isfinite(item).all()) for item in grads):
        return "training: a gradient is not finite"
    return ""


def second_cut(network: nn.Module, structure: Structure) -> str:
    """Cut twice, and compare with the direct cut; return the failure, or nothing.

    Weights and statistics of the first cut network, carried to the second plan, must
    be bit for bit those of the dense network cut by that plan.
    """
    first, second = _masks(structure)
    once = apply_plan(copy.deepcopy(network), structure, first)
    direct = apply_plan(copy.deepcopy(network), structure, second)
    weights = remap(get_weights(once), structure, first, second)
    if not np.array_equal(weights, get_weights(direct), equal_nan=True):
        return "a second cut gives other weights than the direct one"
    for mine, other in zip(get_statistics(once), get_statistics(direct), strict=True):
        if not np.array_equal(remap_moments(mine, structure, first, second), other):
            return "a second cut gives other statistics than the direct one"
    return ""


def _masks(structure: Structure) -> tuple[Mask, Mask]:
    """Return a mask, and one nested in it; both keep a unit of each group."""
    rng = np.random.default_rng(_SEED)
    first, second = structure.full(), structure.full()
    for group in structure.groups:
        order = rng.permutation(group.units)
        most = math.ceil(0.75 * len(order))
        first[order[most:]] = False
        second[order[math.ceil(0.4 * most) :]] = False
    return first, second


def _loss(found: object) -> Tensor:
    leaves = [x for x in pytree.tree_leaves(found) if isinstance(x, Tensor)]
    parts = [x.abs() if x.is_complex() else x for x in leaves if x.requires_grad]
    return torch.stack([part.square().mean() for part in parts]).sum()
