"""A sparse delta on the grid on which it travels: int8 per row, or float32 as is.

int8: every row of a tensor (one output) has one scale out of a fixed ladder of 255
steps, ``ladder[c] = 2 ** ((c - 225) / 8)`` for codes c = 1..255, from 2**-28 to
2**3.75.  The steps are built from eight float32 mantissas and ``ldexp``, so they are
the same bits on every platform, finite and above zero: no message can hold a scale
that is NaN, zero or subnormal.  A row takes the smallest step with
``rowmax / 127 <= step``.

Error, with m the largest magnitude sent in a row: at most half a step, which is below
``m * 2**(1/8) / 254 = 0.0043 * m`` while ``127 * 2**-28 <= m <= 127 * 2**3.75``.
Rows below lose at most 2**-29 an entry; entries above 127 * 2**3.75 = 1708 are
clipped.  Entries that round to 0 are not sent.  What is lost stays in the residual,
because the caller subtracts the dequantised delta (error feedback).
"""

import numpy as np
from numpy.typing import NDArray

from common.codec.rows import entries_per_row, tensor_of_row
from common.errors import DataError
from common.messages import Indices, ModelSpec, QuantisedDelta, SparseDelta, Vector

VALUES = ("int8", "float32")
LARGEST_CODE = 255

_LEVELS = 127  # -128 stays unused, so the grid is symmetric
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


def quantise_delta(delta: SparseDelta, spec: ModelSpec, values: str) -> QuantisedDelta:
    """Return the delta on its grid; see the module for the rule and the error.

    Ties of the rounding go to the even level.

    Args:
        delta: What is to be sent; ``delta.size`` must be ``spec.size``.
        spec: Shapes of the network.
        values: "int8" or "float32" (exact; entries of 0 are left out).

    Raises:
        DataError: If a value is not finite: the local training diverged.
    """
    bad = np.flatnonzero(~np.isfinite(delta.values))
    if len(bad):
        tensor = spec.tensor_at(int(delta.indices[bad[0]]))
        msg = (
            f"the delta holds {len(bad)} values that are not finite, first in {tensor}"
        )
        raise DataError(msg)
    if values == "float32":
        return _exact(delta)
    counts = entries_per_row(delta.indices, spec)
    codes = _scale_codes(np.abs(delta.values), counts)
    scales = np.repeat(LADDER[codes], counts)
    levels = np.clip(np.rint(delta.values / scales), -_LEVELS, _LEVELS)
    sent = levels != 0
    indices = delta.indices[sent]
    codes[entries_per_row(indices, spec) == 0] = 0
    return QuantisedDelta(
        size=delta.size,
        indices=indices,
        values=levels[sent].astype(np.int8),
        scales=codes,
    )


def dequantise_delta(q: QuantisedDelta, spec: ModelSpec) -> SparseDelta:
    """Return the delta that a quantised one stands for: level times scale, float32."""
    if q.values.dtype == np.float32:
        values = q.values.astype(np.float32)
    else:
        counts = entries_per_row(q.indices, spec)
        values = q.values.astype(np.float32) * np.repeat(LADDER[q.scales], counts)
    return SparseDelta(size=q.size, indices=q.indices, values=values)


def check_levels(q: QuantisedDelta, spec: ModelSpec) -> tuple[str, str] | None:
    """Return (tensor, what is wrong) of an int8 delta, or None if it is canonical."""
    bad = np.flatnonzero((q.values == 0) | (q.values < -_LEVELS))
    if len(bad):
        tensor = spec.tensor_at(int(q.indices[bad[0]]))
        return tensor, f"level {q.values[bad[0]]}; want -127..127 without 0"
    filled = entries_per_row(q.indices, spec) > 0
    odd = np.flatnonzero(filled != (q.scales > 0))
    if len(odd):
        tensor = tensor_of_row(spec, int(odd[0]))
        entries = "entries" if filled[odd[0]] else "no entries"
        return tensor, f"a row with {entries} has scale code {q.scales[odd[0]]}"
    return None


def _exact(delta: SparseDelta) -> QuantisedDelta:
    sent = delta.values != 0
    return QuantisedDelta(
        size=delta.size,
        indices=delta.indices[sent],
        values=delta.values[sent],
        scales=np.zeros(0, dtype=np.uint8),
    )


def _scale_codes(magnitudes: Vector, counts: Indices) -> NDArray[np.uint8]:
    """Return the scale code of each row, uint8[rows]; 0 for rows without entries."""
    codes = np.zeros(len(counts), dtype=np.uint8)
    filled = np.flatnonzero(counts)
    starts = (np.cumsum(counts) - counts)[filled]
    if len(filled):
        # Float64: the division must not round a row maximum down to a smaller step.
        wanted = np.maximum.reduceat(magnitudes, starts).astype(np.float64) / _LEVELS
        steps = np.searchsorted(LADDER[1:].astype(np.float64), wanted) + 1
        codes[filled] = np.minimum(steps, LARGEST_CODE)
    return codes
