"""Lock file of one process at a time, with the holder's pid inside.

The lock ends with the process, however it ends; the file stays.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedprune.common.errors import ConfigError
from fedprune.common.system.paths import open_no_link

_TRIES = 5
_PAUSE_S = 0.05


@contextmanager
def hold(path: Path, *, advice: str) -> Iterator[None]:
    """Hold a file's lock while the block runs.

    Args:
        path: The file; it is made, in a folder that exists.
        advice: Remedy when another process holds it, for the error.

    Raises:
        ConfigError: If another process holds it; its pid is named.
        IntegrityError: If it is a link.
    """
    handle = open_no_link(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _take(handle, path, advice)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def holder(path: Path) -> int | None:
    """Return the pid of the process that holds a file's lock, None when it is free."""
    try:
        handle = open_no_link(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid(path)
    finally:
        os.close(handle)
    return None


def _take(handle: int, path: Path, advice: str) -> None:
    for _ in range(_TRIES):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE_S)  # holder() of a reader lasts microseconds
        else:
            return
    msg = f"{path.parent} is in use by process {_pid(path)}; {advice}"
    raise ConfigError(msg)


def _pid(path: Path) -> int:
    text = path.read_text(encoding="ascii", errors="replace").strip()
    return int(text) if text.isdigit() else 0
