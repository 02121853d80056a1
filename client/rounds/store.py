"""The client store: residuals, plans and broadcasts that a client keeps between rounds.

Error feedback must survive a lost answer and a crash.  Each trained round stores one
*generation*: the entries that were sent, and the residual.  When a plan arrives, the
newest generation older than its round counts; if the server acknowledges that round,
its residual is added to the next delta, else residual + sent entries, since nothing
arrived.  A few older generations stay, so that a server resumed from an earlier
checkpoint meets the state that belongs to it.  Residuals are stored as bfloat16, and a
file whose digest does not match its content counts as never written.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedprune.common.errors import PayloadError
from fedprune.common.messages import SparseDelta
from fedprune.common.parsing import parse_json
from fedprune.common.spec import Mask, Vector, digest_of
from fedprune.common.system.atomic import write_bytes_atomic

T = TypeVar("T")

# A resume falls back at most two checkpoints, so that many earlier rounds must stay.
_KEPT_ROUNDS = 4
# Changes are encoded against one of the last 8 broadcasts
# (``server/rounds/broadcast.py``), by a server that may have been resumed from two
# checkpoints earlier; the current broadcast is stored too.
_KEPT_BROADCASTS = 11
# A residual is bfloat16; stored are the rounds above, the current one and one older.
BYTES_OF_A_WEIGHT = 2 * (_KEPT_ROUNDS + 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """The error feedback of one trained round.

    Attributes:
        round: The round, from 1.
        keep: Keep mask of the network that was trained, bool[units].
        sent: The entries of the delta that the answer sent, dequantised.
        residual: Delta and earlier residual minus ``sent``, float32[n].
    """

    round: int
    keep: Mask
    sent: SparseDelta
    residual: Vector


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

    def save_generation(self, generation: Generation) -> None:
        """Write one generation and remove those that no resumed server can need."""
        self._own.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, NDArray[Any]] = {
            "residual": to_bfloat16(generation.residual),
            "indices": generation.sent.indices.astype(np.int32),
            "values": generation.sent.values,
            "keep": np.packbits(generation.keep),
        }
        metadata = {
            "round": str(generation.round),
            "units": str(len(generation.keep)),
        }
        digest = _digest(tensors, metadata)
        data = save(tensors, metadata | {"digest": digest})
        path = self._generation_path(generation.round)
        write_bytes_atomic(path, data, durable=self._durable)
        self._drop_old(generation.round)

    def load_generation(self, before: int) -> Generation | None:
        """Return the newest readable generation of a round before ``before``."""
        for number in sorted(self._rounds(), reverse=True):
            if number < before:
                found = _read_generation(self._generation_path(number))
                if found is not None:
                    self._loaded = found.round
                    return found
        self._loaded = 0
        return None

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
        self._shared.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(self._shared / name, make(), durable=self._durable)

    def _generation_path(self, round_: int) -> Path:
        return self._own / f"round-{round_:05d}.safetensors"

    def _rounds(self) -> list[int]:
        return [
            int(p.stem.split("-")[1]) for p in self._own.glob("round-*.safetensors")
        ]

    def _drop_old(self, newest: int) -> None:
        old = sorted(r for r in self._rounds() if r < newest - _KEPT_ROUNDS)
        for number in old[:-1]:
            self._generation_path(number).unlink(missing_ok=True)


def _broadcast_file(round_: int, name: bytes) -> str:
    return f"held-{round_:07d}-{name.hex()}.bin"


def _digest(tensors: dict[str, NDArray[Any]], metadata: dict[str, str]) -> str:
    """Return the digest of a generation's content, as hex digits."""
    parts = [array.tobytes() for _, array in sorted(tensors.items())]
    return digest_of(*parts, json.dumps(metadata, sort_keys=True).encode()).hex()


def _read_generation(path: Path) -> Generation | None:
    """Read one generation; an unreadable one counts as never written."""
    try:
        data = path.read_bytes()
        tensors = load(data)
        header = int.from_bytes(data[:8], "little")
        metadata = parse_json(data[8 : 8 + header])["__metadata__"]
        if metadata.pop("digest") != _digest(tensors, metadata):
            return None
        units = int(metadata["units"])
        residual = from_bfloat16(tensors["residual"])
        return Generation(
            round=int(metadata["round"]),
            keep=np.unpackbits(tensors["keep"], count=units).astype(bool),
            sent=SparseDelta(
                size=len(residual),
                indices=tensors["indices"].astype(np.int64),
                values=tensors["values"],
            ),
            residual=residual,
        )
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError):
        return None


def to_bfloat16(values: Vector) -> NDArray[np.uint16]:
    """Round float32 to bfloat16 bits, ties to even."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    return ((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype(np.uint16)


def from_bfloat16(bits: NDArray[np.uint16]) -> Vector:
    """Return the float32 values of bfloat16 bits."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
