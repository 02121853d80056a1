"""From a quantised delta to the content of a body and back, raw bits included."""

from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedprune.common.codec.delta.body import Body, Content
from fedprune.common.codec.delta.header import Fields
from fedprune.common.codec.delta.levels import Levels
from fedprune.common.codec.delta.quantise import VALUE_FORMATS, check_levels
from fedprune.common.codec.entropy.rans import Words
from fedprune.common.codec.entropy.raw_bits import (
    join_raw,
    pack_fields,
    to_bits,
    to_bytes,
    unpack_fields,
)
from fedprune.common.errors import PayloadError, Reason
from fedprune.common.messages import QuantisedDelta, SparseDelta
from fedprune.common.spec import Indices, ModelSpec, Vector, largest_magnitude

_FLOAT = 4  # bytes


def content_of(delta: QuantisedDelta, positions: Indices) -> Content:
    """Return the positions, scales and levels of a delta."""
    codes, levels = delta.scales, np.zeros(0, dtype=np.int16)
    if delta.kind != "float32":
        levels = dense_at(delta, positions).astype(np.int16)
    return Content(positions=positions, codes=codes, levels=levels)


def dense_at(delta: QuantisedDelta | SparseDelta, positions: Indices) -> NDArray[Any]:
    """Return the values at ``positions``, 0 where the delta has no entry."""
    if len(positions) == len(delta.indices):
        return delta.values
    out = np.zeros(len(positions), dtype=delta.values.dtype)
    out[np.searchsorted(positions, delta.indices)] = delta.values
    return out


def raw_bytes(body: Body, content: Content) -> bytes:
    """Return mantissas, then the signs that were not coded."""
    if not len(content.levels):
        return b""
    rest = content.levels * body.entries.signs + body.scale.shift
    symbols, alphabet = body.coded.symbols, body.scale.alphabet
    widths = alphabet.raw[symbols]
    some = np.flatnonzero(widths)  # few
    low = np.abs(rest[some]) - alphabet.starts[symbols[some]]
    negative = (rest < 0).view(np.uint8)
    if not symbols.all():
        negative = negative[symbols > 0]
    rest_of_signs = negative[len(body.coded.negative) :]
    return to_bytes(np.concatenate([pack_fields(low, widths[some]), rest_of_signs]))


def from_levels(
    fields: Fields, body: Body, first: Words, spec: ModelSpec
) -> QuantisedDelta:
    """Return the delta of a body whose values are levels.

    Raises:
        PayloadError: If a level, scale or raw bit is out of range.
    """
    levels = _join(fields, body, first)
    indices, values = body.indices, fields.header.values
    top = VALUE_FORMATS[values].top
    if len(levels) and int(np.abs(levels).max()) > top:
        detail = f"level {np.abs(levels).max()}; want at most {top}"
        raise PayloadError(Reason.BAD_VALUE, "delta.values", detail)
    if fields.header.flags.known_positions:
        indices, levels = indices[levels != 0], levels[levels != 0]
    narrow: NDArray[np.int8] = levels.astype(np.int8)
    delta = QuantisedDelta(
        size=spec.size,
        indices=indices,
        values=narrow,
        scales=body.codes,
        kind=values,
    )
    found = check_levels(delta, spec)
    if found is not None:
        raise PayloadError(Reason.BAD_VALUE, f"delta.values of '{found[0]}'", found[1])
    return delta


def _join(fields: Fields, body: Body, first: Words) -> Levels:
    """Return the levels; their raw bits are in the states and the raw bytes."""
    symbols, negative = body.coded.symbols, body.coded.negative
    widths = body.scale.alphabet.raw[symbols]
    filled = np.flatnonzero(symbols)
    mantissas = int(widths.sum(dtype=np.int64))
    count = mantissas + len(filled) - len(negative)
    bits = to_bits(join_raw(first, fields.raw, (count + 7) // 8), count)
    sizes = body.scale.alphabet.starts[symbols] + unpack_fields(
        bits[:mantissas], widths
    )
    minus = np.concatenate([negative, bits[mantissas:]]).astype(bool)
    rest = sizes.astype(np.int16)
    rest[filled[minus]] *= np.int16(-1)
    return (rest - body.scale.shift) * body.entries.signs


def from_floats(fields: Fields, indices: Indices, spec: ModelSpec) -> QuantisedDelta:
    """Return the delta whose values at ``indices`` travel as plain floats.

    Raises:
        PayloadError: If a value is not finite, or is 0 where positions were coded.
    """
    data, flags = fields.raw, fields.header.flags
    if len(data) != _FLOAT * len(indices):
        detail = f"{len(data)} bytes; want {_FLOAT * len(indices)}"
        raise PayloadError(Reason.BAD_SIZE, "delta.values", detail)
    values = np.frombuffer(data, dtype="<f4").astype(np.float32, copy=False)
    zeros = flags.known_positions or flags.everywhere
    _check_floats(values, indices, spec, zeros=zeros)
    if flags.known_positions:
        sent = values != 0
        indices, values = indices[sent], values[sent]
    return QuantisedDelta(
        size=spec.size,
        indices=indices,
        values=values,
        scales=np.zeros(0, dtype=np.uint8),
        kind=fields.header.values,
    )


def _check_floats(
    values: Vector, indices: Indices, spec: ModelSpec, *, zeros: bool
) -> None:
    """Refuse values that are not finite, -0, and 0 unless ``zeros`` are allowed."""
    negative_zero = values.view(np.uint32) == np.uint32(1 << 31)
    if zeros and isfinite(largest_magnitude(values)) and not negative_zero.any():
        return
    bad = ~np.isfinite(values) | negative_zero
    if not zeros:
        bad |= values == 0
    if not bad.any():
        return
    first = int(np.argmax(bad))
    tensor, value = spec.tensor_at(int(indices[first])), values[first]
    reason = Reason.BAD_VALUE if value == 0 else Reason.NON_FINITE
    detail = f"value {value}; want finite values other than 0"
    raise PayloadError(reason, f"delta.values of '{tensor}'", detail)


def empty_delta(spec: ModelSpec, values: str) -> QuantisedDelta:
    """Return a delta without entries."""
    sizes = {"row": spec.rows, "tensor": len(spec.tensors), "nothing": 0}
    none: NDArray[np.int8] | Vector = np.zeros(0, dtype=np.int8)
    if not VALUE_FORMATS[values].top:
        none = np.zeros(0, dtype=np.float32)
    return QuantisedDelta(
        size=spec.size,
        indices=np.zeros(0, dtype=np.int64),
        values=none,
        scales=np.zeros(sizes[VALUE_FORMATS[values].per], dtype=np.uint8),
        kind=values,
    )
