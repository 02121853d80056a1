"""``fedprune.Task``: network, data and loss, which a user's own class overrides."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Subset, TensorDataset, default_collate
from typing_extensions import override

from fedprune.common.config import Config
from fedprune.common.data.examples import (
    ArrayExamples,
    Batch,
    Dataset,
    MappedExamples,
    MapStyle,
    Targets,
)
from fedprune.common.data.shared import read_shared
from fedprune.common.data.sources import FOLDS, load_dataset
from fedprune.common.description import Description
from fedprune.common.errors import ConfigError, DataError
from fedprune.common.methods.kinds import NATURAL
from fedprune.common.models.registry import build_model
from fedprune.common.spec import Indices
from fedprune.common.tasks.labels import with_labels
from fedprune.common.tasks.losses import LOSSES, Loss, logits_of, squared_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import Self

Data: TypeAlias = ArrayExamples | MappedExamples | MapStyle

# Attributes that each process loads for itself.
_LOADED = ("own_source", "source", "owned", "spread")
_READ = 256  # examples that are read at once
_PAIR = 2  # inputs and target of an item
_TARGET_KEYS = ("labels", "label", "targets", "target")


class Task:
    """A federation's task; every method has a default, given by the configuration.

    A subclass overrides what differs, and is handed over as
    ``fedprune.simulate(MyTask(), config)`` or named as ``task.use =
    "file.py:MyTask"``.  Its code travels to the workers, its data do not: each
    process calls ``train_data`` for the clients that it runs.  So keep no data in the
    object (large files are opened in ``train_data``), and draw random numbers only
    from the generator that a method is given.

    Attributes:
        config: The configuration of the run; set before any method is called.
        higher_is_better: Direction of the headline metric.
    """

    config: Config = Config()
    higher_is_better: bool = True
    shared_data: Path | None = None  # where the driver of a run left ``source``
    agreed: tuple[str, ...] = ()  # names of the classes of a device's server

    def network(self) -> nn.Module:
        """Return a new uncut network: ``task.model``.

        Called with torch's generators on a stream of the run's seed.
        """
        chosen = self.config.task
        outputs, shape = chosen.outputs, tuple(chosen.input_shape)
        if not outputs or not shape:
            own = self.__class__
            if own.train_data is not Task.train_data:
                msg = f"'{chosen.model}' needs task.outputs and task.input_shape, for "
                msg += f"the data are those of {own.__name__}; set both, or override "
                msg += f"{own.__name__}.network"
                raise ConfigError(msg)
            outputs = outputs or self.source.num_outputs
            shape = shape or self.source.input_shape
        seed = self.config.run.seed
        return build_model(
            chosen.model, num_outputs=outputs, input_shape=shape, seed=seed
        )

    def clients(self) -> Sequence[str]:
        """Return the names of the natural clients, or () to deal the examples out.

        Then ``task.partition`` splits ``train_data("")`` over ``task.clients`` clients.
        """
        if self.config.task.partition.kind != NATURAL:
            return ()
        if not self.source.owners:
            msg = (
                f"'{self.source.name}' names no client for its examples; want another "
            )
            msg += "task.partition.kind than 'natural', or data with clients"
            raise DataError(msg)
        return list(self.owned)

    def train_data(self, client: str) -> Data:
        """Return the training examples of a client, or of all with ``client`` = "".

        Returns:
            Map-style data (``len`` and ``[index]``), whose items ``collate`` takes.
        """
        train = self.source.train
        if not client or not self.source.owners:
            return train
        return train.take(self.owned.get(client, np.zeros(0, dtype=np.int64)))

    def test_data(self) -> Data:
        """Return the test examples, for the final figures only; as ``train_data``."""
        return self.source.test

    def example(self) -> Any:  # noqa: ANN401 - of any network
        """Return valid inputs of two examples, to trace shapes with.

        By default zeros of ``task.input_shape``, and without it training examples.  A
        task whose server has no data, and whose inputs are no floats, overrides it.
        """
        shape = self.config.task.input_shape
        if shape:
            return torch.zeros(2, *shape)
        client = next(iter(self.clients()), "")
        data = self.train_data(client)
        places = np.arange(min(2, len(data)))
        if isinstance(data, ArrayExamples | MappedExamples):
            return data.batch(places).inputs
        return self.collate([data[int(place)] for place in places]).inputs

    def labels(self, data: Data) -> Targets | None:
        """Return classes int64[n] or values float[n, ...] of map-style data, or None.

        They serve an even choice of the examples that are measured, and skewed
        partitions.  The default reads what torchvision's and torch's data sets have
        (``targets``, ``labels``, tensors) and never an example.
        """
        return _labels_of(data)

    def collate(self, items: Sequence[Any]) -> Batch:
        """Make a batch of items of map-style data.

        An item is a pair (inputs, target), or a dict with the target under "labels"
        or "label" and the inputs under the other keys.
        """
        if isinstance(items[0], tuple | list) and len(items[0]) == _PAIR:
            found = default_collate(list(items))
            return Batch(*map(_as_in_the_item, found, items[0]))
        if isinstance(items[0], dict):
            found = default_collate(list(items))
            for key in _TARGET_KEYS:
                if key in found:
                    targets = found.pop(key)
                    inputs = found.popitem()[1] if len(found) == 1 else found
                    return Batch(inputs, targets)
        msg = (
            f"an item of the data is a {type(items[0]).__name__}; want a pair (inputs,"
        )
        msg += " target), a dict with 'labels', or a task that overrides collate"
        raise DataError(msg)

    def augment(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return a changed batch of training examples; by default the batch itself.

        Args:
            batch: As ``collate`` made it.
            generator: The only source of random numbers, of the run's seed, the round
                and the client.
        """
        del generator
        return batch

    def loss(self, outputs: Any, batch: Batch) -> Tensor:  # noqa: ANN401 - of the network
        """Return the loss of each example, float[b]: ``task.loss``."""
        return self.built_in.for_each(logits_of(outputs), batch.targets)

    def metrics(self, outputs: Any, batch: Batch) -> Mapping[str, Tensor]:  # noqa: ANN401
        """Return named metrics of each example, float[b]; the first is the headline.

        By default those of ``task.loss``; of an own loss that loss, and lower is
        better then whatever ``higher_is_better`` says.
        """
        if self.has_own_loss:
            return {"loss": self.loss(outputs, batch)}
        found = logits_of(outputs)
        if self.built_in.name == "mse":
            error = squared_error(found, batch.targets)
            return {"r2": 1.0 - error / self.spread}
        return {
            name: metric(found, batch.targets)
            for name, metric in self.built_in.metrics.items()
        }

    def optimizer(
        self, parameters: Iterable[nn.Parameter], lr: float
    ) -> torch.optim.Optimizer | None:
        """Return the optimiser of one local training, or None: ``client.optimizer``.

        Args:
            parameters: The weights that are trained.
            lr: Learning rate of this round, by ``client.lr_schedule``.
        """
        del parameters, lr
        return None

    def describe(self) -> Description:
        """Return label names and preprocessing, which travel with exported files."""
        if self.__class__.train_data is not Task.train_data:
            return Description(labels=tuple(self.config.task.labels))
        source, train = self.source, self.source.train
        if not isinstance(train, ArrayExamples):
            return Description(
                labels=source.label_names,
                offset=source.offset,
                scale=source.scale,
                stored=source.stored,
            )
        integers = train.inputs.dtype == np.int64
        return Description(
            labels=source.label_names,
            offset=0.0 if integers else train.offset,
            scale=1.0 if integers else train.scale,
            stored=str(train.inputs.dtype),
        )

    # What follows serves the engine; a subclass has no need to override it.

    def under(
        self,
        config: Config,
        shared_data: Path | None = None,
        agreed: tuple[str, ...] = (),
    ) -> Self:
        """Return a copy of the task with another configuration and place of data."""
        found = copy.copy(self)
        found.config, found.shared_data, found.agreed = config, shared_data, agreed
        for name in _LOADED:
            found.__dict__.pop(name, None)
        return found

    @property
    def built_in(self) -> Loss:
        """The loss of ``task.loss``."""
        return LOSSES[self.config.task.loss]

    @property
    def has_own_loss(self) -> bool:
        """True if a subclass overrides the loss."""
        return self.__class__.loss is not Task.loss

    @property
    def has_own_metrics(self) -> bool:
        """True if a subclass overrides the metrics."""
        return self.__class__.metrics is not Task.metrics

    @property
    def has_own_data(self) -> bool:
        """True if a subclass overrides the training data."""
        return self.__class__.train_data is not Task.train_data

    @property
    def has_own_network(self) -> bool:
        """True if a subclass overrides the network."""
        return self.__class__.network is not Task.network

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in order, that a server tells; () = it names none.

        Those of the configuration, or of the data where a server has to load them.
        """
        chosen = self.config.task
        without = self.has_own_data or (chosen.outputs and chosen.input_shape)
        return chosen.labels if chosen.labels or without else self.source.label_names

    @cached_property
    def source(self) -> Dataset:
        """The data of ``task.data``, loaded on first use.

        The classes of a device are numbered as it has agreed with its server.
        """
        found = self.own_source
        if self.agreed:
            found = with_labels(found, self.agreed, "the server")
        self._check_outputs(found)
        return found

    @cached_property
    def own_source(self) -> Dataset:
        """The data of ``task.data``; the classes are numbered by ``task.labels``.

        Fold ``seed % 5`` is the test split of data without one.
        """
        if self.shared_data is not None:
            shared = read_shared(self.shared_data)
            if shared is not None:
                return shared
        chosen = self.config.task
        fold = self.config.run.seed % FOLDS
        found = load_dataset(
            chosen.data, data_dir=chosen.data_dir, fold=fold, keys=chosen
        )
        if chosen.labels:
            return with_labels(found, chosen.labels, "task.labels")
        return found

    def _check_outputs(self, found: Dataset) -> None:
        chosen = self.config.task
        if 0 < chosen.outputs < found.num_outputs:
            msg = f"'{chosen.data}' needs {found.num_outputs} outputs; task.outputs is "
            msg += f"{chosen.outputs}; want as many, or 0 for those of the data"
            raise DataError(msg)

    @cached_property
    def owned(self) -> dict[str, Indices]:
        """Name of each natural client -> positions of its examples, int64[k]."""
        names, owners = np.unique(np.array(self.source.owners), return_inverse=True)
        order = np.argsort(owners, kind="stable")
        ends = np.cumsum(np.bincount(owners, minlength=len(names)))
        found = np.split(order, ends[:-1]) if len(names) else []
        return dict(zip(names.tolist(), found, strict=True))

    @cached_property
    def spread(self) -> float:
        """Mean variance of the test targets' columns, to which R squared refers."""
        data = self.test_data()
        targets = data.targets if isinstance(data, ArrayExamples) else self.labels(data)
        if targets is None:
            targets = self._read_targets(data)
        if not len(targets):
            return 1.0
        rows = np.asarray(targets, dtype=np.float64).reshape(len(targets), -1)
        return float(rows.var(axis=0).mean()) or 1.0

    def _read_targets(self, data: Any) -> Targets:  # noqa: ANN401 - of the user
        """Return the targets of data without labels, [n, ...]; all are read."""
        whole = np.arange(len(data))
        parts = [
            data.batch(places)
            if isinstance(data, MappedExamples)
            else self.collate([data[int(place)] for place in places])
            for places in np.split(whole, whole[_READ::_READ])
        ]
        found = [np.asarray(part.targets, dtype=np.float32) for part in parts]
        return np.concatenate(found)

    @override
    def __getstate__(self) -> dict[str, Any]:
        """Return the object without what was loaded: each process loads its own."""
        kept = dict(self.__dict__)
        for name in _LOADED:
            kept.pop(name, None)
        return kept


