"""Generations: the error feedback of one trained round, as bytes and back.

A residual is stored as bfloat16.  The entries that were sent are stored as they were
encoded: positions as a bit a weight or as numbers, whichever is shorter, and levels,
from which the server's values come out again bit for bit.
"""

import json
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedprune.common import codec
from fedprune.common.messages import QuantisedDelta, SparseDelta
from fedprune.common.parsing import parse_json
from fedprune.common.spec import Indices, Mask, ModelSpec, Vector, digest_of

_BLOCK = 4096  # bytes that most file systems give to a file at once
_TILE = 1 << 15  # floats that stay in a cache while they are rounded
_POSITION_BITS = 32  # of a position that is stored as a number
# Bytes that a header of long arrays has more than one of empty ones: the digits of the
# round, and of five arrays those of the length and of both ends, 12 at most.
_LONG_HEADER = 192

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """The error feedback of one trained round.

    Attributes:
        round: The round, from 1.
        keep: Keep mask of the network that was trained, bool[units].
        sent: The entries of the delta that the answer sent, as they were encoded.
        residual: Delta and earlier residual minus the values of ``sent``, float32[n].
    """

    round: int
    keep: Mask
    sent: QuantisedDelta
    residual: Vector

    def sent_values(self, spec: ModelSpec) -> Vector:
        """Return the values that the server added, zeros elsewhere, float32[n].

        Args:
            spec: Shapes of the network that was trained.
        """
        values = codec.dequantise_delta(self.sent, spec)
        out = np.zeros(values.size, dtype=np.float32)
        out[values.indices] = values.values
        return out


def encode_generation(generation: Generation) -> bytes:
    """Return a generation as one safetensors file with the digest of its content."""
    sent, size = generation.sent, len(generation.residual)
    tensors: Tensors = {
        "residual": to_bfloat16(generation.residual),
        "positions": _positions_out(sent.indices, size),
        "values": sent.values,
        "scales": sent.scales,
        "keep": np.packbits(generation.keep),
    }
    metadata = {
        "round": str(generation.round),
        "units": str(len(generation.keep)),
        "kind": sent.kind,
    }
    return save(tensors, metadata | {"digest": _digest(tensors, metadata)})


def decode_generation(data: bytes) -> Generation | None:
    """Read a generation; None of bytes that are not as they were written."""
    try:
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
            sent=QuantisedDelta(
                size=len(residual),
                indices=_positions_in(tensors["positions"], len(residual)),
                values=tensors["values"],
                scales=tensors["scales"],
                kind=str(metadata["kind"]),
            ),
            residual=residual,
        )
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError):
        return None


def stored_bytes(spec: ModelSpec, units: int, values: str, sent: float) -> int:
    """Return the bytes that a generation takes on the disk, in whole blocks of 4 KiB.

    Args:
        spec: Shapes of the network.
        units: Units of the uncut network.
        values: The value format of the entries.
        sent: Share of the entries that are sent at most, 0 < sent <= 1.
    """
    count = min(ceil(sent * spec.size), spec.size)
    nothing = np.zeros(0, dtype=np.int64)
    empty = SparseDelta(
        size=spec.size, indices=nothing, values=np.zeros(0, dtype=np.float32)
    )
    few = codec.quantise_delta(empty, spec, values)
    header = encode_generation(
        Generation(
            round=1,
            keep=np.ones(units, dtype=np.bool_),
            sent=few,
            residual=np.zeros(0, dtype=np.float32),
        )
    )
    positions = min(ceil(spec.size / 8), count * _POSITION_BITS // 8)
    entries = positions + count * few.values.itemsize
    return on_disk(len(header) + _LONG_HEADER + 2 * spec.size + entries)


def on_disk(size: int) -> int:
    """Return the bytes that a file of ``size`` bytes takes, in whole blocks."""
    return ceil(size / _BLOCK) * _BLOCK


def _positions_out(indices: Indices, size: int) -> NDArray[Any]:
    if _POSITION_BITS * len(indices) < size:
        return indices.astype(np.int32)
    chosen = np.zeros(size, dtype=np.bool_)
    chosen[indices] = True
    return np.packbits(chosen)


def _positions_in(stored: NDArray[Any], size: int) -> Indices:
    if stored.dtype == np.int32:
        return stored.astype(np.int64)
    return np.flatnonzero(np.unpackbits(stored, count=size).view(np.bool_))


def _digest(tensors: Tensors, metadata: dict[str, str]) -> str:
    """Return the digest of a generation's content, as hex digits."""
    parts = [array.tobytes() for _, array in sorted(tensors.items())]
    return digest_of(*parts, json.dumps(metadata, sort_keys=True).encode()).hex()


def to_bfloat16(values: Vector) -> NDArray[np.uint16]:
    """Round float32 to bfloat16 bits, ties to even."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    out = np.empty(len(bits), dtype=np.uint16)
    for start in range(0, len(bits), _TILE):
        part = bits[start : start + _TILE]
        rounded = part >> np.uint32(16)
        rounded &= np.uint32(1)  # 1 if odd
        rounded += np.uint32(0x7FFF)
        rounded += part
        rounded >>= np.uint32(16)
        out[start : start + _TILE] = rounded
    return out


def from_bfloat16(bits: NDArray[np.uint16]) -> Vector:
    """Return the float32 values of bfloat16 bits."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
