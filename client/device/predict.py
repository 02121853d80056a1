"""Predictions of a network stored on a device's disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedprune.common.artifacts import read_input_shape, read_model_file
from fedprune.common.artifacts.load import describe_model, load_model
from fedprune.common.artifacts.packed_file import ENDING, read_packed
from fedprune.common.data.examples import ArrayExamples, Dataset, Examples
from fedprune.common.data.sources import load_dataset
from fedprune.common.description import Description
from fedprune.common.errors import DataError
from fedprune.common.tasks.labels import with_labels
from fedprune.common.tasks.loaded import run_network
from fedprune.common.tasks.losses import logits_of

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """Predictions on the first test examples of a data source.

    Attributes:
        rows: For each example ``index, prediction, target``; of one class also
            ``label`` and ``target_label`` where they have names, and ``probability``.
        metric: Name of ``value``: "accuracy", or "mean squared error".
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
    trust_code: bool = False,
) -> Predictions:
    """Run a network on the test part of a data source.

    Pixels are prepared as the file says, which may differ from the source's default.

    Args:
        path: A model file with plan and structure.
        source: As ``task.data``.
        data_dir: As ``task.data_dir``.
        limit: Most examples, >= 1.
        trust_code: As for ``load_model``.

    Raises:
        IntegrityError: If the file is broken.
        DataError: If the data does not fit the network.
    """
    torch.set_num_threads(1)
    model = load_model(path, trust_code=trust_code)
    description = describe_model(path)
    dataset = load_dataset(source, data_dir=data_dir, fold=0)
    if description.labels and dataset.label_names:  # numbers alone stay
        dataset = with_labels(dataset, description.labels, path.name)
    wanted = _input_shape(path)
    if wanted and dataset.input_shape != wanted:
        msg = f"'{source}' has inputs of {dataset.input_shape}; {path} wants {wanted}"
        raise DataError(msg)
    test = _prepared(dataset.test, description)
    inputs, targets = test.batch(np.arange(min(limit, len(test))))
    with torch.no_grad():
        outputs = logits_of(run_network(model, inputs))
    found = _values if dataset.regression else _classes
    return replace(
        found(outputs, targets, description.labels),
        warning=_warning(dataset, description),
    )


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