def _as_in_the_item(collated: object, one: object) -> object:
    """Return a tuple where the item has one: torch collates tuples to a list.

    A list would be one argument of the network, not one for each entry.
    """
    return tuple(collated) if isinstance(one, tuple) else collated  # type: ignore[arg-type]


def _labels_of(data: Any) -> Targets | None:  # noqa: ANN401 - of the user
    """Return the labels of map-style data without reading an example."""
    if isinstance(data, ArrayExamples | MappedExamples):
        return data.targets
    if isinstance(data, Subset):
        whole = _labels_of(data.dataset)
        return None if whole is None else whole[np.asarray(data.indices)]
    if isinstance(data, TensorDataset):
        found: Any = data.tensors[1] if len(data.tensors) == _PAIR else None
    else:
        found = next(
            (
                x
                for x in (getattr(data, n, None) for n in ("targets", "labels"))
                if x is not None
            ),
            None,
        )
    return as_labels(found, len(data))


def as_labels(found: object, count: int) -> Targets | None:
    """Return labels as an array of numbers [n, ...]; None where they are none."""
    if found is None:
        return None
    try:
        array = np.asarray(found)
    except (TypeError, ValueError, RuntimeError):
        return None
    if array.ndim == 0 or len(array) != count:
        return None
    if array.dtype.kind in "bui":
        return array.astype(np.int64)
    return array.astype(np.float32) if array.dtype.kind == "f" else None
