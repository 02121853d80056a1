"""Memory of a process under glibc; elsewhere these do nothing."""

import ctypes
from contextlib import suppress
from mmap import PAGESIZE
from pathlib import Path
from typing import ClassVar

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # numbers of malloc.h
_MAPPED, _TAKEN = 4, 7  # places in what ``mallinfo2`` returns
_KEPT = 512 << 20  # bytes that a process keeps beside what it uses, at most
_LARGE = 1 << 30  # bytes of arrays that are asked for one by one


def keep_memory() -> None:
    """Let this process keep freed arrays for the next ones.

    An array of more than 32 MiB comes from the system and goes back each time, page by
    page: a quarter of the CPU time of coding a network of 11 million weights.  Only for
    processes of our own, since it is the whole process that changes.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, _LARGE)
        library.mallopt(_TRIM_THRESHOLD, _KEPT)


def trim_memory() -> None:
    """Give what this process has freed back to the system."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class SpareMemory:
    """Memory that this process has freed and keeps, within 512 MiB.

    Freed arrays fit into holes that others leave, and the process grows with every hole
    that the next array does not fit.  Where the system does not say what is in use
    (before glibc 2.33), growth since the last trim counts instead.
    """

    def __init__(self) -> None:
        self._rest = 0  # resident bytes after the last trim that were not in use

    def bound(self) -> None:
        """Give back what is spare if it is more than 512 MiB."""
        if _resident() - _in_use() - self._rest > _KEPT:
            trim_memory()
            self._rest = _resident() - _in_use()


class _Mallinfo(ctypes.Structure):
    """The numbers that ``mallinfo2`` of malloc.h returns."""

    _fields_: ClassVar = [("numbers", ctypes.c_size_t * 10)]


def _in_use() -> int:
    """Return the bytes that were taken and not freed, 0 where glibc does not say."""
    with suppress(OSError, AttributeError):
        mallinfo = ctypes.CDLL(None).mallinfo2
        mallinfo.restype = _Mallinfo
        numbers = mallinfo().numbers
        return int(numbers[_MAPPED] + numbers[_TAKEN])
    return 0


def _resident() -> int:
    """Return the bytes of this process that are in memory, 0 where /proc is not."""
    with suppress(OSError, ValueError, IndexError):
        pages = Path("/proc/self/statm").read_text("ascii").split()[1]
        return int(pages) * PAGESIZE
    return 0
