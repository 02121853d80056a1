"""A task as a run uses it: parts of the clients, seeds, checks of a user's methods."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from fedprune.common.config import Config
from fedprune.common.data.examples import (
    ArrayExamples,
    Batch,
    Dataset,
    Examples,
    MappedExamples,
    Targets,
    fingerprint_of,
)
from fedprune.common.data.partition import client_ids, partition, split_validation
from fedprune.common.description import Description
from fedprune.common.errors import ConfigError, DataError, FedPruneError
from fedprune.common.models.factory import checked_network
from fedprune.common.models.inputs import arguments
from fedprune.common.models.training import at_least_float32
from fedprune.common.models.weights_file import load_weights
from fedprune.common.seeding import Use, globals_at, seed_globals
from fedprune.common.spec import Indices, digest_of
from fedprune.common.system.device import (
    one_thread,
    set_deterministic,
    torch_device,
)
from fedprune.common.tasks.checked import check_for_each, checked_batch, checked_labels
from fedprune.common.tasks.described import checked_description
from fedprune.common.tasks.own import load_task
from fedprune.common.tasks.returned import (
    as_names,
    as_optimizer,
    check_example,
    check_names,
)
from fedprune.common.tasks.task import Data, Task
from fedprune.common.text import first_line
from fedprune.common.user_code import PYTHON, TASK_PREFIX, call_factory


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
class LoadedTask:
    """The task of a run, with what it loads on first use.

    Attributes:
        config: The whole configuration.
        factory: Makes the network instead of ``task.model``; for Python callers.
        given: A caller's own task; None = that of ``task.use``, or the built-in one.
        shared_data: Folder of the data of ``task.data`` where a run's driver left
            them for its workers, or None.
        agreed: Names of a device's classes as its server numbers them; () = none.
    """

    config: Config
    factory: Callable[[], nn.Module] | None = field(default=None, compare=False)
    given: Task | None = field(default=None, compare=False)
    shared_data: Path | None = field(default=None, compare=False)
    agreed: tuple[str, ...] = ()

    @override
    def __getstate__(self) -> dict[str, Any]:
        """Return the fields alone: data are loaded by each process for itself."""
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def unload(self) -> None:
        """Drop what was loaded, to free its memory; the next use loads it again."""
        for name in self.__dict__.keys() - self.__dataclass_fields__.keys():
            del self.__dict__[name]

    @cached_property
    def task(self) -> Task:
        """The task, under this configuration."""
        with self._seeded():
            own = self.given or load_task(self.config.task.use)
        return own.under(self.config, self.shared_data, self.agreed)

    @cached_property
    def device(self) -> torch.device:
        """The device that trains networks.

        Raises:
            ConfigError: If there is no such device.
        """
        set_deterministic(wanted=self.config.run.deterministic)
        return torch_device(self.config.run.device)

    # Data

    @property
    def dataset(self) -> Dataset:
        """The data of ``task.data``."""
        return self.task.source

    @cached_property
    def clients(self) -> tuple[str, ...]:
        """Names of the clients, in order.

        Raises:
            DataError: If a task's own names are not valid.
        """
        names, count = self._named, self.config.task.clients
        if not names and count == 0:
            msg = f"task.clients is 0, and {self.name} names no clients of its own; "
            msg += "want their number"
            raise ConfigError(msg)
        if not names:
            return tuple(client_ids(count))
        check_names(names, self.name)
        return names[: count or len(names)]

    @property
    def natural(self) -> bool:
        """True if the data name their clients, so that nothing is dealt out."""
        return bool(self._named)

    @cached_property
    def _named(self) -> tuple[Any, ...]:
        """The clients that the task names itself, as it names them."""
        return as_names(self._from("clients"), type(self.task).__name__)

    @cached_property
    def train(self) -> Examples:
        """All training examples, where they are dealt out to the clients."""
        return self._examples(self._from("train_data", ""))

    @cached_property
    def test(self) -> Examples:
        """The test examples."""
        return self._examples(self._from("test_data"))

    @cached_property
    def parts(self) -> dict[str, Indices]:
        """Positions of each client's examples in ``train``, int64[k], by client id."""
        split = self.config.task.partition
        parts = partition(
            self.labels(),
            kind=split.kind,
            clients=len(self.clients),
            seed=self.config.run.seed,
            alpha=split.alpha,
            classes_per_client=split.classes,
        )
        return dict(zip(self.clients, parts, strict=True))

    def labels(self) -> Targets:
        """Return the targets of ``train`` by which a partition deals, [n, ...].

        Raises:
            DataError: If they are not known, and the partition needs them.
        """
        targets = self.train.targets
        if targets is not None:
            return targets
        kind = self.config.task.partition.kind
        if kind != "iid":
            msg = f"the data of {self.name} name no labels, which the partition "
            msg += f"'{kind}' needs; want task.partition.kind = 'iid', or Task.labels"
            raise DataError(msg)
        return np.zeros(len(self.train), dtype=np.int64)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Number of each client's examples, by client id."""
        if self.natural:
            return {client: len(self._own_examples(client)) for client in self.clients}
        return {client: len(part) for client, part in self.parts.items()}

    @cached_property
    def sample(self) -> Examples:
        """Training examples to try a network on: all, or those of the first client."""
        if not self.natural:
            return self.train
        found = (self._own_examples(client) for client in self.clients)
        return next((x for x in found if len(x)), self._own_examples(self.clients[0]))

    def digests(self) -> tuple[str, str]:
        """Return the digests of ``sample`` and ``test``, from new calls of the task."""
        client = self.clients[0] if self.natural else ""
        with self._seeded():
            sample = fingerprint_of((self._own_examples(client),))
        with self._seeded():
            return sample, fingerprint_of((self._examples(self._from("test_data")),))

    def client_data(self, client_id: str) -> ClientData:
        """Return the training and the validation part of one client."""
        if self.natural:
            examples = self._own_examples(client_id)
            indices = np.arange(len(examples))
        else:
            examples, indices = self.train, self.parts[client_id]
        train, validation = split_validation(
            indices,
            share=self.config.client.validation,
            seed=self.config.run.seed,
            client_id=client_id,
        )
        return ClientData(
            train=examples.take(train), validation=examples.take(validation)
        )

    def example(self) -> Any:  # noqa: ANN401 - of any network
        """Return inputs of at most two examples, for tracing shapes.

        Raises:
            ConfigError: If an own ``example`` returns something else.
        """
        found = self._from("example")
        check_example(found, type(self.task).__name__)
        return found

    def fingerprint(self) -> str:
        """Return the digest of the data, 32 hex digits."""
        with self._seeded():
            return self._fingerprint()

    def _fingerprint(self) -> str:
        if not self.natural:
            return fingerprint_of((self.train, self.test))
        own, names = self.task.has_own_data, self.clients
        parts = map(self._own_examples, names) if own else (self.dataset.train,)
        names += () if own else self.dataset.owners
        whole = fingerprint_of((*parts, self.test))
        return digest_of(*(x.encode() for x in (*names, whole))).hex()

    @property
    def name(self) -> str:
        """Name of the data: the source, or the class of the task."""
        own = self.task.has_own_data
        return type(self.task).__name__ if own else self.config.task.data

    # Network

    @property
    def model_name(self) -> str:
        """Name by which the uncut network is made again from a file of it."""
        if self.made_by_python:
            return PYTHON
        if self.task.has_own_network:
            return f"{TASK_PREFIX}{self.config.task.use}"
        return self.config.task.model

    @property
    def made_by_python(self) -> bool:
        """True if only the caller's Python code can make the network again."""
        if self.factory is not None:
            return True
        return self.given is not None and self.given.has_own_network

    @property
    def num_outputs(self) -> int:
        """Entries of the network's output; 0 = the task does not say."""
        if self.config.task.outputs or self.task.has_own_data:
            return self.config.task.outputs
        return self.dataset.num_outputs

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the batch; () = it is not one tensor."""
        if self.config.task.input_shape:
            return self.config.task.input_shape
        if not self.task.has_own_data:
            return self.dataset.input_shape
        found = self.example()
        return tuple(found.shape[1:]) if isinstance(found, Tensor) else ()

    def build_model(self) -> nn.Module:
        """Return the uncut network in its initial state, equal for every caller."""
        # More threads would draw an orthogonal matrix, for one, with other last bits.
        with globals_at(self.config.run.seed), one_thread():
            model = call_factory(self.factory or self._network)
        if self.config.task.weights:
            load_weights(self.config.task.weights, model)
        return model

    # Learning

    def loss(self, outputs: Any, batch: Batch) -> Tensor:  # noqa: ANN401 - of the network
        """Return the loss of each example, float32[b].

        Raises:
            ConfigError: If an own loss returns anything else.
        """
        found = self.task.loss(outputs, batch)
        if self.task.has_own_loss:
            check_for_each(self.task, found, batch, "loss")
        return at_least_float32(found)

    def metrics(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:  # noqa: ANN401
        """Return the metrics of each example, float32[b]; the first is the headline.

        Raises:
            ConfigError: If an own metric is none.
        """
        found: object = self.task.metrics(outputs, batch)
        whose = type(self.task).__name__
        if not isinstance(found, Mapping) or not found:
            msg = f"{whose}.metrics returns a {type(found).__name__}; want a dict "
            msg += "name -> one number for each example"
            raise ConfigError(msg)
        for name, values in found.items():
            check_for_each(self.task, values, batch, f"metric '{name}'")
        return {str(name): at_least_float32(one) for name, one in found.items()}

    @property
    def higher_is_better(self) -> bool:
        """Direction of the headline metric; lower where it is an own loss."""
        task = self.task
        return task.higher_is_better and (task.has_own_metrics or not task.has_own_loss)

    def optimizer(
        self, parameters: list[nn.Parameter], lr: float
    ) -> torch.optim.Optimizer | None:
        """Return the task's own optimiser, or None for that of the configuration.

        Raises:
            ConfigError: If it returns anything else, or its code fails.
        """
        whose = f"{type(self.task).__name__}.optimizer"
        try:
            found: object = self.task.optimizer(parameters, lr)
        except FedPruneError:
            raise
        except (Exception, SystemExit) as error:
            msg = f"{whose} failed: {first_line(error, kind=True)}"
            raise ConfigError(msg) from error
        return as_optimizer(found, whose)

    def augmented(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return a batch as training sees it."""
        found: object = self.task.augment(batch, generator)
        if not isinstance(found, Batch):
            msg = (
                f"{type(self.task).__name__}.augment returns a {type(found).__name__};"
            )
            msg += " want the Batch"
            raise ConfigError(msg)
        return found

    def describe(self) -> Description:
        """Return label names and preprocessing, checked."""
        found = self._from("describe")
        return checked_description(
            found, self.task, self.num_outputs, lambda: self.input_shape
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

    # Checks of what a user's own methods return

    def _seeded(self) -> AbstractContextManager[None]:
        """Run a block with all global generators on one stream of the run's seed.

        Each process calls the methods for data, in another order.  It is the same
        stream for all, so that one random split gives disjoint parts.
        """
        return seed_globals(self.config.run.seed, 0, "data", Use.DATA)

    def _network(self) -> nn.Module:
        called = f"{type(self.task).__name__}.network"
        return checked_network(self.task.network, called)

    def _own_examples(self, client: str) -> Examples:
        return self._examples(self._from("train_data", client))

    def _from(self, method: str, *arguments: Any) -> Any:  # noqa: ANN401
        """Return what a method of the task returns; an own one may raise anything."""
        try:
            with self._seeded():
                found = getattr(self.task, method)(*arguments)
        except FedPruneError:
            raise
        except (Exception, SystemExit) as error:
            name = f"{type(self.task).__name__}.{method}"
            given = ", ".join(repr(x) for x in arguments if isinstance(x, str))
            msg = f"{name}({given}) failed: {first_line(error, kind=True)}"
            raise DataError(msg) from error
        return found

    def _examples(self, data: Data) -> Examples:
        """Return map-style data as examples."""
        if isinstance(data, ArrayExamples | MappedExamples):
            return data
        if not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
            msg = f"the data of {self.name} are a {type(data).__name__}; want "
            msg += "map-style data, with len(data) and data[index]"
            raise DataError(msg)
        return MappedExamples(
            data=data,
            rows=np.arange(len(data)),
            collate=partial(checked_batch, self.task),
            labels=checked_labels(self.task, self._from("labels", data), len(data)),
        )


def run_network(model: nn.Module, inputs: object) -> Any:  # noqa: ANN401 - of the network
    """Return a network's outputs for the inputs of a batch: tensor, tuple or dict."""
    if isinstance(inputs, Tensor):
        return model(inputs)
    return model(*arguments(model, inputs))
