"""Memory of a process under glibc; elsewhere these do nothing."""

import ctypes
from contextlib import suppress
from mmap import PAGESIZE
from pathlib import Path

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # numbers of malloc.h
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
    that the next array does not fit.
    """

    def __init__(self) -> None:
        self._least = 0  # bytes that were resident after the last trim

    def bound(self) -> None:
        """Give back what is spare if the process has grown by more than 512 MiB."""
        if _resident() - self._least > _KEPT:
            trim_memory()
            self._least = _resident()


def _resident() -> int:
    """Return the bytes of this process that are in memory, 0 where /proc is not."""
    with suppress(OSError, ValueError, IndexError):
        pages = Path("/proc/self/statm").read_text("ascii").split()[1]
        return int(pages) * PAGESIZE
    return 0
