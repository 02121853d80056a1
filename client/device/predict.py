"""Predictions of a network stored on a device's disk."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from fedprune.common.artifacts import read_input_shape, read_model_file
from fedprune.common.artifacts.load import load_model
from fedprune.common.data.sources import load_dataset
from fedprune.common.errors import DataError
from fedprune.common.tasks.loaded import run_network


def predict(
    path: Path,
    source: str,
    *,
    data_dir: str = "",
    limit: int,
    trust_code: bool = False,
) -> Iterator[dict[str, object]]:
    """Run a network on the test part of a data source.

    Args:
        path: A model file with plan and structure.
        source: As ``task.data``.
        data_dir: As ``task.data_dir``.
        limit: Most examples, >= 1.
        trust_code: As for ``load_model``.

    Yields:
        For each example ``index, prediction, target``, for classes also
        ``probability`` of the predicted one.

    Raises:
        IntegrityError: If the file is broken.
        DataError: If the data does not fit the network.
    """
    torch.set_num_threads(1)
    model = load_model(path, trust_code=trust_code)
    _, metadata = read_model_file(path)
    dataset = load_dataset(source, data_dir=data_dir, fold=0)
    wanted = read_input_shape(path, metadata)
    if dataset.input_shape != wanted:
        msg = f"'{source}' has inputs of {dataset.input_shape}; {path} wants {wanted}"
        raise DataError(msg)
    inputs, targets = dataset.test.batch(np.arange(min(limit, len(dataset.test))))
    with torch.no_grad():
        outputs = run_network(model, inputs)
    if dataset.regression:
        rows = zip(outputs.tolist(), targets.tolist(), strict=True)
        for index, (value, target) in enumerate(rows):
            yield {"index": index, "prediction": value, "target": target}
        return
    best = outputs.softmax(dim=1).max(dim=1)
    for index, target in enumerate(targets.tolist()):
        yield {
            "index": index,
            "prediction": int(best.indices[index]),
            "probability": round(float(best.values[index]), 4),
            "target": target,
        }
