"""Checkpoints: the server's state after each round, written so that no crash loses it.

One safetensors file a round, written beside and renamed, then one line in
``journal.jsonl`` with its SHA-256.  A file without its line was never written; a line
whose file, or a part that it names, does not match is refused, naming the file, and
the one before it is used.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fedprune.common.errors import IntegrityError
from fedprune.common.parsing import parse_json
from fedprune.common.profiling.activities import Activity
from fedprune.common.profiling.recorder import timed
from fedprune.common.system.atomic import storing, write_bytes_atomic
from fedprune.common.system.paths import open_to_append
from fedprune.server.rounds.state import ServerState
from fedprune.server.runs.parts import Parts, read_checked
from fedprune.server.runs.state_file import (
    part_names,
    state_from_bytes,
    state_to_bytes,
)

T = TypeVar("T")

_LONGEST = 100_000_000  # bytes of a header, as safetensors limits it
_KEPT = 3  # files of a run that stay: the last one and two to fall back on


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """The state that a run is resumed from, and the checkpoints refused.

    Attributes:
        state: The newest state that is whole, or None for a run without one.
        refused: One line for each newer checkpoint that was not, and why.
    """

    state: ServerState | None
    refused: tuple[str, ...]


class Checkpoints:
    """The checkpoints of one run in a folder.

    Args:
        folder: Their folder; made when needed.
        run: "main" or the name of a control: part of the file names.
        identity: Digest of the configuration; a checkpoint of another one is refused.
    """

    def __init__(self, folder: Path, run: str, identity: str) -> None:
        self._folder = folder
        self._run = run
        self._identity = identity
        self._journal = folder / f"{run}-journal.jsonl"
        self._parts = Parts(folder, run)

    @timed(Activity.WRITING)
    def write(self, state: ServerState) -> None:
        """Write a checkpoint and drop the oldest."""
        self._folder.mkdir(parents=True, exist_ok=True)
        # Its parts are on the disk before it names them.
        data = state_to_bytes(state, self._identity, self._parts)
        path = self._path(state.round)
        write_bytes_atomic(path, data)
        line = {
            "round": state.round,
            "file": path.name,
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        _append_line(self._journal, json.dumps(line))
        self._drop_old()

    def _drop_old(self) -> None:
        """Remove the oldest checkpoints, then the parts that no other one names."""
        found = sorted(
            self._folder.glob(f"{self._run}-round-*.safetensors"),
            key=lambda path: (len(path.name), path.name),  # rounds above 99 999 too
        )
        for old in found[:-_KEPT]:
            old.unlink(missing_ok=True)
        self._parts.keep_only(
            name for path in found[-_KEPT:] for name in _parts_of(path)
        )

    def restore(self) -> Restored:
        """Return the newest whole state, and why newer ones were refused.

        Raises:
            IntegrityError: If there are checkpoints and none can be used.
        """
        state, refused = self._newest(self._read)
        return Restored(state=state, refused=refused)

    def verify(self) -> tuple[str, ...]:
        """Return one line for each damaged checkpoint that is newer than a whole one.

        Only bytes are looked at: whether they belong to a configuration is not.

        Raises:
            IntegrityError: If there are checkpoints and none is whole.
        """
        return self._newest(self._check)[1]

    def _newest(self, read: Callable[[object], T]) -> tuple[T | None, tuple[str, ...]]:
        """Return what the newest line that can be read stands for, and the refusals.

        Raises:
            IntegrityError: If there are lines and none can be read.
        """
        refused: list[str] = []
        for line in self._lines():
            try:
                return read(line), tuple(refused)
            except IntegrityError as error:
                refused.append(str(error))
        if refused:
            msg = f"no checkpoint in {self._folder} can be used: {refused[0]}; "
            msg += "restore the folder, or start a new run"
            raise IntegrityError(msg)
        return None, ()

    def _path(self, round_: int) -> Path:
        return self._folder / f"{self._run}-round-{round_:05d}.safetensors"

    def _lines(self) -> Iterator[object]:
        """Yield the values of the journal's lines, newest first, each round once."""
        try:
            text = self._journal.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return
        seen: set[object] = set()
        for row in reversed(text.splitlines()):
            try:
                line = parse_json(row)
            except ValueError:
                continue  # A torn last line: its checkpoint was never acknowledged.
            # By its text: the value of a damaged line may be of any type.
            name = str(line.get("round")) if isinstance(line, dict) else row
            if name not in seen:
                seen.add(name)
                if len(seen) > _KEPT:
                    return
                yield line

    def _read(self, line: object) -> ServerState:
        """Return the state that a line of the journal names."""
        path, data = self._data(line)
        with _naming(path):
            return state_from_bytes(data, self._identity, path.name, self._parts)

    def _check(self, line: object) -> None:
        """Read the file that a line of the journal names, and its parts."""
        path, data = self._data(line)
        size = int.from_bytes(data[:8], "little")
        with _naming(path):
            for name in part_names(data[8 : 8 + size]):
                self._parts.get(name)

    def _data(self, line: object) -> tuple[Path, bytes]:
        """Return the path and the bytes of the file that a line of the journal names.

        Raises:
            IntegrityError: If the line names none, or one that is not as written.
        """
        found = line if isinstance(line, dict) else {}
        number, sha256 = found.get("round"), found.get("sha256")
        if not isinstance(number, int) or not isinstance(sha256, str):
            msg = f"{self._journal.name} holds a line that names no checkpoint"
            raise IntegrityError(msg)
        path = self._path(number)
        if found.get("file") != path.name:
            msg = f"{self._journal.name} names another file for round {number}"
            raise IntegrityError(msg)
        return path, read_checked(path, sha256, "checkpoint")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the checkpoint in errors about its parts."""
    try:
        yield
    except IntegrityError as error:
        if path.name in str(error):
            raise
        msg = f"checkpoint {path.name} cannot be used: {error}"
        raise IntegrityError(msg) from error


def _parts_of(path: Path) -> frozenset[str]:
    """Return the names of the parts of a checkpoint; a damaged one names none."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return part_names(file.read(min(size, _LONGEST)))


def _append_line(path: Path, line: str) -> None:
    with storing(path, len(line)), open_to_append(path) as file:
        # On a line of its own, even behind one that a crash has torn.
        file.write((("\n" if _is_torn(path) else "") + line + "\n").encode())
        file.flush()
        os.fsync(file.fileno())


def _is_torn(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read() != b"\n"
