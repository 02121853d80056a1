"""Pages of files that are mapped into memory, given back once they were read.

A page that was read stays in the memory of the process as long as the mapping lives: a
run would hold all of its data.  Given back, it stays in the cache of the system only,
which drops it when memory is short.
"""

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedprune.common.spec import Indices

_BLOCK = 4 << 20  # bytes that are read at once
_SMALL = 256 << 20  # bytes of an array that may stay: to read pages anew costs time
_DONTNEED: int | None = getattr(mmap, "MADV_DONTNEED", None)  # not on every system


def mapping_of(array: NDArray[np.generic]) -> mmap.mmap | None:
    """Return the mapping of the file in which an array lies; None = in memory."""
    base: Any = array
    while base is not None and not isinstance(base, mmap.mmap):
        base = getattr(base, "base", None)
    found: mmap.mmap | None = base
    return found


def forget_pages(array: NDArray[np.generic]) -> None:
    """Give the pages of the file of a large array back; they are read again when used.

    A mapping that may be written to keeps its pages: what was written to a private copy
    would be lost.
    """
    mapping = mapping_of(array)
    if mapping is not None and len(mapping) > _SMALL:
        _forget(mapping)


def forget_all_pages(array: NDArray[np.generic]) -> None:
    """As ``forget_pages``, of a file of any size: one that is hardly read any more."""
    mapping = mapping_of(array)
    if mapping is not None:
        _forget(mapping)


def _forget(mapping: mmap.mmap) -> None:
    if _DONTNEED is not None and memoryview(mapping).readonly:
        mapping.madvise(_DONTNEED)


def blocks(
    array: NDArray[Any], rows: Indices | None = None
) -> Iterator[NDArray[np.generic]]:
    """Yield an array [n, ...] in blocks of at most 4 MiB, or of one row.

    Pages of a large mapped file are given back after each block.

    Args:
        array: The array.
        rows: Positions of the rows to yield, int64[k]; None = all.
    """
    count = len(array) if rows is None else len(rows)
    step = max(1, _BLOCK * len(array) // max(1, array.nbytes))
    for start in range(0, count, step):
        part = slice(start, start + step)
        yield array[part if rows is None else rows[part]]
        forget_pages(array)
