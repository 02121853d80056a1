"""Quantisation of a sparse delta: value formats, scales and levels.

=======  ==============================  =========================================
values   quantisation grid               error of an entry
=======  ==============================  =========================================
float32  none                            0
int8     127 levels, a scale for a row   half a step: 0.0043 of the row's largest
step     a step for a tensor, by error   ``target_error`` of the tensor's energy
=======  ==============================  =========================================

Scales come out of a fixed ladder of 255 steps, ``ladder[c] = 2 ** ((c - 225) / 8)``
for codes c = 1..255, from 2**-28 to 2**3.75.  They are built from eight float32
mantissas and ``ldexp``, so they are the same bits on every platform, finite and above
zero: no message can hold a scale that is NaN, zero or subnormal.  A row takes the
smallest step with ``rowmax / levels <= step``; a tensor the one nearest to the step of
its target error (a tie goes down), or the first that has 127 levels for its largest
entry.  A uniform error of half a step is ``step**2 / 12`` on average, so the step of
a target error t is ``rms * sqrt(12 * t)``.

Floats of every position may be 0: dense FedAvg sends them as they are.

Rows below the ladder lose at most 2**-29 an entry; entries above its end are clipped.
Entries that round to 0 are not sent.  The quantisation error stays in the residual,
because the caller subtracts the dequantised delta (error feedback).
"""

from dataclasses import dataclass
from math import isfinite
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedprune.common.codec.layout import entries_per_row, tensor_of_row
from fedprune.common.errors import DataError
from fedprune.common.messages import QuantisedDelta, SparseDelta
from fedprune.common.spec import Indices, ModelSpec, Vector, largest_magnitude

LARGEST_CODE = 255
TARGET_ERROR = 0.16  # share of a tensor's energy that "step" may lose; the default


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueFormat:
    """A value format: how the values of a delta are quantised and encoded.

    Attributes:
        code: Its number on the wire.
        top: Largest level; 0 = floats.
        per: The entries that share one scale.
        bits: Estimated bits of a value, its sign included.
    """

    code: int
    top: int
    per: Literal["row", "tensor", "nothing"]
    bits: float


VALUE_FORMATS = {
    "int8": ValueFormat(code=1, top=127, per="row", bits=7.0),
    "float32": ValueFormat(code=2, top=0, per="nothing", bits=32.0),
    "step": ValueFormat(code=3, top=127, per="tensor", bits=1.0),
}
VALUES = tuple(VALUE_FORMATS)

_STEPS = 8  # a doubling of the scale
_CODE_OF_ONE = 225
# round(2 ** (j / 8) * 2 ** 23) for j = 0..7: the float32 mantissas, as integers.
_MANTISSAS = (
    8388608, 9147842, 9975792, 10878679, 11863283, 12937002, 14107901, 15384775,
)  # fmt: skip
_MANTISSA_BITS = 23


def _make_ladder() -> Vector:
    ladder = np.zeros(LARGEST_CODE + 1, dtype=np.float32)  # code 0: no entries
    for code in range(1, LARGEST_CODE + 1):
        octave, step = divmod(code - _CODE_OF_ONE, _STEPS)
        mantissa = np.float32(_MANTISSAS[step])
        ladder[code] = np.ldexp(mantissa, octave - _MANTISSA_BITS)
    return ladder


LADDER = _make_ladder()


def quantise_delta(
    delta: SparseDelta,
    spec: ModelSpec,
    values: str,
    target_error: float = TARGET_ERROR,
) -> QuantisedDelta:
    """Return the quantised delta; the module docstring gives the rule and the error.

    Ties of the rounding go to the even level.

    Args:
        delta: Entries to send; ``delta.size`` must be ``spec.size``.
        spec: Shapes of the network.
        values: A value format of ``VALUES``.
        target_error: For "step": share of a tensor's energy that may be lost, > 0.

    Raises:
        DataError: If a value is not finite: the local training diverged.
    """
    if not isfinite(largest_magnitude(delta.values)):
        bad = np.flatnonzero(~np.isfinite(delta.values))
        tensor = spec.tensor_at(int(delta.indices[bad[0]]))
        msg = (
            f"the delta holds {len(bad)} values that are not finite, first in {tensor}"
        )
        raise DataError(msg)
    value_format = VALUE_FORMATS[values]
    if value_format.per == "nothing":
        return _floats(delta)
    counts = scale_counts(delta.indices, spec, values)
    if value_format.per == "row":
        codes = _row_codes(np.abs(delta.values), counts, value_format.top)
    else:
        codes = _tensor_codes(
            np.abs(delta.values), counts, value_format.top, target_error
        )
    scales = np.repeat(LADDER[codes], counts)
    top = value_format.top
    levels = np.clip(np.rint(delta.values / scales), -top, top)
    sent = levels != 0
    indices = delta.indices[sent]
    codes[scale_counts(indices, spec, values) == 0] = 0
    return QuantisedDelta(
        size=delta.size,
        indices=indices,
        values=levels[sent].astype(np.int8),
        scales=codes,
        kind=values,
    )


