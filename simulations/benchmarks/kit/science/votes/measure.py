"""Agreed votes of many criteria on one network, by the product's own steps."""

import copy
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedprune.client.rounds.evaluate import abstains
from fedprune.client.rounds.measure import MEASURED, balanced, fit
from fedprune.client.rounds.score import score
from fedprune.common.artifacts.load import load_model
from fedprune.common.config import Config
from fedprune.common.data.examples import Examples
from fedprune.common.methods.kinds import IMPORTANCE
from fedprune.common.methods.method import Side
from fedprune.common.methods.registry import find
from fedprune.common.models.flat import get_weights
from fedprune.common.pruning.importance import normalise, weight_scores
from fedprune.common.pruning.plan import full_plan
from fedprune.common.seeding import Use, generator
from fedprune.common.spec import Vector
from fedprune.common.structure.structure import Structure
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.server.rounds.cut import consensus
from fedprune.server.rounds.cycle import first_cursor
from fedprune.server.rounds.plan import settings_for
from fedprune.server.rounds.state import new_state
from fedprune.simulations.benchmarks.kit.rows import Raw
from fedprune.simulations.benchmarks.kit.science.correct import correct
from fedprune.simulations.benchmarks.kit.science.intervals import pack
from fedprune.simulations.benchmarks.kit.science.votes.tasks import VoteTask
from fedprune.simulations.benchmarks.kit.science.votes.truth import (
    Halves,
    Truth,
    after_one_cut,
    as_one,
    mean_loss,
    measure_truth,
    within_groups,
)
from fedprune.simulations.benchmarks.kit.votes import spearman
from fedprune.simulations.runs.run import run

_HALF = 250  # examples of each half, at most
_OWN = f"{__package__}.candidates"
CRITERIA = {
    "taylor": "taylor",
    "fisher": "fisher",
    "activation-mean": "activation-mean",
    "activation-variance": "activation-variance",
    "l2": "l2",
    "gamma": "gamma",
    "lamp": "lamp",
    "sensitivity": "sensitivity",
    "random": "random",
    "absolute products": f"{_OWN}:absolute",
    "second order": f"{_OWN}:second_order",
    "products without their mean": f"{_OWN}:without_mean",
    "activation x weight": f"{_OWN}:activation_by_weight",
}
BY_GROUP = "fisher, mean 1 in each group"
ROOT = "fisher, root of the votes"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Voter:
    """A client: the network with its own moments, and what it scores."""

    name: str
    model: nn.Module
    scored: Examples


@dataclass(frozen=True, slots=True, kw_only=True)
class _Election:
    """A network, its voters and the examples of the truth."""

    task: LoadedTask
    model: nn.Module
    structure: Structure
    voters: tuple[_Voter, ...]
    halves: Halves


def measure_votes(task: VoteTask, seed: int) -> Raw:
    """Train a warmup, let clients vote by every criterion, and measure the truth."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="fedprune-") as name:
        config = task.warmup(seed, Path(name))
        result = run(config)
        found = result.directory
        text = (found / "structure.json").read_bytes()
        loaded = LoadedTask(config)
        model = load_model(
            found / "model" / "final.safetensors", factory=loaded.build_model
        )
    election = _election(loaded, model, Structure.from_json(text))
    truth = measure_truth(model, election.structure, election.halves, loaded)
    votes = _all_votes(election, task.skipped)
    return {
        "units": election.structure.units,
        "voters": len(election.voters),
        "examples": [sum(b.size for b in half) for half in election.halves],
        "accuracy": result.summary["accuracy_final"],
        "ceiling": spearman(truth.first, truth.second),
        "ceiling_within": within_groups(election.structure, truth.first, truth.second),
        "loss": mean_loss(model, [*election.halves[0], *election.halves[1]], loaded),
        "criteria": {
            name: _quality(election, truth, vote) for name, vote in votes.items()
        },
    }


def measure_end(task: VoteTask, seed: int, criterion: str) -> Raw:
    """Run a short federation to the end; which test examples are right is kept."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="fedprune-") as name:
        config = task.whole(seed, Path(name), CRITERIA[criterion])
        result = run(config)
        loaded = LoadedTask(config)
        model = load_model(
            result.directory / "model" / "final.safetensors",
            factory=loaded.build_model,
        )
    kept = ("accuracy_final", "accuracy_after_cut", "rounds", "rollbacks")
    sizes = ("params_final", "params_dense", "bytes_up", "bytes_down")
    figures = {key: result.summary[key] for key in (*kept, *sizes)}
    return figures | {"correct": pack(correct(model, loaded))}


