"""Arrays that a Python caller hands over: checked, then stored beside the runs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedprune.common.data.arrays import make_dataset
from fedprune.common.data.npz import CLIENTS, NAMES, raw_data, write_npz
from fedprune.common.errors import ConfigError, DataError
from fedprune.common.spec import digest_of
from fedprune.common.system.paths import make_folder

Arrays = dict[str, NDArray[np.generic]]

_WANTED = f"want a tuple {', '.join(NAMES)}, and maybe {CLIENTS}"
_NUMBERS = "buif"


@contextmanager
def stored(data: object, folder: Path) -> Iterator[Path]:
    """Hand out a file of the arrays, where workers and a resumed run find them.

    A file of the same arrays that is there already is used again.  If the body fails
    before a run stands in ``folder`` that needs the file, it is removed.

    Args:
        data: ``(x_train, y_train, x_test, y_test)``, of NumPy, torch or lists, and
            maybe the name of the natural client of each training example.
        folder: Where the runs lie; made when absent.

    Raises:
        ConfigError: If it is no tuple of four or five, or the folder cannot be made.
        DataError: If an array is unusable; nothing is written then.
        FedPruneError: If the file cannot be written.
    """
    arrays = read_arrays(data)
    make_dataset(raw_data(arrays), name="data")
    parts = [a.tobytes() + str((a.shape, a.dtype)).encode() for a in arrays.values()]
    path = folder.resolve() / f"data-{digest_of(*parts).hex()}.npz"
    fresh_folder, fresh = not folder.exists(), not path.exists()
    if fresh:
        make_folder(folder)
        write_npz(path, arrays)
    try:
        yield path
    except BaseException:
        if fresh and not _needed(path):
            path.unlink(missing_ok=True)
            if fresh_folder:
                with suppress(OSError):
                    folder.rmdir()
        raise


def read_arrays(data: object) -> Arrays:
    """Return name -> array of the four or five arrays.

    Raises:
        ConfigError: If it is no tuple or list of four or five.
        DataError: If one of them cannot be an array of numbers; names it.
    """
    if not isinstance(data, Sequence) or isinstance(data, str | bytes):
        msg = f"data: found {type(data).__name__}, {_WANTED}"
        raise ConfigError(msg)
    names = (*NAMES, CLIENTS)[: max(len(data), len(NAMES))]
    if len(data) != len(names):
        msg = f"data holds {len(data)} arrays; {_WANTED}"
        raise ConfigError(msg)
    return {name: _array(name, item) for name, item in zip(names, data, strict=True)}


def _array(name: str, given: Any) -> NDArray[np.generic]:  # noqa: ANN401 - from users
    """Return plain numbers; gradients of a tensor are left out."""
    tensor = isinstance(given, torch.Tensor)
    try:
        array = np.asarray(given.detach().cpu() if tensor else given)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        if "inhomogeneous" in why:
            why = "its entries differ in length; want all examples of one shape"
        msg = f"{name} cannot be made an array: {why}"
        raise DataError(msg) from error
    if name == CLIENTS and array.dtype.kind == "U":
        return array
    if array.dtype.kind not in _NUMBERS:
        msg = (
            f"{name} holds {array.dtype}; want plain numbers, no Python objects and no"
        )
        msg += " text"
        if name.startswith("y_") and array.dtype.kind == "U":
            msg += ": number the classes, np.unique(y, return_inverse=True)"
        raise DataError(msg)
    if np.ma.is_masked(given):
        msg = f"{name} has masked entries; fill them or leave their examples out"
        raise DataError(msg)
    return array


def _needed(path: Path) -> bool:
    """Return whether a run beside the file was started with it."""
    for config in path.parent.glob("*/config.toml"):
        with suppress(OSError):
            if path.name.encode() in config.read_bytes():
                return True
    return False
