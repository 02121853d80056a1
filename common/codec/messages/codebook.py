"""Weights in a codebook: each weight is one of a few values of its tensor.

``2**bits`` values for each tensor of two or more dimensions, found by k-means over its
weights other than 0 with centroids that begin halfway between even spacing and equal
counts (record 0101); a tensor that has no more values than that keeps them, so weights
on a codebook are coded again without loss.  Source: Han et al. 2016, arXiv:1510.00149,
sections 3 and 3.2; with data the values can be fine-tuned (3.3) and the weights coded
again.  A weight of 0 stays 0, and one whose centroid is 0 becomes 0; other tensors
travel as float16.  The numbers of the values are entropy coded, adaptively for each
tensor.

10 codebook  bits int 1..6, counts bin: uint8 of each tensor with two or more
             dimensions, its values, at most 2 ** bits; values bin: float32 of these,
             rising, none of them 0; stream bin: uint32 states, uint16 words; halves
             bin: float16 of all other tensors

The stream holds one run: for each weight of these tensors 0, or 1 + the number of its
value [tensor], of 2 ** bits + 1 symbols, at least 3; lanes and blocks as in
``delta/format.py`` with count = size = their weights.  Every value is used.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedprune.common.codec import checks
from fedprune.common.codec.delta.options import lanes_for
from fedprune.common.codec.entropy.coder import (
    Encoder,
    close_stream,
    end_stream,
    open_stream,
)
from fedprune.common.codec.entropy.models import Model
from fedprune.common.codec.frame import Kind, seal, unseal
from fedprune.common.codec.layout import TENSORS
from fedprune.common.errors import ConfigError, PayloadError, Reason
from fedprune.common.spec import ModelSpec, TensorSpec, Vector

MOST_BITS = 6

_ROUNDS = 100  # of k-means; it ends earlier when nothing moves
_FIELDS = 5
_ENTRY = 4  # bytes, more than a weight needs
_FRAME = 1 << 14

Symbols = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Codebook:
    """The codebook of one tensor, and the symbol of each weight.

    Attributes:
        values: float32[k], rising, none of them 0.
        symbols: 0, or 1 + the number of the value, uint8[weights].
    """

    values: Vector
    symbols: Symbols


def make_codebook(weights: Vector, bits: int) -> Codebook:
    """Return the codebook of a tensor.

    Where the weights have no more than ``2**bits`` values, these are the codebook.
    Ties of the assignment go to the smaller value; sums are in float64 over the sorted
    weights, so equal weights give equal codebooks.

    Args:
        weights: float32[n], finite.
        bits: log2 of the most values, 1..6.
    """
    found = np.unique(weights[weights != 0])
    if len(found) <= 1 << bits:
        return _assign(weights, found)
    return _assign(weights, _centroids(weights[weights != 0], bits))


def _centroids(weights: Vector, bits: int) -> Vector:
    """Return the centroids of k-means, float32[k], rising."""
    order = np.sort(weights.astype(np.float64))
    sums = np.concatenate([[0.0], np.cumsum(order)])
    # Evenly spaced ones leave tails empty, and are lost there; those of equal counts
    # leave the tails, the weights that matter most, to one centroid each.
    shares = (np.arange(1 << bits) + 0.5) / (1 << bits)
    even = np.linspace(order[0], order[-1], 1 << bits)
    centres = (even + np.quantile(order, shares)) / 2.0
    for _ in range(_ROUNDS):
        bounds = _bounds(order, centres)
        filled = np.diff(bounds) > 0
        totals, counts = np.diff(sums[bounds])[filled], np.diff(bounds)[filled]
        moved = totals / counts
        if np.array_equal(moved, centres):
            break
        centres = moved
    return np.unique(centres.astype(np.float32))


def encode_codebook(weights: Vector, spec: ModelSpec, bits: int) -> bytes:
    """Return weights as one message.

    Raises:
        ConfigError: If a bias or norm is beyond float16, or ``bits`` is not 1..6.
    """
    if not 1 <= bits <= MOST_BITS:
        msg = f"a codebook of {bits} bits; want 1..{MOST_BITS}"
        raise ConfigError(msg)
    codebooks, halves = [], [np.zeros(0, dtype="<f2")]
    for tensor, part in _parts(weights, spec):
        if _is_matrix(tensor):
            codebooks.append(make_codebook(part, bits))
        else:
            halves.append(_to_half(part, tensor.name))
    symbols = np.concatenate([np.zeros(0, np.uint8), *(b.symbols for b in codebooks)])
    writer = Encoder(lanes_for(len(symbols), len(symbols)))
    writer.code(_model(bits), (_contexts(spec),), symbols)
    values = np.concatenate([np.zeros(0, np.float32), *(b.values for b in codebooks)])
    return seal(
        Kind.CODEBOOK,
        [
            bits,
            bytes(len(codebook.values) for codebook in codebooks),
            values.astype("<f4").tobytes(),
            close_stream(writer),
            np.concatenate(halves).tobytes(),
        ],
    )


def decode_codebook(data: bytes, spec: ModelSpec) -> Vector:
    """Return the weights, float32[spec.size]; trust nothing in ``data``.

    Raises:
        PayloadError: If the bytes are not valid weights of this network.
    """
    cap = _ENTRY * (spec.size + (len(spec.tensors) << MOST_BITS)) + _FRAME
    items = checks.array(unseal(data, Kind.CODEBOOK, cap), "codebook", _FIELDS)
    bits = checks.integer(items[0], "codebook.bits", 1, MOST_BITS)
    matrices = [tensor for tensor in spec.tensors if _is_matrix(tensor)]
    counts = checks.blob(items[1], "codebook.counts", len(matrices))
    if max(counts, default=0) > 1 << bits:
        detail = f"{max(counts)} values; want at most {1 << bits}"
        raise PayloadError(Reason.BAD_VALUE, "codebook.counts", detail)
    values = checks.floats(items[2], "codebook.values", "<f4", sum(counts))
    others = spec.size - sum(tensor.size for tensor in matrices)
    halves = checks.floats(items[4], "codebook.halves", "<f2", others)
    symbols = _read_symbols(checks.blob(items[3], "codebook.stream"), spec, bits)
    out = [np.zeros(0, dtype=np.float32)]
    value = symbol = half = 0
    numbers = iter(counts)
    for tensor in spec.tensors:
        if _is_matrix(tensor):
            count = next(numbers)
            mine = symbols[symbol : symbol + tensor.size]
            out.append(_look_up(values[value : value + count], mine, tensor.name))
            value, symbol = value + count, symbol + tensor.size
        else:
            out.append(halves[half : half + tensor.size])
            half += tensor.size
    return np.concatenate(out)


def _bounds(
    order: NDArray[np.float64], centres: NDArray[np.float64]
) -> NDArray[np.int64]:
    middles = (centres[1:] + centres[:-1]) / 2
    inner = np.searchsorted(order, middles, side="right")
    return np.concatenate([[0], inner, [len(order)]])


def _assign(weights: Vector, values: Vector) -> Codebook:
    """Return the nearest value of each weight, without 0 and what is unused.

    Weights whose nearest value is 0 become 0: they have the symbol of 0.
    """
    exact = values.astype(np.float64)
    middles = (exact[1:] + exact[:-1]) / 2
    nearest = np.searchsorted(middles, weights.astype(np.float64), side="left")
    filled = np.bincount(nearest[weights != 0], minlength=len(values)) > 0
    filled &= values != 0
    number = np.cumsum(filled) * filled
    symbols = np.where(weights == 0, 0, number[nearest] if len(number) else 0)
    return Codebook(values=values[filled], symbols=symbols.astype(np.uint8))


def _look_up(values: Vector, symbols: Symbols, tensor: str) -> Vector:
    """Return the weights of a tensor; refuse a codebook that is not canonical."""
    if np.any(np.diff(values) <= 0) or np.any(values == 0):
        detail = "values that do not rise, or a value of 0"
        raise PayloadError(Reason.BAD_VALUE, f"codebook.values of '{tensor}'", detail)
    seen = np.bincount(symbols, minlength=len(values) + 1)
    if len(seen) != len(values) + 1 or np.any(seen[1:] == 0):
        detail = f"{len(values)} values; want all of them used and no other"
        raise PayloadError(Reason.BAD_VALUE, f"codebook.values of '{tensor}'", detail)
    table = np.concatenate([np.zeros(1, dtype=np.float32), values])
    found: Vector = table[symbols]
    return found


def _read_symbols(stream: bytes, spec: ModelSpec, bits: int) -> Symbols:
    contexts = _contexts(spec)
    lanes = lanes_for(len(contexts), len(contexts))
    decoder = open_stream(stream, lanes, "codebook.stream")
    symbols = decoder.code(_model(bits), (contexts,), None)
    end_stream(decoder, "codebook.stream")
    return symbols


def _model(bits: int) -> Model:
    return Model((1 << bits) + 1, (TENSORS,))


def _contexts(spec: ModelSpec) -> Symbols:
    sizes = [tensor.size for tensor in spec.tensors if _is_matrix(tensor)]
    numbers = np.minimum(np.arange(len(sizes)), TENSORS - 1).astype(np.uint8)
    return np.repeat(numbers, np.array(sizes, dtype=np.int64))


def _is_matrix(tensor: TensorSpec) -> bool:
    return len(tensor.shape) > 1


def _parts(weights: Vector, spec: ModelSpec) -> list[tuple[TensorSpec, Vector]]:
    parts, start = [], 0
    for tensor in spec.tensors:
        parts.append((tensor, weights[start : start + tensor.size]))
        start += tensor.size
    return parts


def _to_half(values: Vector, tensor: str) -> NDArray[np.float16]:
    with np.errstate(over="ignore", under="ignore"):
        halves = values.astype("<f2")
    if not np.all(np.isfinite(halves)):
        msg = f"{tensor} holds {float(np.abs(values).max()):g}; float16 ends at 65504"
        raise ConfigError(msg)
    return halves
