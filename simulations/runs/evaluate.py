"""Evaluation of networks on the test split: for reports only, never for a decision."""

import torch

from fedprune.client.rounds.measure import Evaluation, evaluate
from fedprune.client.rounds.model_cache import ModelCache
from fedprune.common.seeding import Use, seed_globals
from fedprune.common.structure.structure import Structure
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.server.rounds.state import Snapshot


class Evaluator:
    """Scores networks on the test split.

    Args:
        task: Gives the test split.
        structure: The original network.
    """

    def __init__(self, task: LoadedTask, structure: Structure) -> None:
        self._cache = ModelCache(task)
        self._structure = structure

    def __call__(self, snapshot: Snapshot) -> float:
        """Return the mean headline metric, such as the share classified correctly."""
        return self.evaluate(snapshot).headline

    def evaluate(self, snapshot: Snapshot) -> Evaluation:
        """Return the mean loss and all mean metrics."""
        task = self._cache.task
        model = self._cache.network(
            self._structure, snapshot.plan.keep, snapshot.weights, snapshot.statistics
        )
        torch.set_num_threads(1)
        # The same draws for every network, where the data draw any.
        with seed_globals(task.config.run.seed, 0, "test", Use.DATA):
            return evaluate(model, task.test, task)
