"""CPU time of scoring beside that of one forward and backward on the same examples."""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from fedprune.client.rounds.measure import batches
from fedprune.client.rounds.score import score
from fedprune.common.config import load_config
from fedprune.common.data.examples import ArrayExamples
from fedprune.common.models.flat import get_weights
from fedprune.common.models.registry import build_model
from fedprune.common.pruning.plan import full_plan
from fedprune.common.structure.tracing.find import find_structure
from fedprune.common.tasks.loaded import LoadedTask, run_network
from fedprune.server.rounds.cycle import first_cursor
from fedprune.server.rounds.plan import settings_for
from fedprune.server.rounds.state import new_state
from fedprune.simulations.benchmarks.kit.resnet20 import ResNet20
from fedprune.simulations.benchmarks.kit.rows import Raw

GOAL = "<= 1.3"
NETWORKS = ("LeNet-5", "ResNet-20")
EXAMPLES, REPEATS = 256, 5

_SHAPES = {"LeNet-5": (1, 28, 28), "ResNet-20": (3, 32, 32)}
_CRITERIA = ("fisher", "taylor")


def measure_cost() -> Raw:
    """Return the ratio of each network and criterion: best CPU times of five."""
    torch.set_num_threads(1)
    return {network: _ratios(network) for network in NETWORKS}


def _ratios(network: str) -> dict[str, float]:
    model = _built(network).eval()
    task = LoadedTask(load_config(None, {"task.outputs": 10}))
    rng = np.random.default_rng(0)
    examples = ArrayExamples(
        inputs=rng.standard_normal((EXAMPLES, *_SHAPES[network])).astype(np.float32),
        targets=rng.integers(0, 10, EXAMPLES),
    )
    works = {"plain": lambda: _plain(model, examples, task)}
    for criterion in _CRITERIA:
        works[criterion] = _scoring(model, examples, task, criterion)
    best = _best(works)
    return {name: best[name] / best["plain"] for name in _CRITERIA}


def _best(works: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Return the least CPU seconds of each work, all of them in turn."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(REPEATS + 1):  # the first warms up and counts as the others
        for name, work in works.items():
            start = time.process_time()
            work()
            best[name] = min(best[name], time.process_time() - start)
    return best


def _scoring(
    model: nn.Module, examples: ArrayExamples, task: LoadedTask, criterion: str
) -> Callable[[], None]:
    structure = find_structure(model, examples.batch(np.arange(2)).inputs)
    keep = structure.full()
    state = new_state(
        structure,
        get_weights(model),
        first_cursor(task.config.rounds),
        full_plan(structure),
    )
    settings = settings_for(state, task.config, structure)
    settings = replace(settings, importance=criterion)

    def work() -> None:
        draws = np.random.default_rng(0)
        score(model, examples, task, structure, keep, settings, draws=draws)

    return work


def _plain(model: nn.Module, examples: ArrayExamples, task: LoadedTask) -> None:
    """Do one forward and backward over the examples, in eval mode as scoring does."""
    for places in batches(len(examples), task.config.client.batch):
        batch = examples.batch(places)
        model.zero_grad(set_to_none=True)
        task.loss(run_network(model, batch.inputs), batch).sum().backward()  # type: ignore[no-untyped-call]


def _built(network: str) -> nn.Module:
    torch.manual_seed(0)
    if network == "ResNet-20":
        return ResNet20()
    return build_model("lenet5", num_outputs=10, input_shape=_SHAPES[network], seed=0)
