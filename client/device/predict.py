"""Predictions of a network stored on a device's disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedprune.common.artifacts import read_input_shape, read_model_file
from fedprune.common.artifacts.load import describe_model, load_model
from fedprune.common.artifacts.packed_file import ENDING, read_packed
from fedprune.common.config import Config
from fedprune.common.data.examples import ArrayExamples, Batch, Dataset, Examples
from fedprune.common.data.sources import load_dataset
from fedprune.common.description import Description
from fedprune.common.errors import ConfigError, DataError
from fedprune.common.models.factory import Factory
from fedprune.common.models.shown import shapes
from fedprune.common.tasks.counted import chosen, counted
from fedprune.common.tasks.labels import with_labels
from fedprune.common.tasks.loaded import LoadedTask, run_network
from fedprune.common.tasks.losses import described, logits_of
from fedprune.common.tasks.own import load_task
from fedprune.common.tasks.task import Task
from fedprune.common.text import first_line
from fedprune.common.user_code import TASK_PREFIX

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Predictions on the first test examples of a data source.

    Attributes:
        rows: For each example ``index, prediction, target``; of one class also
            ``label`` and ``target_label`` where they have names, and ``probability``;
            of outputs that only a task can read ``index`` and the task's metrics.
        metric: Name of ``value``: "accuracy", "mean squared error", or the headline
            metric of a task of one's own.
        value: Over these rows.
        warning: Difference between the data and those of the training, or "".
    """

    rows: Sequence[Row]
    metric: str
    value: float
    warning: str = ""


def predict(
    path: Path,
    source: str,
    *,
    data_dir: str = "",
    limit: int,
    own: Task | Factory | None = None,
    trust_code: bool = False,
) -> Predictions:
    """Run a network on the test part of a data source, or of a task of one's own.

    Pixels are prepared as the file says, which may differ from the source's default.

    Args:
        path: A model file with plan and structure.
        source: As ``task.data``; "" = the test data of the task: ``own``, or the one
            that the file names.
        data_dir: As ``task.data_dir``.
        limit: Most examples, >= 1.
        own: The task, or the function that makes the network, where the file names
            none.
        trust_code: As for ``load_model``.

    Raises:
        ConfigError: If there is no source, and no task with data.
        IntegrityError: If the file is broken.
        DataError: If the data does not fit the network.
    """
    torch.set_num_threads(1)
    model = load_model(path, factory=own, trust_code=trust_code)
    labels, warning = describe_model(path).labels, ""
    task = _task(path, own)
    if source:
        test, warning = _of_source(path, source, data_dir)
    elif task is not None:
        test = task.test
    else:
        msg = f"{path} names no task with data; want --data SOURCE, or --use "
        raise ConfigError(msg + "FILE.py:CLASS, a task of your own")
    batch = test.batch(np.arange(min(limit, len(test))))
    with torch.no_grad():
        outputs = _outputs(model, batch)
        found = _shown(outputs, batch, labels, task)
    return replace(found, warning=warning)


def _outputs(model: nn.Module, batch: Batch) -> object:
    """Return the outputs of a network; its code may raise anything.

    Raises:
        DataError: If it does not take these inputs.
    """
    try:
        return run_network(model, batch.inputs)
    except (Exception, SystemExit) as error:
        msg = f"the network does not run on {shapes(batch.inputs)}: "
        msg += f"{first_line(error, kind=True)}; want data like those of the training"
        raise DataError(msg) from error


def _task(path: Path, own: Task | Factory | None) -> LoadedTask | None:
    """Return the caller's task, or that which the file names; None without one.

    ``load_model`` has checked before that the code of the file is trusted.
    """
    if path.suffix == ENDING:
        packed = read_packed(path).model
        name, outputs = packed.name, packed.num_outputs
    else:
        metadata = read_model_file(path)[1]
        name, outputs = metadata["model"], int(metadata["num_outputs"])
    given = own if isinstance(own, Task) else None
    if given is None and name.startswith(TASK_PREFIX):
        given = load_task(name.removeprefix(TASK_PREFIX))
    if given is None:
        return None
    stated = {"outputs": outputs, "input_shape": _input_shape(path)}
    config = Config()
    chosen = config.task.model_copy(update=stated)
    return LoadedTask(config.model_copy(update={"task": chosen}), given=given)


def _of_source(path: Path, source: str, data_dir: str) -> tuple[Examples, str]:
    """Return the test examples of a source, prepared for a file, and a warning."""
    description = describe_model(path)
    dataset = load_dataset(source, data_dir=data_dir, fold=0)
    if description.labels and dataset.label_names:  # numbers alone stay
        dataset = with_labels(dataset, description.labels, path.name)
    wanted = _input_shape(path)
    if wanted and dataset.input_shape != wanted:
        msg = f"'{source}' has inputs of {dataset.input_shape}; {path} wants {wanted}"
        raise DataError(msg)
    return _prepared(dataset.test, description), _warning(dataset, description)


