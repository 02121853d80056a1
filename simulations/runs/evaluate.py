"""Evaluation of networks on the test split: for reports only, never for a decision."""

import numpy as np
import torch

from fedprune.client.rounds.measure import batches
from fedprune.client.rounds.model_cache import ModelCache
from fedprune.common.structure.structure import Structure
from fedprune.common.task import Task
from fedprune.server.rounds.state import Snapshot


class Evaluator:
    """Scores networks on the test split.

    Args:
        task: Gives the test split.
        structure: The original network.
    """

    def __init__(self, task: Task, structure: Structure) -> None:
        self._cache = ModelCache(task)
        self._structure = structure

    def __call__(self, snapshot: Snapshot) -> float:
        """Return the share classified correctly, or R squared for a regression."""
        task = self._cache.task
        model = self._cache.network(
            self._structure, snapshot.plan.keep, snapshot.weights, snapshot.statistics
        )
        model.eval()
        test = task.dataset.test
        torch.set_num_threads(1)
        with torch.no_grad():
            pairs = [test.batch(b) for b in batches(len(test), 256)]
            outputs = torch.cat([model(inputs) for inputs, _ in pairs])
        targets = torch.cat([targets for _, targets in pairs])
        if task.regression:
            return _r_squared(outputs, targets)
        return float((outputs.argmax(dim=1) == targets).double().mean())


def _r_squared(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    """Return 1 - residual sum of squares / total sum of squares."""
    wanted = targets.reshape(outputs.shape).double().numpy()
    residual = float(np.square(outputs.double().numpy() - wanted).sum())
    total = float(np.square(wanted - wanted.mean(axis=0)).sum())
    return 1.0 - residual / total if total > 0.0 else float("nan")
