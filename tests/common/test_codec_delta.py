import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.codec.delta import decode_delta, delta_parts, encode_delta
from common.codec.positions import (
    BITMAP,
    GAPS,
    Positions,
    decode_positions,
    encode_positions,
)
from common.codec.quantise import quantise_delta
from common.codec.sections import from_planes, squeeze, to_planes, unsqueeze
from common.errors import DataError, PayloadError, Reason
from common.messages import ModelSpec, SparseDelta, TensorSpec
from tests.common.codec_examples import (
    BASE,
    SPEC,
    assert_same_delta,
    sparse_delta,
)

SHAPES = st.lists(
    st.lists(st.integers(0, 9), min_size=0, max_size=4).map(tuple),
    min_size=1,
    max_size=5,
)


@st.composite
def deltas(draw):
    tensors = tuple(
        TensorSpec(name=f"t{i}", shape=shape) for i, shape in enumerate(draw(SHAPES))
    )
    spec = ModelSpec(tensors=tensors, moments=0, units=0)
    density = draw(st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.9, 1.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    indices = np.flatnonzero(rng.random(spec.size) < density)
    scale = draw(st.sampled_from([1e-3, 1.0]))
    values = rng.normal(scale=scale, size=len(indices)).astype(np.float32)
    return spec, SparseDelta(size=spec.size, indices=indices, values=values)


@settings(max_examples=60, deadline=None)
@given(deltas(), st.sampled_from(["int8", "float32"]))
def test_decode_undoes_encode(example, values):
    spec, delta = example
    base = np.zeros(spec.size, np.float32)
    wanted = quantise_delta(delta, spec, values)
    data = encode_delta(wanted, spec, base)
    found = decode_delta(data, spec, base, values, len(wanted.indices))
    assert_same_delta(found, wanted)
    assert encode_delta(found, spec, base) == data


@pytest.mark.parametrize("values", ["int8", "float32"])
@pytest.mark.parametrize("count", [0, 1, SPEC.size])
def test_empty_and_full_masks_travel(count, values):
    wanted = quantise_delta(sparse_delta(count), SPEC, values)
    data = encode_delta(wanted, SPEC, BASE)
    assert_same_delta(decode_delta(data, SPEC, BASE, values, count), wanted)


def slow_varints(numbers):
    planes = [bytearray() for _ in range(5)]
    for number in numbers:
        rest, place = number, 0
        while rest >= 128:
            planes[place].append(rest % 128 + 128)
            rest, place = rest // 128, place + 1
        planes[place].append(rest)
    return b"".join(planes)


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(0, 3_000_000), max_size=40))
def test_gaps_are_the_varints_that_a_loop_writes(chosen):
    indices = np.array(sorted(chosen), dtype=np.int64)
    numbers = (np.diff(indices, prepend=-1) - 1).tolist()
    found = encode_positions(indices, 3_000_001)
    raw = unsqueeze(found.data, "x", found.length, deflated=found.deflated)
    if found.form == GAPS:
        assert raw == slow_varints(numbers)
    gaps = slow_varints(numbers)
    positions = Positions(form=GAPS, length=len(gaps), deflated=False, data=gaps)
    decoded = decode_positions(positions, 3_000_001, len(indices))
    assert decoded.tolist() == indices.tolist()


def test_a_single_gap_beyond_the_vector_is_named_as_such():
    gaps = Positions(form=GAPS, length=2, deflated=False, data=b"\xff\x01")
    with pytest.raises(PayloadError, match="a gap of 255; want less than 200"):
        decode_positions(gaps, 200, 1)


def test_few_positions_travel_as_gaps_and_many_as_a_bitmap():
    rng = np.random.default_rng(0)
    size = 20_000
    few = np.flatnonzero(rng.random(size) < 0.02)
    many = np.flatnonzero(rng.random(size) < 0.6)
    assert encode_positions(few, size).form == GAPS
    assert encode_positions(many, size).form == BITMAP


@pytest.mark.parametrize(("density", "most"), [(0.01, 1.06), (0.05, 1.03), (0.3, 1.02)])
def test_positions_cost_little_more_than_their_entropy(density, most):
    rng = np.random.default_rng(0)
    size = 200_000
    mask = rng.random(size) < density
    share = mask.mean()
    entropy = -share * np.log2(share) - (1 - share) * np.log2(1 - share)
    data = encode_positions(np.flatnonzero(mask), size).data
    assert len(data) <= most * entropy * size / 8


def test_the_parts_of_a_delta_are_the_lengths_of_its_sections():
    delta = quantise_delta(sparse_delta(6), SPEC, "int8")
    data = encode_delta(delta, SPEC, BASE)
    parts = delta_parts(data)
    assert parts["values"] == 6
    assert parts["scales"] <= SPEC.rows
    assert sum(parts.values()) < len(data) <= sum(parts.values()) + 20


def test_a_delta_of_another_network_is_not_encoded():
    delta = quantise_delta(sparse_delta(6), SPEC, "int8")
    with pytest.raises(DataError, match=f"a delta of {SPEC.size} on 3 weights"):
        encode_delta(delta, SPEC, BASE[:3])


def test_more_entries_than_allowed_are_refused():
    data = encode_delta(quantise_delta(sparse_delta(6), SPEC, "int8"), SPEC, BASE)
    with pytest.raises(PayloadError, match=r"delta.count.*6; want 0..5"):
        decode_delta(data, SPEC, BASE, "int8", 5)


def test_another_kind_of_value_is_refused():
    data = encode_delta(quantise_delta(sparse_delta(6), SPEC, "int8"), SPEC, BASE)
    with pytest.raises(PayloadError) as caught:
        decode_delta(data, SPEC, BASE, "float32", 6)
    assert caught.value.field == "delta.coder"


def test_another_base_is_refused():
    data = encode_delta(quantise_delta(sparse_delta(6), SPEC, "int8"), SPEC, BASE)
    with pytest.raises(PayloadError, match="a base of 3 weights"):
        decode_delta(data, SPEC, BASE[:3], "int8", 6)


@pytest.mark.parametrize("raw", [b"", b"a", bytes(1000), bytes(range(256)) * 9])
@pytest.mark.parametrize("text", [True, False])
def test_a_section_comes_back_and_never_grows(raw, text):
    deflated, data = squeeze(raw, text=text)
    assert len(data) <= len(raw)
    assert unsqueeze(data, "x", len(raw), deflated=deflated) == raw


def test_a_section_may_come_from_any_deflate():
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = squeezer.compress(b"abc" * 100) + squeezer.flush()
    assert unsqueeze(data, "x", 300, deflated=True) == b"abc" * 100


def test_a_deflated_section_that_is_not_shorter_is_refused():
    with pytest.raises(PayloadError, match="8 deflated bytes for 8; want fewer"):
        unsqueeze(bytes(8), "x", 8, deflated=True)


@pytest.mark.parametrize("wanted", [299, 301])
def test_a_section_of_another_size_is_refused(wanted):
    _, data = squeeze(b"abc" * 100, text=True)
    with pytest.raises(PayloadError) as caught:
        unsqueeze(data, "x", wanted, deflated=True)
    assert caught.value.reason == Reason.BAD_SIZE


@pytest.mark.parametrize("dtype", ["<f2", "<f4"])
def test_planes_come_back(dtype):
    values = np.random.default_rng(0).normal(size=17).astype(dtype)
    data = b"".join(to_planes(values))
    assert data[:17] == values.tobytes()[:: np.dtype(dtype).itemsize]
    np.testing.assert_array_equal(from_planes(data, dtype), values)
