"""Split of one data set into a file for each device, for trials of devices."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from fedprune.common.config import Partition
from fedprune.common.data.examples import Dataset, Examples
from fedprune.common.data.npz import NAMES, write_npz
from fedprune.common.data.partition import client_ids, partition
from fedprune.common.data.sources import load_dataset
from fedprune.common.errors import ConfigError
from fedprune.common.spec import Indices
from fedprune.common.system.paths import make_folder

_IMAGE_DIMENSIONS = 3


def split_data(
    source: str,
    directory: Path,
    *,
    clients: int,
    size: int = 0,
    kind: str = "dirichlet",
    seed: int = 0,
) -> list[Path]:
    """Write ``<client id>.npz`` for each client: its part of the training data.

    Values are float32, shifted and scaled as the source specifies; the test data is
    divided evenly, in order.

    Args:
        source: As ``task.data``; parquet data in FEDPRUNE_DATA.
        directory: Folder of the files; made when absent.
        clients: Number of files, 1 <= clients <= test examples.
        size: Height and width that images are resized to; 0 = as they are.
        kind: As ``task.partition.kind``.
        seed: As ``run.seed``.

    Returns:
        The files, in order of the clients.

    Raises:
        ConfigError: If source, partition or size is not usable.
    """
    dataset = load_dataset(source, data_dir="", fold=seed % 5)
    rule = Partition(kind=kind)
    return split_dataset(
        dataset, directory, clients=clients, size=size, rule=rule, seed=seed
    )


def split_dataset(
    dataset: Dataset,
    directory: Path,
    *,
    clients: int,
    rule: Partition,
    size: int = 0,
    seed: int = 0,
) -> list[Path]:
    """Write the files of ``split_data`` for a data set that is loaded already.

    Args:
        dataset: The data set.
        directory: As for ``split_data``.
        clients: As for ``split_data``.
        rule: Kind and skew of the parts: ``task.partition``.
        size: As for ``split_data``.
        seed: As for ``split_data``.

    Raises:
        ConfigError: If partition or size is not usable.
    """
    targets = dataset.train.targets
    if targets is None or not dataset.input_shape:
        msg = f"'{dataset.name}' has inputs of several lengths or parts, which no npz "
        msg += "file holds; give each device its own data in the format of the source"
        raise ConfigError(msg)
    parts = partition(
        targets,
        kind=rule.kind,
        clients=clients,
        seed=seed,
        alpha=rule.alpha,
        classes_per_client=rule.classes,
    )
    tests = np.array_split(np.arange(len(dataset.test)), clients)
    make_folder(directory)
    files = []
    for name, train, test in zip(client_ids(clients), parts, tests, strict=True):
        _check_part(name, train, test)
        path = directory / f"{name}.npz"
        x_train, y_train = _arrays(dataset, dataset.train, train, size)
        x_test, y_test = _arrays(dataset, dataset.test, test, size)
        arrays = (x_train, y_train, x_test, y_test)
        write_npz(path, dict(zip(NAMES, arrays, strict=True)))
        files.append(path)
    return files


def _check_part(name: str, train: Indices, test: Indices) -> None:
    if not len(train) or not len(test):
        msg = f"{name} gets no data; want fewer clients, or --partition iid"
        raise ConfigError(msg)


def _arrays(
    dataset: Dataset, examples: Examples, chosen: Indices, size: int
) -> tuple[np.ndarray, np.ndarray]:
    inputs, targets = examples.batch(chosen)
    if size:
        inputs = _resized(inputs, dataset.input_shape, size)
    return inputs.numpy(), targets.numpy()


def _resized(inputs: torch.Tensor, shape: Sequence[int], size: int) -> torch.Tensor:
    if len(shape) != _IMAGE_DIMENSIONS:
        msg = f"--size resizes images; these inputs have shape {tuple(shape)}"
        raise ConfigError(msg)
    return functional.interpolate(
        inputs, size=(size, size), mode="bilinear", align_corners=False
    )
