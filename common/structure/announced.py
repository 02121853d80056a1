"""Limits on the sizes that a structure announces, checked before any allocation.

A few hundred bytes of JSON can announce a billion weights.  A client compares a
received structure with its own network; for a file, without a network to compare with,
the bound is absolute, or a multiple of the size of the file.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fedprune.common.errors import PayloadError, Reason
from fedprune.common.spec import TensorSpec

MAX_BYTES = 1 << 28  # 256 MiB: 67 million weights of float32
BYTES_OF_A_BYTE = 64  # of network for each byte of a file that is larger

_FLOAT = 4
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """Names and shapes of a dense network, before its unit lists are read.

    Attributes:
        tensors: Trained tensors, in order.
        moments: Modules with running statistics, with their channels.
        buffers: Buffers that are cut.
    """

    tensors: tuple[TensorSpec, ...]
    moments: tuple[TensorSpec, ...]
    buffers: tuple[TensorSpec, ...]

    @property
    def size(self) -> int:
        """Bytes of the dense network in float32."""
        numbers = sum(item.size for item in (*self.tensors, *self.buffers))
        return _FLOAT * (numbers + 2 * sum(item.size for item in self.moments))


Check = Callable[[Announced], None]
Shapes = Sequence[tuple[str, tuple[int, ...]]]


def size_limit(file_bytes: int, max_bytes: int | None = None) -> int:
    """Return the most bytes of network that a file of ``file_bytes`` may announce.

    >>> size_limit(818), size_limit(1 << 23), size_limit(818, 1000)
    (268435456, 536870912, 1000)
    """
    if max_bytes is not None:
        return max_bytes
    return max(MAX_BYTES, BYTES_OF_A_BYTE * file_bytes)


def at_most(max_bytes: int) -> Check:
    """Return the check that a network takes no more than ``max_bytes``."""

    def check(found: Announced) -> None:
        if found.size > max_bytes:
            detail = f"announces a network of {found.size} bytes; want at most "
            detail += f"{max_bytes} (max_bytes of load_model)"
            raise PayloadError(Reason.TOO_LARGE, "structure.tensors", detail)

    return check


def same_as(weights: Shapes, buffers: Shapes) -> Check:
    """Return the check that a structure is that of the receiver's own network.

    Args:
        weights: Name and shape of its trained tensors, in order.
        buffers: Name and shape of its buffers.
    """

    def check(found: Announced) -> None:
        own_buffers = dict(buffers)
        differing = [
            *_differing([(t.name, t.shape) for t in found.tensors], weights),
            *_missing(found.moments, own_buffers, ".running_mean"),
            *_missing(found.buffers, own_buffers, ""),
        ]
        if differing:
            detail = (
                f"not this client's network: {'; '.join(differing[:_SHOWN])}; want the "
                "same task.model, task.outputs and task.input_shape on both sides"
            )
            raise PayloadError(Reason.MISMATCH, "structure.tensors", detail)

    return check


def _differing(found: Shapes, own: Shapes) -> list[str]:
    if list(found) == list(own):
        return []
    theirs, ours = dict(found), dict(own)
    names = [n for n in {**theirs, **ours} if theirs.get(n) != ours.get(n)]
    return [
        f"'{name}' is {_shape(theirs.get(name))} there, {_shape(ours.get(name))} here"
        for name in names
    ] or ["its tensors come in another order"]


def _missing(
    items: Iterable[TensorSpec], own: dict[str, tuple[int, ...]], end: str
) -> list[str]:
    return [
        f"'{item.name}' is {_shape(item.shape)} there, "
        f"{_shape(own.get(item.name + end))} here"
        for item in items
        if own.get(item.name + end) != item.shape
    ]


def _shape(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else "x".join(map(str, shape)) or "a scalar"
