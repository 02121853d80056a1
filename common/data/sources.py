"""Loading of data sets: ``task.data`` of the configuration."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from fedprune.common.config import Task as TaskKeys
from fedprune.common.data.arrays import RawData, make_dataset
from fedprune.common.data.examples import Dataset
from fedprune.common.data.folders.reader import read_folder
from fedprune.common.data.hf_dataset.opening import PREFIX
from fedprune.common.data.hf_dataset.source import read_hf_dataset
from fedprune.common.data.npz import read_npz
from fedprune.common.data.optional import optional_module
from fedprune.common.data.parquet import read_parquet
from fedprune.common.data.places import check_source, find_folder
from fedprune.common.errors import DataError
from fedprune.common.methods.kinds import NATURAL
from fedprune.common.seeding import Use, generator
from fedprune.common.user_code import in_own_code, load_function

FOLDS = 5

_PIXEL = 255.0
_ARRAYS = (4, 5)  # the fifth array is optional


@dataclass(frozen=True, slots=True, kw_only=True)
class _Images:
    """A known data set of images in parquet files; mean and std of pixels in 0..1."""

    shape: tuple[int, int, int]
    classes: int
    mean: float
    std: float


_PARQUET = {
    "mnist": _Images(shape=(1, 28, 28), classes=10, mean=0.1307, std=0.3081),
    "cifar10": _Images(shape=(3, 32, 32), classes=10, mean=0.473, std=0.251),
}
_WANTED = "want x, y train and x, y test, and maybe the client of each in training"


def load_dataset(
    source: str, *, data_dir: str, fold: int, keys: TaskKeys | None = None
) -> Dataset:
    """Load a data set.

    Args:
        source: ``digits``, ``diabetes``, ``mnist``, ``cifar10``, ``npz:FILE``,
            ``folder:DIR``, ``parquet:DIR``, ``hf-dataset:NAME_OR_PATH``,
            ``module:function`` or ``file.py:function``; a function returns
            ``(x_train, y_train, x_test, y_test)``, and maybe the name of the natural
            client of each training example as a fifth array.
        data_dir: Folder of parquet data, or empty for ``FEDPRUNE_DATA``.
        fold: Number of the fifth of ``digits``, or of an ``hf-dataset`` of one split,
            that is the test part, >= 0, counted modulo 5; the other sources have one
            fixed split.
        keys: The section ``task`` of the configuration, which names the columns of an
            ``hf-dataset``, and says whether the folders of ``folder:`` are clients;
            None = the defaults.

    Raises:
        ConfigError: If the source is unknown or missing, or a package is not installed.
        DataError: If a file or an array is not usable; the message names it.
    """
    check_source(source, data_dir)
    prefix, _, rest = source.partition(":")
    natural = (keys or TaskKeys()).partition.kind == NATURAL
    if source == "digits":
        return _digits(fold)
    if source == "diabetes":
        return _diabetes()
    if source in _PARQUET:
        return _known_images(source, data_dir)
    if prefix == PREFIX:
        return read_hf_dataset(rest, keys or TaskKeys(), fold)
    readers: dict[str, Callable[[Path], RawData]] = {
        "npz": read_npz,
        "folder": partial(read_folder, natural=natural),
        "parquet": read_parquet,
    }
    if prefix in readers:
        return make_dataset(readers[prefix](Path(rest).expanduser()), name=source)
    return make_dataset(_call(source), name=source)


def _digits(fold: int) -> Dataset:
    """Return scikit-learn's digits, one fold of five as the test part.

    The split is fixed, so that folds 0 to 4 test each of the 1 797 images once.
    """
    bunch = optional_module("sklearn.datasets", "scikit-learn").load_digits()
    inputs = (bunch.images[:, None] / 16.0).astype(np.float32)
    order = generator(0, 0, "digits", Use.PARTITION).permutation(len(inputs))
    folds = np.array_split(order, FOLDS)
    test = np.sort(folds[fold % FOLDS])
    train = np.setdiff1d(order, test)
    raw = RawData(
        x_train=inputs[train],
        y_train=bunch.target[train],
        x_test=inputs[test],
        y_test=bunch.target[test],
    )
    # The mean pixel of all images is 0.305: a constant, not a statistic of one part.
    return make_dataset(raw, name="digits", offset=0.305, scale=1.0, num_outputs=10)


def _diabetes() -> Dataset:
    """Return scikit-learn's diabetes, standardised on its training part, 80 to 20."""
    bunch = optional_module("sklearn.datasets", "scikit-learn").load_diabetes()
    inputs, targets = bunch.data, bunch.target[:, None]
    order = generator(0, 0, "diabetes", Use.PARTITION).permutation(len(inputs))
    test = np.sort(order[: len(order) // FOLDS])
    train = np.sort(order[len(order) // FOLDS :])
    inputs = (inputs - inputs[train].mean(0)) / inputs[train].std(0)
    targets = (targets - targets[train].mean(0)) / targets[train].std(0)
    raw = RawData(
        x_train=inputs[train],
        y_train=targets[train],
        x_test=inputs[test],
        y_test=targets[test],
    )
    return make_dataset(raw, name="diabetes")


def _known_images(name: str, data_dir: str) -> Dataset:
    known = _PARQUET[name]
    folder = find_folder(name, data_dir)
    dataset = make_dataset(
        read_parquet(folder),
        name=name,
        offset=known.mean * _PIXEL,
        scale=1 / (known.std * _PIXEL),
        num_outputs=known.classes,
    )
    if dataset.input_shape != known.shape:
        msg = f"{folder} has images of {dataset.input_shape}; {name} has {known.shape}"
        raise DataError(msg)
    return dataset


def _call(source: str) -> RawData:
    function = load_function(source)
    try:
        found = function()
        arrays = [np.asarray(array) for array in (() if found is None else found)]
    except (Exception, SystemExit) as error:
        msg = f"'{source}' failed: {type(error).__name__}: {error}"
        msg += in_own_code(error)
        raise DataError(msg) from error
    if len(arrays) not in _ARRAYS:
        what = "None" if found is None else f"{len(arrays)} arrays"
        msg = f"'{source}' returned {what}; {_WANTED}"
        raise DataError(msg)
    x_train, y_train, x_test, y_test, *clients = arrays
    return RawData(
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        clients=clients[0] if clients else None,
    )
