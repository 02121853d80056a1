"""Examples in memory: compact arrays that become float tensors one batch at a time."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from fedprune.common.errors import DataError
from fedprune.common.spec import DIGEST_SIZE, Indices

Inputs = NDArray[np.uint8] | NDArray[np.float32]
Targets = NDArray[np.int64] | NDArray[np.float32]


class Batch(NamedTuple):
    """Some examples as tensors: what a network and a loss are given.

    Attributes:
        inputs: float32[b, ...].
        targets: int64[b] classes, or float32[b] or float32[b, k] values.
    """

    inputs: torch.Tensor
    targets: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Inputs and targets of some examples.

    Inputs keep their stored type (uint8 for images); a batch is converted when
    it is used: ``float = (input - offset) * scale``.

    Attributes:
        inputs: uint8 or float32 [n, ...], C order, as stored.
        targets: Classes int64[n], >= 0, or values float32[n] or float32[n, k].
        offset: Subtracted from every input.
        scale: Multiplied with every input after that, > 0.
    """

    inputs: Inputs
    targets: Targets
    offset: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            inputs, targets = len(self.inputs), len(self.targets)
            msg = f"{inputs} inputs but {targets} targets; want as many"
            raise DataError(msg)

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, indices: Indices) -> "Examples":
        """Return the examples at ``indices`` int64[k], copied, in this order."""
        return Examples(
            inputs=self.inputs[indices],
            targets=self.targets[indices],
            offset=self.offset,
            scale=self.scale,
        )

    def batch(self, indices: Indices) -> Batch:
        """Return inputs and targets at ``indices`` as tensors on the CPU.

        Args:
            indices: int64[k], in 0..n-1.

        Returns:
            Inputs float32[k, ...], and targets int64[k] or float32[k] or
            float32[k, k2]; both are copies.
        """
        inputs = self.inputs[indices].astype(np.float32)
        inputs -= np.float32(self.offset)
        inputs *= np.float32(self.scale)
        targets = torch.from_numpy(self.targets[indices])
        return Batch(inputs=torch.from_numpy(inputs), targets=targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The training and test examples of a run.

    Attributes:
        train: Examples that are partitioned among the clients.
        test: Examples for the final figures only; no decision of a run uses them.
        num_outputs: Entries of the network's output: classes, or target values.
        input_shape: Shape of one input, without the batch.
        regression: Whether targets are values rather than classes.
        name: Source of the examples.
    """

    train: Examples
    test: Examples
    num_outputs: int
    input_shape: tuple[int, ...]
    regression: bool
    name: str

    def fingerprint(self) -> str:
        """Return the digest of types, shapes, bytes and scaling, 32 hex digits."""
        state = blake2b(digest_size=DIGEST_SIZE)
        for part in (self.train, self.test):
            state.update(f"{part.offset!r} {part.scale!r}\n".encode())
            for array in (part.inputs, part.targets):
                state.update(f"{array.dtype.str} {array.shape}\n".encode())
                state.update(np.ascontiguousarray(array).data.cast("B"))
        return state.hexdigest()
