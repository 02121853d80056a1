"""Atomic write of a file: temp sibling, flush, fsync, rename, fsync folder.

A reader, or a process that starts again after ``kill -9``, sees the old bytes or the
new ones, never a mixture.
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import IO

from fedprune.common.errors import StorageError
from fedprune.common.system.paths import open_no_link
from fedprune.common.text import as_json

_FULL = (errno.ENOSPC, errno.EDQUOT)
_RANDOM = 6  # bytes in the name of a temporary file
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]+\.tmp")


def write_bytes_atomic(
    path: Path, data: bytes, *, durable: bool = True, mode: int = 0o666
) -> None:
    """Replace the file at ``path`` by ``data`` in one step.

    Args:
        path: The file; its folder must exist.
        data: The new content.
        durable: Whether it must survive a loss of power too, and not only the end of
            this process; that costs two waits for the disk.
        mode: Permissions less the umask; set before anything is written.

    Raises:
        StorageError: If it cannot be written; the old content is untouched.
            The error of a full disk names the path and the bytes needed.
    """
    temp = _temporary(path)
    try:
        _write_through(temp, data, durable=durable, mode=mode)
        temp.replace(path)
        if durable:
            sync_folder(path.parent)
    except OSError as error:
        temp.unlink(missing_ok=True)
        raise _failure(path, len(data), error) from error


@contextmanager
def replacing(path: Path, needed: int) -> Iterator[IO[bytes]]:
    """Yield a file whose content replaces that of ``path`` when all is written.

    For content too large for memory.

    Args:
        path: The file; its folder must exist.
        needed: About how many bytes it will have, for the error.

    Raises:
        StorageError: If it cannot be written; the old content is untouched.
    """
    temp = _temporary(path)
    try:
        with _emptied(temp) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temp.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise _failure(path, needed, error) from error
    finally:
        temp.unlink(missing_ok=True)


@contextmanager
def storing(path: Path, needed: int) -> Iterator[None]:
    """Put an error of the system while a file is written into one line.

    For files that grow, which nothing replaces.

    Args:
        path: The file.
        needed: Bytes that are written, for the error.

    Raises:
        StorageError: If it cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise _failure(path, needed, error) from error


def write_json_atomic(path: Path, value: object) -> None:
    """Replace the file at ``path`` by ``value`` as indented JSON, keys in order given.

    Raises:
        StorageError: If it cannot be written.
    """
    plain = as_json(value)
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes_atomic(path, f"{text}\n".encode())


def drop_unfinished(folder: Path) -> None:
    """Remove what writers that were killed have left, below a folder too.

    Args:
        folder: Files below it have no writer now.
    """
    for place, _, names in os.walk(folder):
        for name in names:
            if _TEMPORARY.fullmatch(name):
                with suppress(OSError):
                    Path(place, name).unlink()


def sync_folder(folder: Path) -> None:
    """Make a rename inside ``folder`` durable across a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _temporary(path: Path) -> Path:
    """Return a name beside a file that no other writer has, on any machine.

    Process ids are equal in containers and on machines that share the folder.
    """
    return path.with_name(f".{path.name}.{token_hex(_RANDOM)}.tmp")


def _emptied(path: Path, mode: int = 0o666) -> IO[bytes]:
    handle = open_no_link(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    return os.fdopen(handle, "wb")


def _write_through(path: Path, data: bytes, *, durable: bool, mode: int) -> None:
    with _emptied(path, mode) as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())


def _failure(path: Path, needed: int, error: OSError) -> StorageError:
    if error.errno in _FULL:
        free = shutil.disk_usage(path.parent).free
        msg = (
            f"no space left for {path}: {needed} bytes needed, {free} free; "
            "make room, then resume"
        )
    else:
        msg = f"cannot write {path} ({needed} bytes): {error.strerror or error}"
    return StorageError(msg)
