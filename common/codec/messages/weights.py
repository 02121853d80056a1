"""Weights of a broadcast as bytes.  Both ends use what ``decode_weights`` returns.

"int8": a weight of two or more dimensions has one float32 scale for each row
(``rowmax / 127``) and int8 levels; every other tensor (biases, batch norm) travels as
float16.  "float32": all as plain float32.  Exact zeros stay exact zeros in both.
Error of "int8": at most ``0.5 * rowmax / 127`` an entry, and 2**-11 relative (or
2**-25 absolute) for float16.  "grid": integers times a step of each row, by the own
coder (``grid.py``, ``grid_message.py``).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedprune.common.codec import checks
from fedprune.common.codec.entropy.byte_runs import (
    PARTS,
    from_planes,
    squeeze,
    to_planes,
    unsqueeze,
)
from fedprune.common.codec.entropy.contexts import Class
from fedprune.common.codec.frame import Kind, kind_of, seal, unseal
from fedprune.common.codec.grid.coding import decode_full, encode_full, is_grid
from fedprune.common.codec.grid.quantise import exact_grid, grid_values, on_grid
from fedprune.common.codec.messages.codebook import decode_codebook
from fedprune.common.errors import ConfigError, DataError, PayloadError, Reason
from fedprune.common.messages import ModelSpec, TensorSpec, Vector, weights_digest

_VALUES = ("int8", "float32")
_LEVELS = 127
_SMALLEST = np.finfo(np.float32).tiny  # a subnormal scale is flushed on some devices
_FRAME = 64  # more than the frame of the weights needs
_FIELDS = 3
_PLANES = 6  # of scales and of float16


def encode_weights(weights: Vector, spec: ModelSpec, values: str) -> bytes:
    """Return the weights as one message.

    Args:
        weights: float32[spec.size], finite.
        spec: Shapes of the network.
        values: "grid", "int8" or "float32".  Weights that lie on some grid travel
            exactly as "grid", others on a fresh one.

    Raises:
        DataError: If a weight is not finite or their number is wrong.
        ConfigError: If a bias or batch-norm weight is beyond float16 in "int8", or
            any weight beyond the grid in "grid".
    """
    check_finite(weights, spec)
    if values == "grid":
        grid = exact_grid(weights, spec) or on_grid(weights, spec, None)
        return encode_full(grid, spec)
    if values == "float32":
        # The reference that everything is compared with: plain floats.
        coded, data = False, weights.astype("<f4").tobytes()
    else:
        coded, data = squeeze(b"".join(_to_int8(weights, spec)), _int8_parts(spec))
    return seal(Kind.WEIGHTS, [_VALUES.index(values), coded, data])


def decode_weights(data: bytes, spec: ModelSpec) -> Vector:
    """Return the weights, float32[spec.size]; trust nothing in ``data``.

    Raises:
        PayloadError: If the bytes are no weights of this network, or only what
            changed since an earlier broadcast.
    """
    if kind_of(data) is Kind.CODEBOOK:
        return decode_codebook(data, spec)
    if is_grid(data):
        return grid_values(decode_full(data, spec), spec)
    cap = 4 * (spec.size + spec.rows) + _FRAME
    fields = checks.array(unseal(data, Kind.WEIGHTS, cap), "weights", _FIELDS)
    values = _VALUES[checks.integer(fields[0], "weights.values", 0, 1)]
    coded = checks.boolean(fields[1], "weights.coded")
    body = checks.blob(fields[2], "weights.data")
    if values == "float32":
        if coded:
            detail = "float32 weights that are coded; want them as they are"
            raise PayloadError(Reason.BAD_VALUE, "weights.coded", detail)
        raw = checks.blob(body, "weights.data", 4 * spec.size)
        weights: Vector = np.frombuffer(raw, dtype="<f4").astype(np.float32)
    else:
        raw = unsqueeze(
            body,
            "weights.data",
            _int8_size(spec),
            coded=coded,
            parts_of=lambda size: _int8_parts(spec),
        )
        weights = _from_int8(raw, spec)
    bad = np.flatnonzero(~np.isfinite(weights))
    if len(bad):
        detail = f"{len(bad)} weights are not finite"
        raise PayloadError(Reason.NON_FINITE, spec.tensor_at(int(bad[0])), detail)
    return weights


def check_weights(weights: Vector, digest: bytes) -> None:
    """Compare decoded weights with the digest that was promised.

    Raises:
        PayloadError: With ``BAD_DIGEST``, if they are other weights.
    """
    found = weights_digest(weights)
    if found != digest:
        detail = f"decoded to digest {found.hex()}; want {digest.hex()}"
        raise PayloadError(Reason.BAD_DIGEST, "weights", detail)


def check_finite(weights: Vector, spec: ModelSpec) -> None:
    """Refuse weights that cannot be sent.

    Raises:
        DataError: If a weight is not finite or their number is wrong.
    """
    if len(weights) != spec.size:
        msg = f"{len(weights)} weights to encode; want {spec.size}"
        raise DataError(msg)
    bad = np.flatnonzero(~np.isfinite(weights))
    if len(bad):
        tensor = spec.tensor_at(int(bad[0]))
        msg = f"{len(bad)} weights are not finite, the first in {tensor}"
        raise DataError(msg)


def _is_matrix(tensor: TensorSpec) -> bool:
    return len(tensor.shape) > 1


def _int8_size(spec: ModelSpec) -> int:
    """Return the bytes of "int8" weights before they are coded."""
    return sum(
        4 * tensor.rows + tensor.size if _is_matrix(tensor) else 2 * tensor.size
        for tensor in spec.tensors
    )


def _int8_parts(spec: ModelSpec) -> Class:
    """Return the part of each of these bytes: a plane, or the levels of a tensor."""
    matrices = [tensor for tensor in spec.tensors if _is_matrix(tensor)]
    rows = sum(tensor.rows for tensor in matrices)
    halves = sum(tensor.size for tensor in spec.tensors if not _is_matrix(tensor))
    levels = [tensor.size for tensor in matrices]
    numbers = np.minimum(np.arange(len(levels)) + _PLANES, PARTS - 1)
    parts = np.concatenate([np.arange(4), numbers, np.arange(4, _PLANES)])
    lengths = np.array([*[rows] * 4, *levels, halves, halves], dtype=np.int64)
    found: Class = np.repeat(parts.astype(np.uint8), lengths)
    return found


def _to_int8(weights: Vector, spec: ModelSpec) -> list[bytes]:
    """Return planes of all scales, then all levels, then planes of all float16."""
    scales, levels, halves = [_empty("<f4")], [_empty("i1")], [_empty("<f2")]
    start = 0
    for tensor in spec.tensors:
        part = weights[start : start + tensor.size]
        start += tensor.size
        if _is_matrix(tensor):
            rows = part.reshape(tensor.rows, tensor.size // max(tensor.rows, 1))
            scale = _row_scales(rows)
            scales.append(scale)
            levels.append(_row_levels(rows, scale))
        else:
            halves.append(_to_half(part, tensor.name))
    joined = [np.concatenate(parts) for parts in (scales, levels, halves)]
    return [*to_planes(joined[0]), joined[1].tobytes(), *to_planes(joined[2])]


def _empty(dtype: str) -> NDArray[Any]:
    return np.zeros(0, dtype=dtype)


def _row_scales(rows: NDArray[np.float32]) -> Vector:
    """Return rowmax / 127; 0 for a row of zeros, or of subnormal scale."""
    scales: Vector = np.abs(rows).max(axis=1, initial=0.0) / np.float32(_LEVELS)
    scales[scales < _SMALLEST] = 0.0
    return scales


def _row_levels(rows: NDArray[np.float32], scales: Vector) -> NDArray[np.int8]:
    divisors = np.where(scales > 0, scales, np.float32(np.inf))
    levels = np.rint(rows / divisors[:, None])
    return np.clip(levels, -_LEVELS, _LEVELS).astype(np.int8).reshape(-1)


def _to_half(values: Vector, tensor: str) -> NDArray[np.float16]:
    with np.errstate(over="ignore", under="ignore"):
        halves = values.astype("<f2")
    if not np.all(np.isfinite(halves)):
        largest = float(np.abs(values).max())
        msg = (
            f"{tensor} holds {largest:g}; int8 broadcasts carry it as float16, at most "
            "65504: set broadcast.values to 'float32' or find out why it grows"
        )
        raise ConfigError(msg)
    return halves


class _Cursor:
    """Takes consecutive parts of an array."""

    def __init__(self, values: NDArray[Any]) -> None:
        self._values = values
        self._next = 0

    def take(self, count: int) -> NDArray[Any]:
        part = self._values[self._next : self._next + count]
        self._next += count
        return part


def _from_int8(raw: bytes, spec: ModelSpec) -> Vector:
    """Undo ``_to_int8``; ``raw`` has the right length already."""
    matrices = [tensor for tensor in spec.tensors if _is_matrix(tensor)]
    levels_at = 4 * sum(tensor.rows for tensor in matrices)
    halves_at = levels_at + sum(tensor.size for tensor in matrices)
    scales = _Cursor(from_planes(raw[:levels_at], "<f4"))
    levels = _Cursor(np.frombuffer(raw[levels_at:halves_at], dtype=np.int8))
    halves = _Cursor(from_planes(raw[halves_at:], "<f2"))
    weights = np.zeros(spec.size, dtype=np.float32)
    start = 0
    for tensor in spec.tensors:
        part = weights[start : start + tensor.size]
        start += tensor.size
        if _is_matrix(tensor):
            scale = scales.take(tensor.rows)
            part[:] = _dequantise(levels.take(tensor.size), scale, tensor)
        else:
            part[:] = halves.take(tensor.size)
    return weights


def _dequantise(
    levels: NDArray[np.int8], scales: Vector, tensor: TensorSpec
) -> NDArray[np.float32]:
    """Return level times scale; a scale is 0 exactly for rows of zeros."""
    rows = levels.reshape(tensor.rows, tensor.size // max(tensor.rows, 1))
    if np.any(rows < -_LEVELS):
        detail = "level -128; want -127..127"
        raise PayloadError(Reason.BAD_VALUE, tensor.name, detail)
    usable = np.isfinite(scales) & (scales >= _SMALLEST)
    zero = scales.view(np.uint32) == 0  # -0.0 is not the zero that is written
    filled = np.any(rows != 0, axis=1)
    bad = np.flatnonzero(~np.where(filled, usable, zero))
    if len(bad):
        kind = "levels" if filled[bad[0]] else "zeros only"
        detail = f"row {bad[0]} with {kind} has scale {scales[bad[0]]}"
        raise PayloadError(Reason.BAD_VALUE, tensor.name, detail)
    with np.errstate(over="ignore"):  # Refused by the caller, which names the tensor.
        dense = rows.astype(np.float32) * scales.astype(np.float32)[:, None]
    return dense.reshape(-1)
