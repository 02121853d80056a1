"""Specification of a network on the wire: shapes, prune plan, weight mask, digests.

Frozen dataclasses of plain values and numpy arrays; no torch, no Flower.

Vocabulary (``docs/glossary.md``): a *unit* is the smallest part of the ORIGINAL network
that a plan keeps or cuts, numbered 0..units-1; a *keep mask* is bool[units], True =
kept; a *digest* is 16 bytes of blake2b.
"""

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from math import prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.float32]


Indices: TypeAlias = NDArray[np.int64]


Mask: TypeAlias = NDArray[np.bool_]


DIGEST_SIZE = 16


# Bounds of a network from outside, in a structure, a plan or a mask.
CLIENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # of files and messages
MAX_UNITS = 1 << 20


MAX_WEIGHTS = 1 << 31  # entries of one tensor, and of all together


MAX_STRUCTURE = 1 << 22  # bytes of structure JSON; ResNet-152 has 0.3 MB


def digest_of(*parts: bytes) -> bytes:
    """Return the 16-byte blake2b digest of the parts, each framed by its length."""
    state = blake2b(digest_size=DIGEST_SIZE)
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.digest()


def weights_digest(weights: Vector) -> bytes:
    """Return the digest of weights as little-endian float32 bytes in model order."""
    return digest_of(np.ascontiguousarray(weights, dtype="<f4").tobytes())


@lru_cache(maxsize=1)
def all_positions(size: int) -> Indices:
    """Return 0..size-1, int64[size], read-only: made once for all dense deltas."""
    positions = np.arange(size)
    positions.flags.writeable = False
    return positions


def largest_magnitude(values: Vector) -> float:
    """Return the largest magnitude without a copy; NaN if a value is, 0 of none."""
    ends = values.max(initial=0.0), -values.min(initial=0.0)
    return float(np.maximum(*ends))


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """Name and shape of one trained tensor.

    Attributes:
        name: Parameter name as in ``named_parameters``.
        shape: Its shape; for a weight ``(out, in, ...)``.
    """

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of entries."""
        return prod(self.shape)

    @property
    def rows(self) -> int:
        """Rows that share one quantisation scale: outputs of a weight, 1 otherwise."""
        return self.shape[0] if len(self.shape) > 1 else 1


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Names and shapes of the network that a round trains: the receiver's schema.

    Attributes:
        tensors: Trained tensors in model order; flat weights are in this order.
        moments: Number of batch-norm channels, all layers together; statistics
            are float[moments].
        units: Number of kept units; importances are float32[units].
        running: Other buffers that training changes and clients average, in model
            order; running values are float32[running_size].
    """

    tensors: tuple[TensorSpec, ...]
    moments: int
    units: int
    running: tuple[TensorSpec, ...] = ()

    @cached_property
    def size(self) -> int:
        """Number of trained weights."""
        return sum(tensor.size for tensor in self.tensors)

    @cached_property
    def running_size(self) -> int:
        """Number of running values."""
        return sum(buffer.size for buffer in self.running)

    @cached_property
    def rows(self) -> int:
        """Number of quantisation rows, all tensors together."""
        return sum(tensor.rows for tensor in self.tensors)

    @cached_property
    def row_lengths(self) -> Indices:
        """Entries of each quantisation row in flat order, int64[rows]."""
        lengths = [
            length
            for tensor in self.tensors
            for length in [tensor.size // max(tensor.rows, 1)] * tensor.rows
        ]
        return np.asarray(lengths, dtype=np.int64)

    def tensor_at(self, index: int) -> str:
        """Return the name of the tensor that holds flat position ``index``."""
        return _at(self.tensors, index)

    def running_at(self, index: int) -> str:
        """Return the name of the buffer that holds running value ``index``."""
        return _at(self.running, index)


def _at(tensors: tuple[TensorSpec, ...], index: int) -> str:
    end = 0
    for tensor in tensors:
        end += tensor.size
        if index < end:
            return tensor.name
    return "?"


@dataclass(frozen=True, kw_only=True)
class PrunePlan:
    """A prune plan: the units of the original network that are kept.

    Attributes:
        structure: Digest of the structure that the units belong to.
        keep: bool[units of the original], True = kept.
        parent: Digest of the plan that this one was cut from; empty for the first.
        rollback: True when this plan, or one that it was cut from, is a rollback.
            The ``parent`` of a rollback is the plan that it restores.
    """

    structure: bytes
    keep: Mask
    parent: bytes = b""
    rollback: bool = False

    @cached_property
    def digest(self) -> bytes:
        """Name of this plan."""
        bits = np.packbits(self.keep).tobytes()
        count = len(self.keep).to_bytes(4, "little")
        flag = b"\1" if self.rollback else b"\0"
        return digest_of(self.structure, self.parent, count, bits, flag)


@dataclass(frozen=True, kw_only=True)
class WeightMask:
    """A weight mask: the entries of the flat weights that may be other than zero.

    Attributes:
        plan: Digest of the prune plan whose network is masked.
        keep: bool[weights] in model order, True = kept.
        parent: Digest of the mask that this one was made from; empty for the first.
    """

    plan: bytes
    keep: Mask
    parent: bytes = b""

    @cached_property
    def digest(self) -> bytes:
        """Name of this mask, 16 bytes."""
        count = len(self.keep).to_bytes(8, "little")
        bits = np.packbits(self.keep).tobytes()
        return digest_of(self.plan, self.parent, count, bits)

    @property
    def density(self) -> float:
        """Share of the entries kept, 0..1."""
        return float(self.keep.mean()) if len(self.keep) else 1.0

    @property
    def positions(self) -> Indices:
        """Kept positions, int64[k], rising: the entries of an update under the mask."""
        return np.flatnonzero(self.keep).astype(np.int64)

    def apply(self, weights: Vector) -> Vector:
        """Return the weights with 0 outside of the mask."""
        return np.where(self.keep, weights, np.float32(0.0))
