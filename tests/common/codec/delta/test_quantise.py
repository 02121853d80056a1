import numpy as np
import pytest
from helpers.codec.examples import SPEC, sparse_delta
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprune.common.codec.delta.quantise import (
    LADDER,
    dequantise_delta,
    quantise_delta,
)
from fedprune.common.errors import DataError
from fedprune.common.messages import SparseDelta
from fedprune.common.spec import ModelSpec, TensorSpec

ROW = ModelSpec(
    tensors=(TensorSpec(name="w", shape=(2, 4)), TensorSpec(name="b", shape=(3,))),
    moments=0,
    units=0,
)


def delta_of(values):
    values = np.float32(values)
    indices = np.flatnonzero(values)
    return SparseDelta(size=len(values), indices=indices, values=values[indices])


def slow_quantise(delta, spec):
    """Return code and levels of every row, entry by entry."""
    out, start = [], 0
    entries = dict(zip(delta.indices.tolist(), delta.values, strict=True))
    for length in spec.row_lengths.tolist():
        row = {i: entries[i] for i in range(start, start + length) if i in entries}
        start += length
        most = max((abs(float(v)) for v in row.values()), default=0.0)
        code = next((c for c in range(1, 256) if LADDER[c] >= most / 127), 255)
        levels = {i: int(np.rint(v / LADDER[code])) for i, v in row.items()}
        levels = {i: max(-127, min(127, q)) for i, q in levels.items() if q}
        out.append((code if levels else 0, levels))
    return out


def test_the_ladder_is_the_float32_nearest_to_its_formula():
    codes = np.arange(1, 256)
    wanted = np.exp2((codes - 225) / 8.0).astype(np.float32)
    np.testing.assert_array_equal(LADDER[1:], wanted)
    assert LADDER[1] == 2.0**-28
    assert LADDER[225] == 1.0
    assert LADDER[249] == 8.0


def test_the_ladder_rises_and_is_finite():
    assert LADDER.dtype == np.float32
    assert np.all(np.isfinite(LADDER))
    assert np.all(np.diff(LADDER) > 0)


def test_a_known_row_takes_known_levels():
    q = quantise_delta(
        delta_of([1.27, 0, -0.635, 0.001, 0, 0, 0, 0, 0, 0, 8]), ROW, "int8"
    )
    # 1.27 / 127 = 0.01 <= 2**(-53 / 8) = 0.01013; 8 / 127 = 0.063 <= 2**(-31 / 8)
    assert q.scales.tolist() == [172, 0, 194]
    assert q.indices.tolist() == [0, 2, 10]
    assert q.values.tolist() == [125, -63, 117]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=11, max_size=11),
    st.sampled_from([1.0, 1e-4, 1e-9]),
)
def test_quantise_agrees_with_a_loop_over_entries(values, factor):
    delta = delta_of(np.float32(values) * np.float32(factor))
    q = quantise_delta(delta, ROW, "int8")
    wanted = slow_quantise(delta, ROW)
    assert q.scales.tolist() == [code for code, _ in wanted]
    levels = {i: level for _, row in wanted for i, level in row.items()}
    assert dict(zip(q.indices.tolist(), q.values.tolist(), strict=True)) == levels


@pytest.mark.parametrize("largest", [1e-6, 3e-3, 0.5, 77.0, 1700.0])
def test_the_error_is_at_most_half_a_step(largest):
    rng = np.random.default_rng(0)
    values = rng.uniform(-largest, largest, ROW.size).astype(np.float32)
    sent = dequantise_delta(quantise_delta(delta_of(values), ROW, "int8"), ROW)
    dense = np.zeros(ROW.size, np.float32)
    dense[sent.indices] = sent.values
    bounds = np.cumsum(ROW.row_lengths)[:-1]
    for wanted, found in zip(
        np.split(values, bounds), np.split(dense, bounds), strict=True
    ):
        error = np.abs(wanted.astype(np.float64) - found).max()
        assert error <= np.abs(wanted).max() * 2 ** (1 / 8) / 254 * (1 + 1e-6)


def test_entries_above_the_ladder_are_clipped_and_stay_in_the_residual():
    sent = dequantise_delta(
        quantise_delta(delta_of([5000.0] + [0] * 10), ROW, "int8"), ROW
    )
    assert sent.values.tolist() == [np.float32(127) * LADDER[255]]


def test_rows_that_round_to_nothing_are_not_sent():
    q = quantise_delta(delta_of([1e-10] * 11), ROW, "int8")
    assert len(q.indices) == 0
    assert q.scales.tolist() == [0, 0, 0]


def test_float32_is_exact_and_leaves_zeros_out():
    values = np.float32([0.0, -1e-40, 3.3, -0.0])
    delta = SparseDelta(size=11, indices=np.array([0, 4, 7, 9]), values=values)
    q = quantise_delta(delta, ROW, "float32")
    assert q.indices.tolist() == [4, 7]
    assert len(q.scales) == 0
    sent = dequantise_delta(q, ROW)
    assert sent.values.tobytes() == values[1:3].tobytes()


@pytest.mark.parametrize("values", ["int8", "float32"])
def test_an_empty_delta_stays_empty(values):
    q = quantise_delta(sparse_delta(0), SPEC, values)
    assert len(q.indices) == len(q.values) == 0
    assert len(dequantise_delta(q, SPEC).values) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("values", ["int8", "float32"])
def test_a_diverged_delta_is_refused_with_its_tensor(bad, values):
    delta = delta_of([1, 0, 0, 0, 0, 0, 0, 0, 2, bad, 0])
    with pytest.raises(DataError, match="not finite, first in b"):
        quantise_delta(delta, ROW, values)
