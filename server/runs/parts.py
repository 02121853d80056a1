"""Parts of checkpoints: files named by their digest, written once, kept while named.

A part is on the disk before the first checkpoint that names it, and is removed after
the last one: a crash in between leaves a file that no checkpoint names, which the next
checkpoint removes.
"""

import hashlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from fedprune.common.errors import IntegrityError
from fedprune.common.system.atomic import write_bytes_atomic

T = TypeVar("T")

_NAME = re.compile(r"[0-9a-f]{64}")


class Parts:
    """The parts of the checkpoints of one run.

    Args:
        folder: Folder of the checkpoints.
        run: "main" or the name of a control: part of the file names.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self._folder = folder
        self._run = run
        # Values of the last checkpoint by identity, and of the one being written: what
        # has not changed since is neither encoded nor hashed again.
        self._last: list[tuple[object, str]] = []
        self._now: list[tuple[object, str]] = []
        # Files that this process has written or read.  Others may be damaged, so a
        # part that has one of their names is written again.
        self._sound: set[str] = set()

    def put(self, value: T, encode: Callable[[T], bytes]) -> str:
        """Write a value unless it is there, and return the name of its part.

        Args:
            value: The value; it never changes.
            encode: Returns its bytes.
        """
        known = (name for old, name in (*self._now, *self._last) if old is value)
        name = next(known, "")
        if not name or not self._path(name).exists():
            name = self._written(encode(value))
        self._now.append((value, name))
        return name

    def _written(self, data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        if name not in self._sound or not self._path(name).exists():
            write_bytes_atomic(self._path(name), data)
            self._sound.add(name)
        return name

    def get(self, name: str) -> bytes:
        """Return the bytes of a part.

        Raises:
            IntegrityError: If it is missing, or its bytes have another digest.
        """
        if not _NAME.fullmatch(name):
            msg = "it names a part by something else than a digest"
            raise IntegrityError(msg)
        data = read_checked(self._path(name), name, "its part")
        self._sound.add(name)
        return data

    def keep_only(self, names: Iterable[str]) -> None:
        """End a checkpoint: remove the parts that none names any more."""
        kept = frozenset(names)
        paths = {self._path(name) for name in kept}
        for path in self._folder.glob(f"{self._run}-part-*.safetensors"):
            if path not in paths:
                path.unlink(missing_ok=True)
        self._sound &= kept
        self._last, self._now = self._now, []

    def _path(self, name: str) -> Path:
        return self._folder / f"{self._run}-part-{name}.safetensors"


def read_checked(path: Path, sha256: str, called: str) -> bytes:
    """Return the bytes of a file whose digest is known.

    Args:
        path: The file.
        sha256: The SHA-256 of its bytes, as hex digits.
        called: What an error calls it, such as "checkpoint".

    Raises:
        IntegrityError: If it cannot be read, or its bytes have another digest.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        msg = f"{called} {path.name} cannot be read: {error.strerror}"
        raise IntegrityError(msg) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        msg = f"{called} {path.name} is truncated or changed: SHA-256 differs"
        raise IntegrityError(msg)
    return data