def _shown(
    outputs: object, batch: Batch, labels: Sequence[str], task: LoadedTask | None
) -> Predictions:
    """Return predictions, by the metric of a task of one's own where it has one.

    Raises:
        DataError: If outputs and targets have no form that is known here.
    """
    own = task is not None and (task.task.has_own_loss or task.task.has_own_metrics)
    figures = task.metrics(outputs, batch) if task is not None and own else {}
    found = _by_form(outputs, batch.targets, labels)
    if not figures:
        if found is None:
            msg = f"the network gives {described(outputs)}, which cannot be compared "
            msg += "with the targets of these data; want --use FILE.py:CLASS, a task "
            raise DataError(msg + "whose metrics do")
        return found
    name, values = next(iter(figures.items()))
    if found is None:
        columns = {key: one.tolist() for key, one in figures.items()}
        rows = [
            {"index": k} | {key: column[k] for key, column in columns.items()}
            for k in range(batch.size)
        ]
        found = Predictions(rows=rows, metric=name, value=0.0)
    assert task is not None  # noqa: S101 - its are the figures
    values = chosen(values, counted(task, batch))
    return replace(found, metric=name, value=float(values.double().mean()))


def _by_form(
    outputs: object, targets: object, labels: Sequence[str]
) -> Predictions | None:
    """Return predictions of outputs whose form says their meaning; else None."""
    try:
        found = logits_of(outputs)
    except ConfigError:
        return None
    if not isinstance(targets, Tensor) or found.dim() == 0:
        return None
    if targets.is_floating_point():
        fits = found.numel() == targets.numel() and len(found) == len(targets)
        return _values(found, targets, labels) if fits else None
    shape, wanted = tuple(found.shape), tuple(targets.shape)
    if shape[:1] + shape[2:] == wanted:  # classes in dimension 1
        return _classes(found, targets, labels)
    if shape[:-1] == wanted:  # next-token: classes last
        return _classes(found.movedim(-1, 1), targets, labels)
    return _several(found, targets) if shape == wanted else None


def _several(outputs: Tensor, targets: Tensor) -> Predictions:
    """Return several labels of each example, 0 or 1 each."""
    chosen = (outputs > 0).long()
    pairs = zip(chosen.tolist(), targets.tolist(), strict=True)
    rows = [
        {"index": index, "prediction": found, "target": target}
        for index, (found, target) in enumerate(pairs)
    ]
    value = float((chosen == targets).double().mean())
    return Predictions(rows=rows, metric="accuracy", value=value)


def _input_shape(path: Path) -> tuple[int, ...]:
    if path.suffix == ENDING:
        return read_packed(path).model.input_shape
    return read_input_shape(path, read_model_file(path)[1])


def _prepared(test: Examples, description: Description) -> Examples:
    """Return examples of the stored type of the training with its preprocessing."""
    if not isinstance(test, ArrayExamples):
        return test
    if str(test.inputs.dtype) != description.stored:
        return test
    return ArrayExamples(
        inputs=test.inputs,
        targets=test.targets,
        offset=description.offset,
        scale=description.scale,
    )


def _warning(dataset: Dataset, description: Description) -> str:
    if not isinstance(dataset.test, ArrayExamples):
        return ""
    kind = str(dataset.test.inputs.dtype)
    if description.stored in ("", kind):
        return ""
    return (
        f"'{dataset.name}' stores {kind}, and the network was trained on "
        f"{description.stored}: the ranges of the values may differ"
    )


def _values(outputs: Any, targets: Any, _: Sequence[str]) -> Predictions:  # noqa: ANN401 - tensors
    rows = [
        {"index": index, "prediction": value, "target": target}
        for index, (value, target) in enumerate(
            zip(outputs.tolist(), targets.tolist(), strict=True)
        )
    ]
    error = float((outputs.reshape(targets.shape) - targets).square().mean())
    return Predictions(rows=rows, metric="mean squared error", value=error)


def _classes(outputs: Any, targets: Any, labels: Sequence[str]) -> Predictions:  # noqa: ANN401 - tensors
    """Return classes; of an example with a class for each position a list of them."""
    best = outputs.softmax(dim=1).max(dim=1)
    single = best.indices.dim() == 1
    rows: list[Row] = []
    for index, (found, target) in enumerate(
        zip(best.indices.tolist(), targets.tolist(), strict=True)
    ):
        row: dict[str, object] = {"index": index, "prediction": found}
        if single:
            row |= _named("label", found, labels)
            row["probability"] = round(float(best.values[index]), 4)
        row["target"] = target
        rows.append(row | (_named("target_label", target, labels) if single else {}))
    counted = targets >= 0  # a negative class marks a position that does not count
    right = (best.indices == targets)[counted].double()
    value = float(right.mean()) if right.numel() else float("nan")
    return Predictions(rows=rows, metric="accuracy", value=value)


def _named(key: str, number: int, labels: Sequence[str]) -> dict[str, object]:
    return {key: labels[number]} if 0 <= number < len(labels) else {}
