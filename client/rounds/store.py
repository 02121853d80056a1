"""The client store: residuals, plans and broadcasts that a client keeps between rounds.

Error feedback must survive a lost answer and a crash.  Each trained round stores one
*generation*: the entries that were sent, and the residual.  When a plan arrives, the
newest generation older than its round counts; if the server acknowledges that round,
its residual is added to the next delta, else residual + sent entries, since nothing
arrived.  One generation stays, and those of the last rounds, so that a server resumed
from an earlier checkpoint meets the state that belongs to it.  A file whose digest does
not match its content counts as never written.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from fedprune.client.rounds.steps.generations import (
    Generation,
    decode_generation,
    encode_generation,
)
from fedprune.common.errors import PayloadError, StorageError
from fedprune.common.profiling.activities import Activity
from fedprune.common.profiling.recorder import timed
from fedprune.common.system.atomic import write_bytes_atomic

T = TypeVar("T")

# Of the checkpoints of rounds r - 1, r - 2 and r - 3, which stand while round r is
# played, the oldest repeats round r - 2: generations from there on may be asked for
# again, and the newest one before them.
IN_FLIGHT = 3
# Changes are encoded against one of the last 8 broadcasts
# (``server/rounds/broadcast.py``), by a server that may have been resumed from two
# checkpoints earlier; the current broadcast is stored too.
_KEPT_BROADCASTS = 11


class ClientStore:
    """Files of one client (residuals) and files that clients of a host share.

    Args:
        root: Folder; shared files lie in ``root/shared``.
        client_id: The client that the residuals belong to; a name without path
            separators.
        durable: Whether files survive a loss of power, as on a device; simulated
            clients end with their server and need not wait for the disk.
    """

    def __init__(self, root: Path, client_id: str, *, durable: bool = True) -> None:
        self._durable = durable
        self._own = root / client_id
        self._shared = root / "shared"
        self._loaded: int | None = None

    @timed(Activity.STORING)
    def save_generation(self, generation: Generation) -> None:
        """Write one generation and remove those that no resumed server can need.

        Raises:
            StorageError: If it cannot be written.
        """
        _make(self._own)
        path = self._generation_path(generation.round)
        data = encode_generation(generation)
        write_bytes_atomic(path, data, durable=self._durable)
        self.drop_old(generation.round)

    @timed(Activity.STORING)
    def load_generation(self, before: int) -> Generation | None:
        """Return the newest readable generation of a round before ``before``."""
        for number in sorted(self._rounds(), reverse=True):
            if number < before:
                found = self._read_generation(number)
                if found is not None:
                    self._loaded = found.round
                    return found
        self._loaded = 0
        return None

    def drop_old(self, round_: int) -> bool:
        """Remove the generations that no server resumed in round ``round_`` can need.

        Returns:
            Whether more than one is left: later rounds can remove the others.
        """
        rounds = self._rounds()
        old = sorted(r for r in rounds if r <= round_ - IN_FLIGHT)
        for number in old[:-1]:
            self._generation_path(number).unlink(missing_ok=True)
        return len(rounds) - len(old[:-1]) > 1

    def has_lost(self, acknowledged: int) -> bool:
        """Return whether the generation that was last asked for is missing.

        An accepted answer has stored a generation of its round, and only older ones
        were removed since; so no generation, or an older one, means a lost or damaged
        file.

        Args:
            acknowledged: The last round whose answer was accepted, 0 for none.
        """
        return self._loaded is not None and self._loaded < acknowledged

    def save_shared(
        self, name: str, read: Callable[[bytes], object], make: Callable[[], bytes]
    ) -> None:
        """Store a file that the clients of this host share, if it is not stored yet.

        Args:
            name: Name of the file, from the digest of its content.
            read: As for ``load_shared``.
            make: Makes its bytes; called only when there is no valid file.
        """
        if self.load_shared(name, read) is None:
            self._write(name, make)

    def load_shared(self, name: str, read: Callable[[bytes], T]) -> T | None:
        """Return the content of a shared file, or None when it is missing or damaged.

        Args:
            name: Name of the file.
            read: Decodes its bytes; PayloadError = the file is damaged.
        """
        try:
            return read((self._shared / name).read_bytes())
        except (OSError, PayloadError):
            return None

    def save_broadcast(
        self, round_: int, name: bytes, make: Callable[[], bytes]
    ) -> None:
        """Store a broadcast by its round and the digest of its grid.

        Clients of one host share it.  All but the newest 11 are removed.
        """
        file = _broadcast_file(round_, name)
        if not (self._shared / file).exists():
            self._write(file, make)
            for old in sorted(self._shared.glob("held-*.bin"))[:-_KEPT_BROADCASTS]:
                old.unlink(missing_ok=True)

    def load_broadcast(
        self, round_: int, name: bytes, read: Callable[[bytes], T]
    ) -> T | None:
        """Return a stored broadcast, or None when it is missing or damaged."""
        return self.load_shared(_broadcast_file(round_, name), read)

    def _write(self, name: str, make: Callable[[], bytes]) -> None:
        _make(self._shared)
        write_bytes_atomic(self._shared / name, make(), durable=self._durable)

    def _generation_path(self, round_: int) -> Path:
        return self._own / f"round-{round_:05d}.safetensors"

    def _read_generation(self, round_: int) -> Generation | None:
        try:
            return decode_generation(self._generation_path(round_).read_bytes())
        except OSError:
            return None

    def _rounds(self) -> list[int]:
        return [
            int(p.stem.split("-")[1]) for p in self._own.glob("round-*.safetensors")
        ]


def _make(folder: Path) -> None:
    """Make a folder of a store.

    Raises:
        StorageError: If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"cannot make the folder {folder}: {error.strerror or error}"
        raise StorageError(msg) from error


def _broadcast_file(round_: int, name: bytes) -> str:
    return f"held-{round_:07d}-{name.hex()}.bin"


class Upkeep:
    """Removes old generations of clients that are not asked again soon.

    A client removes its own when it stores another one.  Where one host has many
    clients, each asked now and then, that alone would leave two of each.

    Args:
        root: Folder of all federations: one folder each, the ``root`` of its clients.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._run = ""
        self._round = 0
        self._several: dict[str, None] = {}  # clients that may have more than one

    @timed(Activity.STORING)
    def before(self, run_id: str, round_: int, client_id: str) -> None:
        """Note a client that is asked in a round; the first of a round tidies up.

        Args:
            run_id: The federation.
            round_: The round, from 1.  The checkpoint of the round before it stands.
            client_id: The client.
        """
        if run_id != self._run:  # first, what a process that was killed has left
            self._run, self._round = run_id, round_
            self._tidy(round_, self._stored())
        elif round_ != self._round:
            self._round = round_
            self._tidy(round_, self._several)
        self._several[client_id] = None

    def _tidy(self, round_: int, clients: Iterable[str]) -> None:
        root = self._root / self._run
        stores = {client: ClientStore(root, client) for client in clients}
        self._several = {
            client: None for client, store in stores.items() if store.drop_old(round_)
        }

    def _stored(self) -> list[str]:
        folder = self._root / self._run
        if not folder.is_dir():
            return []
        with os.scandir(folder) as found:
            return [one.name for one in found if one.is_dir()]