def value_bits(values: str) -> float:
    """Return the estimated bits of a value of this format, without its position.

    1.5 would be nearer for "step": docs/notebook/updates.md, "Choice of entries".
    """
    return VALUE_FORMATS[values].bits


def dequantise_delta(q: QuantisedDelta, spec: ModelSpec) -> SparseDelta:
    """Return the dequantised delta: level times scale, float32."""
    if VALUE_FORMATS[q.kind].per == "nothing":
        values = q.values.astype(np.float32, copy=False)
    else:
        counts = scale_counts(q.indices, spec, q.kind)
        values = q.values.astype(np.float32) * np.repeat(LADDER[q.scales], counts)
    return SparseDelta(size=q.size, indices=q.indices, values=values)


def check_levels(q: QuantisedDelta, spec: ModelSpec) -> tuple[str, str] | None:
    """Return (tensor, what is wrong) of a delta of levels, or None if canonical."""
    top = VALUE_FORMATS[q.kind].top
    bad = np.flatnonzero((q.values == 0) | (q.values < -top) | (q.values > top))
    if len(bad):
        tensor = spec.tensor_at(int(q.indices[bad[0]]))
        return tensor, f"level {q.values[bad[0]]}; want -{top}..{top} without 0"
    filled = scale_counts(q.indices, spec, q.kind) > 0
    odd = np.flatnonzero(filled != (q.scales > 0))
    if len(odd):
        number = int(odd[0])
        by_row = VALUE_FORMATS[q.kind].per == "row"
        tensor = tensor_of_row(spec, number) if by_row else spec.tensors[number].name
        entries = "entries" if filled[number] else "no entries"
        what = "row" if by_row else "tensor"
        return tensor, f"a {what} with {entries} has scale code {q.scales[number]}"
    return None


def scale_counts(indices: Indices, spec: ModelSpec, values: str) -> Indices:
    """Return the number of positions that share each scale, int64[rows or tensors]."""
    if VALUE_FORMATS[values].per == "row":
        return entries_per_row(indices, spec)
    sizes = np.array([0, *(tensor.size for tensor in spec.tensors)], dtype=np.int64)
    return np.diff(np.searchsorted(indices, np.cumsum(sizes)))


def is_everywhere(delta: QuantisedDelta) -> bool:
    """Return whether a delta holds plain floats at every position, 0 included."""
    return delta.kind == "float32" and 0 < delta.size == len(delta.indices)


def _floats(delta: SparseDelta) -> QuantisedDelta:
    indices, values = delta.indices, delta.values
    if len(indices) < delta.size:
        sent = values != 0
        indices, values = indices[sent], values[sent]
    return QuantisedDelta(
        size=delta.size,
        indices=indices,
        # Minus 0 becomes 0: it has one form on the wire.  A copy in each case: what is
        # left of the caller's array is its residual.
        values=values + np.float32(0),
        scales=np.zeros(0, dtype=np.uint8),
        kind="float32",
    )


def _row_codes(magnitudes: Vector, counts: Indices, top: int) -> NDArray[np.uint8]:
    """Return the scale code of each row, uint8[rows]; 0 for rows without entries."""
    codes = np.zeros(len(counts), dtype=np.uint8)
    filled, starts = _parts(counts)
    if len(filled):
        # Float64: the division must not round a row maximum down to a smaller step.
        wanted = np.maximum.reduceat(magnitudes, starts).astype(np.float64) / top
        codes[filled] = _codes_above(wanted)
    return codes


def _tensor_codes(
    magnitudes: Vector, counts: Indices, top: int, target_error: float
) -> NDArray[np.uint8]:
    """Return the scale code of each tensor: the step of its error."""
    codes = np.zeros(len(counts), dtype=np.uint8)
    filled, starts = _parts(counts)
    if not len(filled):
        return codes
    exact = magnitudes.astype(np.float64)
    squares = np.add.reduceat(exact * exact, starts) / counts[filled]
    wanted = np.sqrt(squares * 12.0 * target_error)
    most = np.maximum.reduceat(exact, starts) / top
    codes[filled] = np.maximum(_codes_nearest(wanted), _codes_above(most))
    return codes


def _parts(counts: Indices) -> tuple[Indices, Indices]:
    """Return the numbers of the parts that have an entry, and their starts."""
    filled = np.flatnonzero(counts)
    return filled, (np.cumsum(counts) - counts)[filled]


def _codes_above(wanted: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the code of the smallest step that is not below."""
    steps = np.searchsorted(LADDER[1:].astype(np.float64), wanted) + 1
    return np.minimum(steps, LARGEST_CODE).astype(np.uint8)


def _codes_nearest(wanted: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the code of the step that is nearest."""
    ladder = LADDER[1:].astype(np.float64)
    middles = (ladder[1:] + ladder[:-1]) / 2
    return (np.searchsorted(middles, wanted) + 1).astype(np.uint8)
