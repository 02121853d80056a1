"""A quantised delta as bytes: positions, then values, then the scales of the rows.

This file and ``weights.py`` are the seam for a stronger coder: the signatures stay,
with ``base``, the decoded broadcast that both ends hold, as its context.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.codec import checks
from common.codec.frame import pack, unpack
from common.codec.positions import (
    BITMAP,
    GAPS,
    Positions,
    decode_positions,
    encode_positions,
)
from common.codec.quantise import VALUES, check_levels
from common.codec.sections import squeeze, unsqueeze
from common.errors import DataError, PayloadError, Reason
from common.messages import Indices, ModelSpec, QuantisedDelta, Vector

_FIELDS = 10
_CODERS = {"int8": 1, "float32": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """The fields of an encoded delta, types checked, contents not."""

    coder: int
    count: int
    positions: Positions
    values_deflated: bool
    values: bytes
    scales_deflated: bool
    scales: bytes


def encode_delta(delta: QuantisedDelta, spec: ModelSpec, base: Vector) -> bytes:
    """Return a quantised delta as bytes; equal deltas give equal bytes.

    Args:
        delta: What ``quantise_delta`` returned.
        spec: Shapes of the network.
        base: Decoded broadcast that the delta starts from, float32[spec.size].

    Raises:
        DataError: If delta, spec and base do not belong together.
    """
    if not delta.size == spec.size == len(base):
        msg = f"a delta of {delta.size} on {len(base)} weights; want {spec.size}"
        raise DataError(msg)
    positions = encode_positions(delta.indices, delta.size)
    exact = delta.values.dtype == np.float32
    # Exact values are the reference that everything is compared with: plain floats,
    # as other frameworks send them.
    raw = (delta.values.astype("<f4") if exact else delta.values).tobytes()
    section = (False, raw) if exact else squeeze(raw)
    values = "float32" if exact else "int8"
    return pack(
        [
            _CODERS[values],
            len(delta.indices),
            positions.form,
            positions.length,
            positions.deflated,
            positions.data,
            *section,
            *squeeze(delta.scales.tobytes()),
        ]
    )


def decode_delta(
    data: bytes, spec: ModelSpec, base: Vector, values: str, max_entries: int
) -> QuantisedDelta:
    """Return the delta in ``data``; trust nothing in it.

    Args:
        data: What ``encode_delta`` returned.
        spec: The receiver's own shapes.
        base: Decoded broadcast that the delta starts from, float32[spec.size].
        values: Kind of value that was asked for: "int8" or "float32".
        max_entries: Most entries accepted.

    Raises:
        PayloadError: If the bytes are no delta of this network and kind.
    """
    if len(base) != spec.size:
        detail = f"a base of {len(base)} weights; want {spec.size}"
        raise PayloadError(Reason.BAD_SIZE, "base", detail)
    parts = _read(data)
    if parts.coder != _CODERS[values]:
        detail = f"coder {parts.coder}; want {_CODERS[values]} ({values})"
        raise PayloadError(Reason.MISMATCH, "delta.coder", detail)
    checks.integer(parts.count, "delta.count", 0, min(max_entries, spec.size))
    indices = decode_positions(parts.positions, spec.size, parts.count)
    if values == "float32":
        return _exact(parts, spec, indices)
    return _levels(parts, spec, indices)


def delta_parts(data: bytes) -> dict[str, int]:
    """Return the bytes of positions, values and scales of an encoded delta.

    Raises:
        PayloadError: If the bytes have not the form of a delta.
    """
    parts = _read(data)
    return {
        "positions": len(parts.positions.data),
        "values": len(parts.values),
        "scales": len(parts.scales),
    }


def _read(data: bytes) -> _Parts:
    fields = checks.array(unpack(data, "delta"), "delta", _FIELDS)
    positions = Positions(
        form=checks.integer(fields[2], "delta.form", BITMAP, GAPS),
        length=checks.integer(fields[3], "delta.length", 0, checks.MAX_COUNT),
        deflated=checks.boolean(fields[4], "delta.positions.deflated"),
        data=checks.blob(fields[5], "delta.positions"),
    )
    return _Parts(
        coder=checks.integer(fields[0], "delta.coder", 1, len(VALUES)),
        count=checks.integer(fields[1], "delta.count", 0, checks.MAX_COUNT),
        positions=positions,
        values_deflated=checks.boolean(fields[6], "delta.values.deflated"),
        values=checks.blob(fields[7], "delta.values"),
        scales_deflated=checks.boolean(fields[8], "delta.scales.deflated"),
        scales=checks.blob(fields[9], "delta.scales"),
    )


def _values(parts: _Parts, width: int) -> bytes:
    size = parts.count * width
    deflated = parts.values_deflated
    return unsqueeze(parts.values, "delta.values", size, deflated=deflated)


def _scales(parts: _Parts, rows: int) -> NDArray[np.uint8]:
    deflated = parts.scales_deflated
    raw = unsqueeze(parts.scales, "delta.scales", rows, deflated=deflated)
    return np.frombuffer(raw, dtype=np.uint8).copy()


def _levels(parts: _Parts, spec: ModelSpec, indices: Indices) -> QuantisedDelta:
    levels = np.frombuffer(_values(parts, 1), dtype=np.int8).copy()
    scales = _scales(parts, spec.rows)
    delta = QuantisedDelta(
        size=spec.size, indices=indices, values=levels, scales=scales
    )
    found = check_levels(delta, spec)
    if found is not None:
        raise PayloadError(Reason.BAD_VALUE, f"delta.values of '{found[0]}'", found[1])
    return delta


def _exact(parts: _Parts, spec: ModelSpec, indices: Indices) -> QuantisedDelta:
    values = np.frombuffer(_values(parts, 4), dtype="<f4").astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(values) | (values == 0))
    if len(bad):
        value = values[bad[0]]
        tensor = spec.tensor_at(int(indices[bad[0]]))
        reason = Reason.BAD_VALUE if value == 0 else Reason.NON_FINITE
        detail = f"value {value}; want finite values other than 0"
        raise PayloadError(reason, f"delta.values of '{tensor}'", detail)
    scales = _scales(parts, 0)
    return QuantisedDelta(size=spec.size, indices=indices, values=values, scales=scales)
