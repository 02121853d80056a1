"""Arrays in ``.npz`` files, read without pickle and without trust in their headers."""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from fedprune.common.data.arrays import RawData
from fedprune.common.errors import DataError
from fedprune.common.system.atomic import replacing

NAMES = ("x_train", "y_train", "x_test", "y_test")

# A compressed member may be small and unfold without end.
MAX_MEMBER_BYTES = 8 << 30

_NUMBERS = "buif"


def read_npz(path: Path) -> RawData:
    """Read ``x_train``, ``y_train``, ``x_test`` and ``y_test`` of a file.

    Raises:
        DataError: If the file is no zip, lacks an array, or an array's header is
            damaged, asks for pickle, or claims another size than there is.
    """
    try:
        with ZipFile(path) as archive:
            arrays = {name: _read_member(archive, path, name) for name in NAMES}
    except DataError:
        raise
    except Exception as error:
        msg = f"{path} cannot be read as npz: {error}"
        raise DataError(msg) from error
    return RawData(**arrays)


def _read_member(archive: ZipFile, path: Path, name: str) -> NDArray[Any]:
    member = f"{name}.npy"
    if member not in archive.namelist():
        found = ", ".join(entry.removesuffix(".npy") for entry in archive.namelist())
        msg = f"{path} holds {found or 'nothing'}; want {', '.join(NAMES)}"
        raise DataError(msg)
    size = archive.getinfo(member).file_size
    if size > MAX_MEMBER_BYTES:
        msg = (
            f"{path}: array '{name}' has {size} bytes; want at most {MAX_MEMBER_BYTES}"
        )
        raise DataError(msg)
    try:
        with archive.open(member) as file:
            _check_header(file, size)
        with archive.open(member) as file:
            array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
    except Exception as error:
        msg = f"{path}: array '{name}' cannot be read: {error}"
        raise DataError(msg) from error
    return array


def _check_header(file: IO[bytes], size: int) -> None:
    """Check what a header claims against the member's real size, before allocating.

    Raises:
        ValueError: If the two differ or the array holds Python objects.
    """
    version = npy.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = npy.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = npy.read_array_header_2_0(file)
    else:
        msg = f"npy version {version}; want 1.0 or 2.0"
        raise ValueError(msg)
    _check_claim(shape, dtype, size - file.tell())


def _check_claim(shape: tuple[int, ...], dtype: np.dtype[Any], size: int) -> None:
    # Objects need pickle; text and records are no numbers, and may have no size.
    if dtype.kind not in _NUMBERS:
        msg = f"it holds {dtype}; want plain numbers, no Python objects and no text"
        raise ValueError(msg)
    claimed = prod(shape) * dtype.itemsize
    if claimed != size or min(shape, default=0) < 0:
        msg = f"its header claims {claimed} bytes of data, there are {size}"
        raise ValueError(msg)


def write_npz(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Write arrays of plain numbers to a file, whole or not at all, without pickle.

    Args:
        path: The file; its folder must exist.
        arrays: Name -> array.

    Raises:
        DataError: If an array holds Python objects or text; nothing is written then.
        FedPruneError: If the file cannot be written.
    """
    for name, array in arrays.items():
        if array.dtype.kind not in _NUMBERS:
            msg = f"{name} holds {array.dtype}; want plain numbers"
            raise DataError(msg)
    size = sum(array.nbytes for array in arrays.values())
    with replacing(path, size) as file, ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, array, allow_pickle=False)
