"""One federated task: the network, the data, and the partition of it over clients."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedprune.common.config import Config
from fedprune.common.data.examples import Batch, Dataset, Examples
from fedprune.common.data.partition import client_ids, partition, split_validation
from fedprune.common.data.sources import load_dataset
from fedprune.common.errors import ConfigError, DataError
from fedprune.common.models.registry import build_model
from fedprune.common.models.weights_file import load_weights
from fedprune.common.spec import Indices
from fedprune.common.user_code import call_factory


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientData:
    """The examples of one client; they never leave it.

    Attributes:
        train: Examples for training and scoring, maybe none.
        validation: Examples for validating broadcasts, maybe none.
    """

    train: Examples
    validation: Examples


@dataclass(frozen=True)
class Task:
    """Network, data and loss of a federation, loaded on first use.

    Attributes:
        config: The whole configuration.
        factory: Makes the network instead of ``task.model``; for Python callers.
    """

    config: Config
    factory: Callable[[], nn.Module] | None = field(default=None, compare=False)

    @cached_property
    def dataset(self) -> Dataset:
        """All examples; fold ``seed % 5`` is the test split of data without one."""
        task = self.config.task
        fold = self.config.run.seed % 5
        dataset = load_dataset(task.data, data_dir=task.data_dir, fold=fold)
        if 0 < task.outputs < dataset.num_outputs:
            msg = (
                f"'{task.data}' needs {dataset.num_outputs} outputs; "
                f"task.outputs is {task.outputs}"
            )
            raise DataError(msg)
        return dataset

    @property
    def num_outputs(self) -> int:
        """Entries of the network's output; the data of a device may lack classes."""
        return self.config.task.outputs or self.dataset.num_outputs

    @property
    def regression(self) -> bool:
        """True for a regression: values are learned by the squared error."""
        return self.config.task.loss == "mse"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the batch."""
        return self.config.task.input_shape or self.dataset.input_shape

    @cached_property
    def clients(self) -> tuple[str, ...]:
        """Names of the clients, in order."""
        return tuple(client_ids(self.config.task.clients))

    @cached_property
    def parts(self) -> dict[str, Indices]:
        """Indices of each client's training examples, int64[k], by client id."""
        split = self.config.task.partition
        parts = partition(
            self.dataset.train.targets,
            kind=split.kind,
            clients=self.config.task.clients,
            seed=self.config.run.seed,
            alpha=split.alpha,
            classes_per_client=split.classes,
        )
        return dict(zip(self.clients, parts, strict=True))

    def client_data(self, client_id: str) -> ClientData:
        """Return the training and the validation part of one client."""
        train, validation = split_validation(
            self.parts[client_id],
            share=self.config.client.validation,
            seed=self.config.run.seed,
            client_id=client_id,
        )
        examples = self.dataset.train
        return ClientData(
            train=examples.take(train), validation=examples.take(validation)
        )

    def under(self, seed: int, validation: float) -> Self:
        """Return the task with the seed and the validation share of a run.

        They determine the train, validation and test parts, and the initial weights.
        """
        config = self.config
        if (config.run.seed, config.client.validation) == (seed, validation):
            return self
        run = config.run.model_copy(update={"seed": seed})
        client = config.client.model_copy(update={"validation": validation})
        changed = config.model_copy(update={"run": run, "client": client})
        return replace(self, config=changed)

    def build_model(self) -> nn.Module:
        """Return the uncut network in its initial state, equal for every caller."""
        if self.factory is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.config.run.seed)
                model = call_factory(self.factory)
        else:
            model = build_model(
                self.config.task.model,
                num_outputs=self.num_outputs,
                input_shape=self.input_shape,
                seed=self.config.run.seed,
            )
        if self.config.task.weights:
            load_weights(self.config.task.weights, model)
        return model

    def example(self) -> Tensor:
        """Return a batch of at most two inputs, for tracing shapes."""
        if self.config.task.input_shape:
            return torch.zeros(2, *self.config.task.input_shape)
        inputs, _ = self.dataset.train.batch(np.arange(min(2, len(self.dataset.train))))
        return inputs

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the loss of each example, float32[b].

        Args:
            outputs: Outputs of the network for ``batch.inputs``.
            batch: The examples.

        Raises:
            ConfigError: If the loss is the squared error, and the outputs are not as
                many as the targets.
        """
        if self.regression:
            # Single values may have shape [batch] or [batch, 1] on either side, which
            # broadcasting would make [batch, batch].
            found, wanted = _rows(outputs), _rows(batch.targets)
            if found.shape != wanted.shape:
                msg = (
                    f"the network gives {found.shape[1]} values for each example; the "
                    f"targets have {wanted.shape[1]}: want as many"
                )
                raise ConfigError(msg)
            return ((found - wanted) ** 2).mean(dim=1)
        return functional.cross_entropy(outputs, batch.targets, reduction="none")

    def correct(self, outputs: Tensor, targets: Tensor) -> int:
        """Return the number of correctly classified examples; 0 for a regression."""
        if self.regression:
            return 0
        return int((outputs.argmax(dim=1) == targets).sum())


def _rows(values: Tensor) -> Tensor:
    """Return one row for each example, [batch, values]."""
    return values[:, None] if values.dim() == 1 else values.flatten(1)
