"""Evaluation of networks on the test split: for reports only, never for a decision."""

import numpy as np
import torch

from fedprune.client.rounds.measure import Evaluation, classes_of, evaluate
from fedprune.client.rounds.model_cache import ModelCache
from fedprune.common.data.examples import Examples
from fedprune.common.errors import ConfigError, DataError, FedPruneError
from fedprune.common.methods.attack import BACKDOOR
from fedprune.common.profiling.activities import Activity
from fedprune.common.profiling.recorder import timed
from fedprune.common.seeding import Use, seed_globals
from fedprune.common.structure.structure import Structure
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.common.text import error_line
from fedprune.common.user_code import in_own_code
from fedprune.server.rounds.state import Snapshot
from fedprune.simulations.engines.hostile.poisoning import triggered_examples

MOST_CLASSES = 256  # whose recall is measured


def evaluator_of(task: LoadedTask, structure: Structure) -> "Evaluator | None":
    """Return what scores networks of a run; None where nothing is to be scored."""
    wanted = task.config.run.evaluate_every > 0
    return Evaluator(task, structure) if wanted else None


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

    @timed(Activity.EVALUATION)
    def evaluate(self, snapshot: Snapshot) -> Evaluation:
        """Return the mean loss and all mean metrics.

        Raises:
            FedPruneError: If the task's own code or data fail.
        """
        try:
            return self._evaluated(snapshot)
        except (ConfigError, DataError) as error:
            msg = f"{error}{in_own_code(error)}"
            raise type(error)(msg) from error
        except FedPruneError:
            raise
        except (Exception, SystemExit) as error:
            msg = "the network cannot be evaluated on the test examples after round "
            msg += f"{snapshot.round}: {error_line(error)}{in_own_code(error)}"
            raise FedPruneError(msg) from error

    def recall(self, snapshot: Snapshot) -> list[float | None] | None:
        """Return the share of the test examples of each class that are told rightly.

        Returns:
            One share a class, 0..1, None of a class without examples; None where
            examples have not one class each, the metric is no accuracy, or there are
            more than 256 classes.
        """
        task = self._cache.task
        classes = classes_of(task.test)
        if classes is None or len(classes) == 0:
            return None
        count = max(int(classes.max()) + 1, task.num_outputs)
        found: list[float | None] = []
        for number in range(count if count <= MOST_CLASSES else 0):
            places = np.flatnonzero(classes == number)
            if len(places) == 0:
                found.append(None)
                continue
            means = self._evaluated(snapshot, task.test.take(places)).means
            if "accuracy" not in means:
                return None
            found.append(round(means["accuracy"], 6))
        return found or None

    def backdoor_success(self, snapshot: Snapshot) -> float | None:
        """Return the share of triggered test images that get the attack's class.

        Images of that class are left out; None without a backdoor attack.
        """
        attack = self._cache.task.config.attack
        if attack.kind != BACKDOOR:
            return None
        examples = triggered_examples(self._cache.task.test, attack.target)
        return self._evaluated(snapshot, examples).means["accuracy"]

    def _evaluated(
        self, snapshot: Snapshot, examples: Examples | None = None
    ) -> Evaluation:
        task = self._cache.task
        model = self._cache.network(
            self._structure, snapshot.plan.keep, snapshot.weights, snapshot.statistics
        )
        torch.set_num_threads(1)
        # The same draws for every network, where the data draw any.
        with seed_globals(task.config.run.seed, 0, "test", Use.DATA):
            return evaluate(model, task.test if examples is None else examples, task)