def _election(task: LoadedTask, model: nn.Module, structure: Structure) -> _Election:
    """Return what votes and truth are measured on."""
    voters, left = [], []
    moments = structure.spec(structure.full()).moments
    for client in task.clients:
        examples = task.client_data(client).train
        chosen = _scored(task.config, client, examples)
        rest = np.setdiff1d(np.arange(len(examples)), chosen)
        left += [(examples, rest)] if len(rest) else []
        if abstains(examples, moments):
            continue
        own = copy.deepcopy(model)
        rng = generator(task.config.run.seed, 0, client, Use.MEASURE)
        fit(own, examples.take(balanced(examples, MEASURED, rng)))
        voters.append(_Voter(name=client, model=own, scored=examples.take(chosen)))
    return _Election(
        task=task,
        model=model,
        structure=structure,
        voters=tuple(voters),
        halves=_halves(left, task.config.run.seed),
    )


def _scored(config: Config, client: str, examples: Examples) -> NDArray[np.int64]:
    rng = generator(config.run.seed, config.rounds.warmup, client, Use.SCORE)
    found: NDArray[np.int64] = balanced(examples, config.client.score_examples, rng)
    return found


def _halves(left: Sequence[tuple[Examples, NDArray[np.int64]]], seed: int) -> Halves:
    """Return two halves of what no client scored, evenly over the clients."""
    most = max(2 * _HALF // max(len(left), 1), 2)
    halves: Halves = ([], [])
    for number, (examples, rest) in enumerate(left):
        rng = generator(seed, 0, f"truth/{number}", Use.SAMPLE)
        order = rng.permutation(rest)[:most]
        for half, part in zip(halves, np.array_split(order, 2), strict=True):
            half.extend([examples.batch(np.sort(part))] if len(part) else [])
    return as_one(halves[0]), as_one(halves[1])


def _all_votes(election: _Election, skipped: Collection[str]) -> dict[str, Vector]:
    """Return the agreed importance of each criterion, float32[units]."""
    names = [name for name in CRITERIA if name not in skipped]
    found = {name: _votes(election, CRITERIA[name]) for name in names}
    groups = election.structure.groups
    by_group, root = found["fisher"].copy(), np.sqrt(found["fisher"])
    for group in groups:
        mean = by_group[group.units].mean()
        by_group[group.units] /= mean if mean > 0.0 else 1.0
    return {**found, BY_GROUP: by_group, ROOT: root}


def _votes(election: _Election, criterion: str) -> Vector:
    structure, task = election.structure, election.task
    keep, seed = structure.full(), task.config.run.seed
    if find(IMPORTANCE, criterion).side is Side.SERVER:
        rng = generator(seed, 0, "server", Use.RANDOM_SCORE)
        weights = get_weights(election.model)
        scores = weight_scores(structure, keep, weights, criterion, rng)
        return normalise(scores).astype(np.float32)
    state = new_state(
        structure,
        get_weights(election.model),
        first_cursor(task.config.rounds),
        full_plan(structure),
    )
    settings = settings_for(state, task.config, structure)
    settings = replace(settings, importance=criterion)
    votes = {
        one.name: score(
            one.model,
            one.scored,
            task,
            structure,
            keep,
            settings,
            draws=generator(seed, 0, one.name, Use.RANDOM_SCORE),
        )
        for one in election.voters
    }
    sizes = {one.name: len(task.client_data(one.name).train) for one in election.voters}
    agreed = consensus(votes, sizes, task.config.prune.consensus)
    return np.zeros(structure.units, np.float32) if agreed is None else agreed


def _quality(election: _Election, truth: Truth, vote: Vector) -> Raw:
    structure, task = election.structure, election.task
    votes = vote.astype(np.float64)
    return {
        "all": spearman(votes, truth.first),
        "within": within_groups(structure, votes, truth.first),
        "loss_after_cut": after_one_cut(
            election.model, structure, vote, election.halves, task
        ),
    }
