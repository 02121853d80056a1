"""An answer on file with what it was coded by, so that it can be taken apart later."""

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedprune.common.codec import checks
from fedprune.common.codec.delta.coding import decode_delta
from fedprune.common.codec.delta.header import read_fields
from fedprune.common.codec.delta.side_information import Known
from fedprune.common.codec.frame import Kind, seal, unseal
from fedprune.common.codec.layout import Shape
from fedprune.common.codec.messages.update import MAX_INSPECTED, message_fields
from fedprune.common.errors import PayloadError, Reason
from fedprune.common.messages import ModelSpec, QuantisedDelta, TensorSpec

_FIELDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """An answer and what its ends held.

    Attributes:
        update: The answer as it came.
        known: What it was coded by.
    """

    update: bytes
    known: Known


def encode_capture(capture: Capture) -> bytes:
    """Return a capture as one message."""
    known = capture.known
    shapes = [[t.name, list(t.shape)] for t in known.shape.spec.tensors]
    return seal(
        Kind.CAPTURE,
        [
            capture.update,
            json.dumps(shapes).encode(),
            known.base.astype("<f4").tobytes(),
        ],
    )


def decode_capture(data: bytes) -> Capture:
    """Return a capture; trust nothing in ``data``.

    Raises:
        PayloadError: If the bytes are no capture.
    """
    items = checks.array(unseal(data, Kind.CAPTURE, MAX_INSPECTED), "capture", _FIELDS)
    spec = _spec(checks.blob(items[1], "capture.tensors"))
    # First: a shape alone may announce anything, and rows are counted one by one.
    if sum(sum(tensor.shape) for tensor in spec.tensors) > len(data):
        detail = f"rows and columns of more than the {len(data)} bytes that came"
        raise PayloadError(Reason.TOO_LARGE, "capture.tensors", detail)
    base = checks.floats(items[2], "capture.base", "<f4", spec.size)
    known = Known(shape=Shape(spec), base=base)
    return Capture(update=checks.blob(items[0], "capture.update"), known=known)


def _spec(data: bytes) -> ModelSpec:
    """Return the shapes of a network; JSON of [name, [size, ...]] pairs."""
    try:
        tensors = tuple(
            TensorSpec(name=str(name), shape=tuple(_size(n) for n in shape))
            for name, shape in json.loads(data)
        )
    except (ValueError, TypeError, RecursionError) as error:
        detail = f"not a list of names and shapes: {error}"
        raise PayloadError(Reason.BAD_FRAME, "capture.tensors", detail) from error
    return ModelSpec(tensors=tensors, moments=0, units=0)


def _size(value: object) -> int:
    return checks.integer(value, "capture.tensors", 0, checks.MAX_COUNT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """Where the bytes of a delta go.

    Attributes:
        delta: What it holds.
        parts: Bytes of positions, scales, values, signs, states (with the raw bits
            that they begin with), raw and fields; they sum to the delta's length.
        order0: Least bytes of positions of known density per tensor and of levels of
            one known histogram.
    """

    delta: QuantisedDelta
    parts: dict[str, int]
    order0: float


def take_apart(capture: Capture) -> Anatomy:
    """Decode the delta of a captured answer and count the bytes of its parts.

    Raises:
        PayloadError: If it does not decode.
    """
    data = message_fields(capture.update).delta
    fields = read_fields(data)
    ends: dict[str, int] = {}
    delta = decode_delta(
        data,
        capture.known,
        values=fields.header.values,
        max_entries=capture.known.shape.size,
        probe=ends.__setitem__,
    )
    parts, before = {}, 0
    for part, end in ends.items():
        parts[part], before = end - before, end
    parts["states"] = len(fields.stream) - before
    parts["raw"] = len(fields.raw)
    parts["fields"] = len(data) - sum(parts.values())
    return Anatomy(
        delta=delta, parts=parts, order0=order0_bytes(delta, capture.known.shape)
    )


def order0_bytes(delta: QuantisedDelta, shape: Shape) -> float:
    """Return the order-0 bound of a delta, in bytes.

    Sum over tensors of ``size * h(density)``, plus entries times the entropy of
    their values.
    """
    counts = np.diff(np.searchsorted(delta.indices, shape.tensors))
    bits = sum(
        _entropy_bits(np.array([count, size - count]))
        for count, size in zip(counts, np.diff(shape.tensors), strict=True)
    )
    _, seen = np.unique(delta.values, return_counts=True)
    return (bits + _entropy_bits(seen)) / 8


def _entropy_bits(counts: NDArray[np.int64]) -> float:
    seen = counts[counts > 0]
    if not len(seen):
        return 0.0
    return float(np.sum(seen * (np.log2(seen.sum()) - np.log2(seen))))
