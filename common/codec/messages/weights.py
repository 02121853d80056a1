"""Weights of a broadcast as bytes.  Both ends train on the decoded weights.

"grid": a quantisation grid, entropy coded (``grid/format.py``).
"float32": plain float32, the reference for comparisons.
Exact zeros stay exact zeros in both.
"""

import numpy as np

from fedprune.common.codec import checks
from fedprune.common.codec.frame import Kind, kind_of, seal, unseal
from fedprune.common.codec.grid.coding import decode_full, encode_full, is_grid
from fedprune.common.codec.grid.quantise import exact_grid, grid_values, on_grid
from fedprune.common.codec.messages.codebook import decode_codebook
from fedprune.common.errors import DataError, PayloadError, Reason
from fedprune.common.spec import ModelSpec, Vector, weights_digest

_FRAME = 64  # more than the frame of the weights needs
_FLOAT = 4  # bytes


def encode_weights(weights: Vector, spec: ModelSpec, values: str) -> bytes:
    """Return the weights as one message.

    Args:
        weights: float32[spec.size], finite.
        spec: Shapes of the network.
        values: "grid" or "float32".  "grid" is exact for weights that lie on a grid;
            others are rounded to a fresh one.

    Raises:
        DataError: If a weight is not finite or their number is wrong.
        ConfigError: If a weight is beyond the grid in "grid".
    """
    check_finite(weights, spec)
    if values == "grid":
        grid = exact_grid(weights, spec) or on_grid(weights, spec, None)
        return encode_full(grid, spec)
    return seal(Kind.WEIGHTS, [weights.astype("<f4").tobytes()])


def decode_weights(data: bytes, spec: ModelSpec) -> Vector:
    """Return the weights, float32[spec.size]; trust nothing in ``data``.

    Raises:
        PayloadError: If the bytes are not valid weights of this network, or only a
            change since an earlier broadcast.
    """
    if kind_of(data) is Kind.CODEBOOK:
        return decode_codebook(data, spec)
    if is_grid(data):
        return grid_values(decode_full(data, spec), spec)
    cap = _FLOAT * spec.size + _FRAME
    fields = checks.array(unseal(data, Kind.WEIGHTS, cap), "weights", 1)
    raw = checks.blob(fields[0], "weights.data", _FLOAT * spec.size)
    weights: Vector = np.frombuffer(raw, dtype="<f4").astype(np.float32)
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
    """Refuse weights that are not finite or of another number.

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
