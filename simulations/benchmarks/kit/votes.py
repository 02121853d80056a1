"""Rank correlation of the consensus of votes with the true loss rise of each unit.

The truth about a unit is the rise of the mean training loss when that unit alone is
masked in the network that was voted on, with batch norm refitted to its weights.
"""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr
from torch import nn

from fedprune.client.rounds.measure import measure_statistics, validate
from fedprune.common.artifacts.load import load_model
from fedprune.common.config import load_config
from fedprune.common.data.examples import Examples
from fedprune.common.models.flat import set_statistics
from fedprune.common.pruning.trial import mask_units
from fedprune.common.structure.structure import Structure
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.server.runs.events import NetworkCut, of_kind, read_events
from fedprune.simulations.benchmarks.kit.rows import Raw
from fedprune.simulations.runs.run import run

_FEWEST = 3  # units of a group for a rank correlation


def measure_votes(folder: Path, settings: Sequence[str] = ()) -> Raw:
    """Run the defaults and compare the votes of the first cut with the truth.

    Args:
        folder: Parent of the run's folder.
        settings: Changes to the defaults, as ``key=value``.

    Returns:
        ``all``: the rank correlation over all units; ``groups``: by pruning group;
        ``as_broadcast``: over all units when the truth is measured with the moments
        of the file; ``units`` and ``distinct``: the number of units, and of distinct
        values in the logged votes.
    """
    places = [f'run.dir="{folder}"', "run.controls=[]", "run.engine=inprocess"]
    config = load_config(None, [*settings, *places])
    result = run(config)
    events = read_events(result.directory / "events.jsonl")
    first = next(of_kind(events, NetworkCut))
    votes = np.asarray(first.consensus, dtype=np.float64)
    task = LoadedTask(config)
    text = (result.directory / "structure.json").read_bytes()
    structure = Structure.from_json(text)
    model = load_model(
        result.directory / "model" / "before_cut.safetensors", factory=task.build_model
    )
    torch.set_num_threads(1)
    examples = task.dataset.train
    as_broadcast = loss_rises(model, structure, examples, task)
    refit(model, examples)
    rises = loss_rises(model, structure, examples, task)
    groups = {
        group.name: spearman(votes[group.units], rises[group.units])
        for group in structure.groups
        if len(group.units) >= _FEWEST
    }
    return {
        "all": spearman(votes, rises),
        "groups": groups,
        "as_broadcast": spearman(votes, as_broadcast),
        "units": len(votes),
        "distinct": len(np.unique(votes)),
    }


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Return Spearman's rank correlation, ties at their mean rank; 0 of a constant.

    >>> spearman([1, 2, 3], [10, 20, 15])
    0.5
    """
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(spearmanr(first, second).statistic)


def refit(model: nn.Module, examples: Examples) -> None:
    """Give batch norm the moments of its inputs over all examples."""
    found = measure_statistics(model, examples)
    if found is not None:
        set_statistics(model, found.mean, found.variance)
    model.eval()


def loss_rises(
    model: nn.Module, structure: Structure, examples: Examples, task: LoadedTask
) -> NDArray[np.float64]:
    """Return the rise of the mean loss without each single unit, float64[units].

    Args:
        model: The uncut network; left as it was.
        structure: Its structure.
        examples: Examples of the loss; never test data.
        task: Defines the loss.
    """
    before = _mean_loss(model, examples, task)
    rises = np.zeros(structure.units)
    for unit in range(structure.units):
        keep = structure.full()
        keep[unit] = False
        masked = copy.deepcopy(model)
        mask_units(masked, structure, keep)
        rises[unit] = _mean_loss(masked, examples, task) - before
    return rises


def _mean_loss(model: nn.Module, examples: Examples, task: LoadedTask) -> float:
    return validate(model, examples, task).loss_sum / len(examples)
