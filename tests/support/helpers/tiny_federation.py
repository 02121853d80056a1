"""A federation that trains in milliseconds: 16 units, 4 x 4 images, four clients."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fedprune.client.rounds.model_cache import ModelCache
from fedprune.client.rounds.opened import open_plan
from fedprune.client.rounds.round import run_round
from fedprune.client.rounds.store import ClientStore
from fedprune.common import codec
from fedprune.common.config import Config, load_config
from fedprune.common.data.examples import ArrayExamples, Dataset
from fedprune.common.messages import RoundPlan
from fedprune.common.models.flat import get_weights
from fedprune.common.pruning.plan import full_plan
from fedprune.common.structure.structure import Structure
from fedprune.common.structure.tracing.find import find_structure
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.server.rounds.answers import Answers
from fedprune.server.rounds.cycle import first_cursor
from fedprune.server.rounds.engine import RoundWork
from fedprune.server.rounds.state import RunSpec, ServerState, new_state
from fedprune.server.rounds.waiting.collecting import collect
from fedprune.simulations.engines.engines import InProcessEngine

BASE = {
    "task.clients": 4,
    "rounds.cohort": 4,
    "rounds.minimum": 2,
    "rounds.warmup": 1,
    "rounds.sparsify": 1,
    "rounds.finetune": 1,
    "rounds.cuts": 2,
    "rounds.final": 2,
    "client.epochs": 1,
    "client.batch": 8,
    "client.score_examples": 16,
    "distill.weight": 0.5,
    "client.validation": 0.2,
    "prune.budget": {"params": 0.5},
    "prune.floor": 1,
    "prune.width_multiple": 1,
    "update.update_density": 0.25,
    "run.engine": "inprocess",
}


class Tiny(nn.Module):
    """A stem and a residual block: units 0-7 shared by two norms, 8-15 by one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn(self.conv(x)))
        y = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(y)) + x)
        return self.fc(x.mean((2, 3)))


def make_config(**changes: object) -> Config:
    """Return the tiny configuration; ``rounds__cuts=1`` sets ``rounds.cuts``."""
    named = {key.replace("__", "."): value for key, value in changes.items()}
    return load_config(None, BASE | named)


def make_examples(count: int, seed: int = 0) -> ArrayExamples:
    """Return noisy images whose class shifts the mean of one quarter."""
    rng = np.random.default_rng(seed)
    targets = np.arange(count) % 3
    inputs = rng.normal(size=(count, 1, 4, 4)).astype(np.float32)
    for number, target in enumerate(targets):
        inputs[number, 0, target] += 2.0
    return ArrayExamples(inputs=inputs, targets=targets.astype(np.int64))


def make_task(factory=Tiny, examples: ArrayExamples | None = None, **changes: object):
    """Return a task on synthetic data, dealt evenly to the clients."""
    task = LoadedTask(make_config(**changes), factory)
    train = make_examples(120) if examples is None else examples
    task.task.__dict__["source"] = Dataset(
        train=train,
        test=make_examples(30, seed=1),
        num_outputs=3,
        input_shape=train.inputs.shape[1:],
        name="synthetic",
    )
    parts = np.array_split(np.arange(len(train)), len(task.clients))
    task.__dict__["parts"] = dict(zip(task.clients, parts, strict=True))
    return task


@cache
def tiny_structure() -> Structure:
    """Return the structure of the tiny network."""
    return find_structure(Tiny().eval(), torch.zeros(2, 1, 4, 4))


def make_setting(task: LoadedTask, structure: Structure | None = None) -> RunSpec:
    """Return what stays the same in all rounds."""
    return RunSpec(
        run_id="run-1",
        config=task.config,
        structure=tiny_structure() if structure is None else structure,
        clients=task.clients,
    )


def start(task: LoadedTask, run_spec: RunSpec) -> ServerState:
    """Return the state before round 1."""
    weights = get_weights(task.build_model())
    cursor = first_cursor(task.config.rounds)
    return new_state(run_spec.structure, weights, cursor, full_plan(run_spec.structure))


def ask_all(work: RoundWork, task: LoadedTask, root: Path) -> Answers:
    """Return what all clients of a round answer."""
    return collect(work, InProcessEngine(task, root))


def answer_to(plan: RoundPlan, cache: ModelCache, store: ClientStore) -> bytes:
    """Return what a client answers to a plan."""
    return run_round(open_plan(plan, cache, store), cache, store)


def plan_for(work: RoundWork, number: int = 0) -> RoundPlan:
    """Return the plan that one client of the cohort receives."""
    assignment = work.request.assignments[number]
    shared = work.request.variants[assignment.variant]
    message = codec.address_plan(shared, assignment.client_id, assignment.acknowledged)
    return codec.decode_plan(message, work.request.max_bytes)


def forward_to(
    state: ServerState, run_spec: RunSpec, task: LoadedTask, root: Path, stop
):
    """Run rounds until ``stop(cursor)`` holds; return the state."""
    from fedprune.server.rounds.finish import finish_round
    from fedprune.server.rounds.plan import plan_round

    while not stop(state.cursor):
        work = plan_round(state, run_spec)
        state, _ = finish_round(state, work, ask_all(work, task, root), run_spec)
    return state
