"""Arrays as arguments of the kernels, which read and write memory.

An array of another type is converted where that loses nothing and refused otherwise;
one of another shape is refused, and so is one that is to be written and is read-only or
not contiguous.
"""

import ctypes
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_NOTHING = ctypes.c_char * 0
_Kind = TypeVar("_Kind", bound=np.generic)

Bytes = NDArray[np.uint8]


def address(array: NDArray[np.generic]) -> int:
    """Return the address of the first value."""
    # ``ctypes.data`` takes three times as long.
    if array.flags.writeable:
        return ctypes.addressof(_NOTHING.from_buffer(array))
    return int(array.ctypes.data)


def read(array: NDArray[np.generic], kind: type[_Kind], *shape: int) -> NDArray[_Kind]:
    """Return an array as a contiguous one of this kind, without loss.

    Raises:
        TypeError: If not every value of its type is one of this kind.
        IndexError: If it has another shape.
    """
    if array.dtype != kind and not np.can_cast(array.dtype, kind, "safe"):
        msg = f"an array of {array.dtype}; want {np.dtype(kind)}"
        raise TypeError(msg)
    if array.shape != shape:
        msg = f"an array of {array.shape}; want {shape}"
        raise IndexError(msg)
    found = np.ascontiguousarray(array, dtype=kind)
    return found if found.flags.aligned else found.copy()


def written(
    array: NDArray[np.generic], kind: type[_Kind], length: int
) -> NDArray[_Kind]:
    """Return an array that a kernel writes into.

    Raises:
        TypeError: If it is of another kind, or cannot be written in place.
        IndexError: If it has another length.
    """
    flags = array.flags
    if array.dtype != kind or not (flags.carray and flags.writeable):
        msg = f"want a contiguous array of {np.dtype(kind)} that may be written"
        raise TypeError(msg)
    return read(array, kind, length)


def octets(array: NDArray[np.generic], length: int) -> Bytes:
    """Return an array as contiguous bytes; raise as ``read``."""
    return read(array, np.uint8, length)


def pointers(arrays: Sequence[Bytes | None]) -> object:
    """Return the addresses of arrays, as an array of C."""
    found = [None if array is None else address(array) for array in arrays]
    return (ctypes.c_void_p * len(arrays))(*found)
