"""Arrays in ``.npz`` files, read without pickle; headers are checked before use."""

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import IO, Any, Literal
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from fedprune.common.data.arrays import RawData
from fedprune.common.errors import DataError
from fedprune.common.system.atomic import replacing
from fedprune.common.system.zips import check_method
from fedprune.common.text import printable

NAMES = ("x_train", "y_train", "x_test", "y_test")
CLIENTS = "clients"  # an optional array: the natural client of each example

# A small compressed member may decompress without bound: all arrays together take at
# most this many bytes for each byte of the file, or FREE_BYTES in a small file.
BYTES_OF_A_BYTE = 64
FREE_BYTES = 1 << 28  # 256 MiB
MAX_BYTES = 32 << 30  # for a file of any size

_NUMBERS = "buif"
_NAMES_TOO = "buifU"  # text of fixed width, which needs no pickle
_LOCAL_HEADER = 30  # bytes before the name of a member in a zip file


def read_npz(path: Path) -> RawData:
    """Read ``x_train``, ``y_train``, ``x_test``, ``y_test`` and maybe ``clients``.

    Raises:
        DataError: If the file is not a zip, lacks an array, decompresses to far
            more bytes than it has, or an array's header is damaged, needs pickle, or
            states a wrong size.
    """
    try:
        with ZipFile(path) as archive:
            names = _check_sizes(archive, path)
            arrays = {name: _read_member(archive, path, name) for name in names}
    except DataError:
        raise
    except Exception as error:
        msg = f"{path} cannot be read as npz: {error}; want a file of np.savez with "
        msg += ", ".join(NAMES)
        raise DataError(msg) from error
    return raw_data(arrays)


def raw_data(arrays: Mapping[str, NDArray[Any]]) -> RawData:
    """Return arrays by their names as raw data."""
    return RawData(
        x_train=arrays["x_train"],
        y_train=arrays["y_train"],
        x_test=arrays["x_test"],
        y_test=arrays["y_test"],
        clients=arrays.get(CLIENTS),
    )


def _check_sizes(archive: ZipFile, path: Path) -> tuple[str, ...]:
    """Check that all arrays are there and how large they are, before any is read.

    Returns:
        Names of the arrays to read.
    """
    members = archive.namelist()
    if missing := [name for name in NAMES if f"{name}.npy" not in members]:
        found = printable(", ".join(entry.removesuffix(".npy") for entry in members))
        msg = f"{path} has {found or 'no arrays'}, but no {', '.join(missing)}; want"
        msg += f" {', '.join(NAMES)}"
        raise DataError(msg)
    names = (*NAMES, CLIENTS) if f"{CLIENTS}.npy" in members else NAMES
    size = sum(archive.getinfo(f"{name}.npy").file_size for name in names)
    most = min(max(FREE_BYTES, BYTES_OF_A_BYTE * path.stat().st_size), MAX_BYTES)
    if size > most:
        msg = f"{path}: its arrays decompress to {size} bytes; want at most {most}:"
        msg += " write the file without compression (np.savez)"
        raise DataError(msg)
    return names


def _read_member(archive: ZipFile, path: Path, name: str) -> NDArray[Any]:
    member = f"{name}.npy"
    try:
        check_method(archive.getinfo(member))
        with archive.open(member) as file:
            kinds = _NAMES_TOO if name == CLIENTS else _NUMBERS
            _check_header(file, archive.getinfo(member).file_size, kinds)
        info = archive.getinfo(member)
        if info.compress_type == ZIP_STORED:
            return _mapped(path, info)
        with archive.open(member) as file:
            array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
    except Exception as error:
        msg = f"{path}: array '{name}' cannot be read: {error}"
        raise DataError(msg) from error
    return array


def _mapped(path: Path, info: ZipInfo) -> NDArray[Any]:
    """Return an array that is not compressed, mapped: processes share its memory.

    Raises:
        ValueError: If the member does not lie in the file as the directory says.
    """
    with path.open("rb") as file:
        file.seek(info.header_offset)
        local = file.read(_LOCAL_HEADER)
        names = int.from_bytes(local[26:28], "little")
        extra = int.from_bytes(local[28:30], "little")
        start = info.header_offset + _LOCAL_HEADER + names + extra
        file.seek(start)
        version = npy.read_magic(file)
        read = (
            npy.read_array_header_1_0
            if version == (1, 0)
            else (npy.read_array_header_2_0)
        )
        shape, fortran, dtype = read(file)
        offset = file.tell()
    if prod(shape) == 0:
        return np.zeros(shape, dtype)
    order: Literal["F", "C"] = "F" if fortran else "C"
    return np.memmap(path, dtype, "r", offset, shape, order)


def _check_header(file: IO[bytes], size: int, kinds: str) -> None:
    """Check the size in a header against the member's real size, before allocating.

    Args:
        file: The member, at its start.
        size: Its bytes.
        kinds: The kinds of types that it may have.

    Raises:
        ValueError: If the two differ or the array has Python objects.
    """
    version = npy.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = npy.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = npy.read_array_header_2_0(file)
    else:
        msg = f"npy version {version}; want 1.0 or 2.0"
        raise ValueError(msg)
    _check_claim(shape, dtype, size - file.tell(), kinds)


def _check_claim(
    shape: tuple[int, ...], dtype: np.dtype[Any], size: int, kinds: str
) -> None:
    # Objects need pickle; text and records are not numbers, and may have no size.
    if dtype.kind not in kinds or dtype.itemsize == 0:
        msg = f"its type is {dtype}; want plain numbers, no Python objects and no text"
        if dtype.kind == "U":
            msg += "; of names, classes are np.unique(names, return_inverse=True)[1]"
        raise ValueError(msg)
    claimed = prod(shape) * dtype.itemsize
    if claimed != size or min(shape, default=0) < 0:
        msg = f"its header states {claimed} bytes of data; found {size}: the file is "
        msg += "damaged, write it again"
        raise ValueError(msg)


def write_npz(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Write arrays to a file, whole or not at all, without pickle.

    Plain numbers; ``clients`` may be text.

    Args:
        path: The file; its folder must exist.
        arrays: Name -> array.

    Raises:
        DataError: If an array has Python objects or text; nothing is written then.
        FedPruneError: If the file cannot be written.
    """
    for name, array in arrays.items():
        if array.dtype.kind not in (_NAMES_TOO if name == CLIENTS else _NUMBERS):
            msg = f"{name} has type {array.dtype}; want plain numbers"
            raise DataError(msg)
    size = sum(array.nbytes for array in arrays.values())
    with replacing(path, size) as file, ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, array, allow_pickle=False)
