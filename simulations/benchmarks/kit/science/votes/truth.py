"""The truth about votes: what the loss is without each unit, and after one cut.

The loss is that of training examples which no client scored, in two halves.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedprune.client.rounds.measure import measure_statistics
from fedprune.common.data.examples import Batch, Examples
from fedprune.common.models.flat import set_statistics
from fedprune.common.pruning.choose import choose_keep
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.pruning.trial import mask_units
from fedprune.common.spec import Vector
from fedprune.common.structure.structure import Structure
from fedprune.common.tasks.loaded import LoadedTask, run_network
from fedprune.simulations.benchmarks.kit.votes import spearman

ONE_CUT = 0.3  # of the parameters stay
FEWEST = 3  # units of a group for a rank correlation

Halves = tuple[list[Batch], list[Batch]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """Rises of the mean loss without each single unit.

    Attributes:
        first: On the first half, float64[units].
        second: On the second half.
    """

    first: NDArray[np.float64]
    second: NDArray[np.float64]


def measure_truth(
    model: nn.Module, structure: Structure, halves: Halves, task: LoadedTask
) -> Truth:
    """Return the rises of both halves; the network is left as it was."""
    before = [mean_loss(model, half, task) for half in halves]
    rises = np.zeros((2, structure.units))
    for unit in range(structure.units):
        keep = structure.full()
        keep[unit] = False
        masked = copy.deepcopy(model)
        mask_units(masked, structure, keep)
        for half, batches in enumerate(halves):
            rises[half, unit] = mean_loss(masked, batches, task) - before[half]
    return Truth(first=rises[0], second=rises[1])


def mean_loss(model: nn.Module, batches: Sequence[Batch], task: LoadedTask) -> float:
    """Return the mean loss over the examples of some batches, in eval mode."""
    model.eval()
    with torch.no_grad():
        losses = [task.loss(run_network(model, b.inputs), b) for b in batches]
    return float(torch.cat(losses).double().mean())


def as_one(batches: Sequence[Batch]) -> list[Batch]:
    """Return batches of tensors as one, or none of none."""
    if not batches:
        return []
    inputs = torch.cat([batch.inputs for batch in batches])
    return [Batch(inputs, torch.cat([batch.targets for batch in batches]))]


def within_groups(
    structure: Structure, first: NDArray[np.float64], second: NDArray[np.float64]
) -> float:
    """Return the mean rank correlation inside pruning groups, weighted by their units.

    Groups of fewer than ``FEWEST`` units are left out.
    """
    groups = [g.units for g in structure.groups if len(g.units) >= FEWEST]
    found = [spearman(first[units], second[units]) for units in groups]
    return float(np.average(found, weights=[len(units) for units in groups]))


def after_one_cut(
    model: nn.Module,
    structure: Structure,
    importance: Vector,
    halves: Halves,
    task: LoadedTask,
) -> float:
    """Return the mean loss right after one cut to ``ONE_CUT``, moments refitted."""
    keep = choose_keep(
        structure,
        structure.full(),
        importance,
        {"params": ONE_CUT},
        floor=2,
        step_cap=1.0,
        width_multiple=1,
    )
    network = apply_plan(copy.deepcopy(model), structure, keep)
    if structure.spec(keep).moments:
        _refit(network, task.train)
    return mean_loss(network, [*halves[0], *halves[1]], task)


def _refit(model: nn.Module, examples: Examples) -> None:
    found = measure_statistics(model, examples)
    if found is not None:
        set_statistics(model, found.mean, found.variance)
