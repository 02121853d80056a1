"""Poisoned training data: what a hostile client trains on in place of its own."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from typing_extensions import override

from fedprune.client.rounds.measure import classes_of
from fedprune.client.rounds.model_cache import ModelCache
from fedprune.common.data.examples import ArrayExamples, Examples
from fedprune.common.errors import ConfigError
from fedprune.common.methods.attack import BACKDOOR, triggered
from fedprune.common.methods.kinds import ATTACK
from fedprune.common.methods.registry import find
from fedprune.common.seeding import Use, generator
from fedprune.common.tasks.loaded import ClientData, LoadedTask

# Name of a client and its data -> the data that it trains on.
Poisoner: TypeAlias = Callable[[str, ClientData], ClientData]


class PoisonedCache(ModelCache):
    """Networks of hostile clients, and their training data after the attack.

    Args:
        task: The task.
        poison: Changes the data of a client.
    """

    def __init__(self, task: LoadedTask, poison: Poisoner) -> None:
        super().__init__(task)
        self._poison = poison

    @override
    def data(self, client_id: str) -> ClientData:
        """Return a client's examples: those to train on poisoned, the others not."""
        if client_id not in self._data:
            honest = self.task.client_data(client_id)
            self._data[client_id] = self._poison(client_id, honest)
        return self._data[client_id]


def poisoner_of(task: LoadedTask) -> Poisoner | None:
    """Return the change of training data by the attack, or None where it makes none."""
    attack, seed = task.config.attack, task.config.run.seed
    method = find(ATTACK, attack.kind)
    if "inputs" not in method.needs:
        return None

    def poison(client: str, data: ClientData) -> ClientData:
        honest, targets = _arrays(data.train, attack.kind)
        classes = task.num_outputs
        if attack.target >= classes:
            msg = f"attack.target is {attack.target}; want a class below {classes}"
            raise ConfigError(msg)
        inputs, changed = method(
            inputs=honest.inputs,
            targets=targets,
            classes=classes,
            target=attack.target,
            rng=generator(seed, 0, client, Use.ATTACK),
        )
        poisoned = ArrayExamples(
            inputs=inputs,
            targets=np.asarray(changed, dtype=np.int64),
            offset=honest.offset,
            scale=honest.scale,
        )
        return ClientData(train=poisoned, validation=data.validation)

    return poison


def triggered_examples(examples: Examples, target: int) -> ArrayExamples:
    """Return the examples of other classes with the trigger, labelled ``target``.

    Raises:
        ConfigError: If they are no images with classes.
    """
    honest, targets = _arrays(examples, BACKDOOR)
    others = targets != target
    return ArrayExamples(
        inputs=triggered(honest.inputs[others]),
        targets=np.full(int(others.sum()), target, dtype=np.int64),
        offset=honest.offset,
        scale=honest.scale,
    )


def _arrays(
    examples: Examples, kind: str
) -> tuple[ArrayExamples, np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    classes = classes_of(examples)
    if not isinstance(examples, ArrayExamples) or classes is None:
        msg = f"attack.kind '{kind}' needs data in arrays with one class each (digits, "
        msg += "mnist, cifar10, npz:FILE)"
        raise ConfigError(msg)
    return examples, classes
