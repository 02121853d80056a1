"""Deltas come back, whatever both ends hold; a second decoder agrees."""

import numpy as np
import pytest
from helpers.codec.examples import (
    BASE,
    KNOWN,
    SPEC,
    assert_same_delta,
    sparse_delta,
)
from helpers.codec.slow_delta import Slow
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprune.common.codec.delta.coding import decode_delta, delta_parts, encode_delta
from fedprune.common.codec.delta.header import read_fields
from fedprune.common.codec.delta.quantise import VALUES, quantise_delta
from fedprune.common.codec.delta.side_information import SideInformation
from fedprune.common.codec.layout import Layout
from fedprune.common.errors import DataError, PayloadError
from fedprune.common.messages import SparseDelta
from fedprune.common.spec import ModelSpec, TensorSpec

SHAPES = st.lists(
    st.lists(st.integers(0, 9), min_size=0, max_size=4).map(tuple),
    min_size=1,
    max_size=5,
)


@st.composite
def examples(draw):
    """Return what both ends hold, and a delta on it."""
    tensors = tuple(
        TensorSpec(name=f"t{i}", shape=shape) for i, shape in enumerate(draw(SHAPES))
    )
    spec = ModelSpec(tensors=tensors, moments=0, units=0)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    base = rng.normal(size=spec.size) * (rng.random(spec.size) < draw(SHARES))
    mask = rng.random(spec.size) < draw(st.sampled_from([0.0, 0.01, 0.1, 0.9, 1.0]))
    values = rng.normal(size=spec.size)
    if draw(st.booleans()):  # as a proximal step leaves it
        values = values * 0.05 - 0.3 * np.sign(base)
    if draw(st.booleans()):  # odds by row and column
        mask &= (np.arange(spec.size) % 7 < 3) | (rng.random(spec.size) < 0.1)
    values = (values * draw(st.sampled_from([1e-3, 1.0]))).astype(np.float32)
    known_positions = draw(st.booleans())
    side_info = SideInformation(
        layout=Layout(spec),
        base=base.astype(np.float32),
        mask=mask if known_positions else None,
    )
    sent = mask & (rng.random(spec.size) < 0.8) if known_positions else mask
    indices = np.flatnonzero(sent)
    return side_info, SparseDelta(
        size=spec.size, indices=indices, values=values[indices]
    )


SHARES = st.sampled_from([0.0, 0.3, 1.0])


@settings(max_examples=60, deadline=None)
@given(examples(), st.sampled_from(VALUES))
def test_decode_undoes_encode(example, values):
    side_info, delta = example
    spec = side_info.layout.spec
    wanted = quantise_delta(delta, spec, values)
    data = encode_delta(wanted, side_info)
    found = decode_delta(data, side_info, values=values, max_entries=spec.size)
    assert_same_delta(found, wanted)
    assert encode_delta(found, side_info) == data


@settings(max_examples=25, deadline=None)
@given(examples(), st.sampled_from(VALUES))
def test_a_second_decoder_agrees(example, values):
    side_info, delta = example
    spec = side_info.layout.spec
    wanted = quantise_delta(delta, spec, values)
    data = encode_delta(wanted, side_info)
    positions, found, codes = Slow(data, spec, side_info.base, side_info.mask).decode()
    pairs = [(i, v) for i, v in zip(positions, found, strict=True) if v]
    assert [i for i, _ in pairs] == wanted.indices.tolist()
    assert [v for _, v in pairs] == wanted.values.tolist()
    if codes is not None and len(wanted.scales):
        assert codes == wanted.scales.tolist()


def test_a_second_decoder_agrees_on_many_lanes_and_blocks():
    spec = ModelSpec(
        tensors=(
            TensorSpec(name="a", shape=(15, 20, 3, 3)),
            TensorSpec(name="b", shape=(40, 50)),
        ),
        moments=0,
        units=0,
    )
    rng = np.random.default_rng(0)
    base = rng.normal(size=spec.size).astype(np.float32)
    chosen = np.flatnonzero(rng.random(spec.size) < 0.4 * (np.abs(base) > 0.5) + 0.4)
    noise = rng.normal(size=len(chosen)) * 0.03
    values = (noise - 0.2 * np.sign(base[chosen])).astype(np.float32)
    delta = SparseDelta(size=spec.size, indices=chosen, values=values)
    side_info = SideInformation.of(spec, base)
    for kind in VALUES:
        wanted = quantise_delta(delta, spec, kind)
        data = encode_delta(wanted, side_info)
        positions, found, _ = Slow(data, spec, base, None).decode()
        assert positions == wanted.indices.tolist()
        assert found == wanted.values.tolist()


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("count", [0, 1, SPEC.size])
def test_empty_and_full_masks_travel(count, values):
    wanted = quantise_delta(sparse_delta(count), SPEC, values)
    data = encode_delta(wanted, KNOWN)
    found = decode_delta(data, KNOWN, values=values, max_entries=count)
    assert_same_delta(found, wanted)


@pytest.mark.parametrize("values", VALUES)
def test_a_network_of_one_weight_travels(values):
    spec = ModelSpec(tensors=(TensorSpec(name="w", shape=()),), moments=0, units=0)
    side_info = SideInformation.of(spec, np.float32([0.5]))
    delta = SparseDelta(size=1, indices=np.array([0]), values=np.float32([-0.25]))
    wanted = quantise_delta(delta, spec, values)
    data = encode_delta(wanted, side_info)
    found = decode_delta(data, side_info, values=values, max_entries=1)
    assert_same_delta(found, wanted)


def structured():
    """Return a network's worth of weights and an update that follows them."""
    spec = ModelSpec(tensors=(TensorSpec(name="w", shape=(100, 200)),), moments=0,
                     units=0)  # fmt: skip
    rng = np.random.default_rng(0)
    alive = rng.random(spec.size) < 0.3
    base = np.where(alive, rng.normal(size=spec.size), 0).astype(np.float32)
    indices = np.flatnonzero(alive & (np.abs(base) > 0.2))
    noise = 0.1 * rng.normal(size=len(indices))
    values = (noise - 0.3 * np.sign(base[indices])).astype(np.float32)
    delta = SparseDelta(size=spec.size, indices=indices, values=values)
    return spec, base, quantise_delta(delta, spec, "int8")


def test_what_both_ends_hold_makes_the_message_shorter():
    spec, base, delta = structured()
    mask = np.zeros(spec.size, bool)
    mask[delta.indices] = True
    plain = len(encode_delta(delta, SideInformation.of(spec, np.zeros_like(base))))
    context = len(encode_delta(delta, SideInformation.of(spec, base)))
    known_positions = len(
        encode_delta(delta, SideInformation.of(spec, base, mask=mask))
    )
    assert context < 0.8 * plain
    assert known_positions < context


def test_the_shrink_of_the_sparsifier_is_predicted():
    spec = ModelSpec(tensors=(TensorSpec(name="w", shape=(100, 200)),), moments=0,
                     units=0)  # fmt: skip
    rng = np.random.default_rng(0)
    base = rng.normal(size=(100, 200)).astype(np.float32)
    values = 0.01 * rng.normal(size=base.shape) - 0.3 * np.sign(base)
    # Rows of many scales: the same shrink is another level in each of them.
    values[:, 0] = np.exp(rng.uniform(0, 3, size=100))
    delta = SparseDelta(
        size=spec.size,
        indices=np.arange(spec.size),
        values=values.reshape(-1).astype(np.float32),
    )
    side_info = SideInformation.of(spec, base.reshape(-1))
    header = read_fields(
        encode_delta(quantise_delta(delta, spec, "int8"), side_info)
    ).header
    assert header.shrink == pytest.approx(0.3, rel=0.05)


def test_unrelated_weights_are_not_used():
    spec, base, delta = structured()
    other = np.random.default_rng(1).permutation(base)
    header = read_fields(encode_delta(delta, SideInformation.of(spec, other))).header
    assert not header.flags.base
    assert not header.shrink


def test_random_positions_cost_little_more_than_their_entropy():
    size = 200_000
    spec = ModelSpec(tensors=(TensorSpec(name="w", shape=(100, 2000)),), moments=0,
                     units=0)  # fmt: skip
    rng = np.random.default_rng(0)
    for density in (0.01, 0.05, 0.3):
        mask = rng.random(size) < density
        share = mask.mean()
        entropy = -share * np.log2(share) - (1 - share) * np.log2(1 - share)
        delta = quantise_delta(
            SparseDelta(
                size=size,
                indices=np.flatnonzero(mask),
                values=np.ones(mask.sum(), np.float32),
            ),
            spec,
            "step",
        )
        data = encode_delta(delta, SideInformation.of(spec, np.zeros(size, np.float32)))
        signs = mask.sum() / 8
        assert len(data) <= 1.02 * (entropy * size / 8 + signs) + 200


def test_the_parts_of_a_delta_sum_to_its_length():
    data = encode_delta(quantise_delta(sparse_delta(6), SPEC, "int8"), KNOWN)
    parts = delta_parts(data)
    assert sum(parts.values()) == len(data)
    assert parts["header"] <= 30


def test_a_delta_of_another_network_is_not_encoded():
    delta = quantise_delta(sparse_delta(6), SPEC, "int8")
    side_info = SideInformation(layout=Layout(SPEC), base=BASE[:3])
    with pytest.raises(DataError, match=f"a base of 3 entries; want {SPEC.size}"):
        encode_delta(delta, side_info)


def test_entries_outside_the_agreed_mask_are_not_encoded():
    delta = quantise_delta(sparse_delta(6), SPEC, "int8")
    side_info = SideInformation.of(SPEC, BASE, mask=np.zeros(SPEC.size, bool))
    with pytest.raises(DataError, match="outside the agreed mask"):
        encode_delta(delta, side_info)


def test_more_entries_than_allowed_are_refused():
    data = encode_delta(quantise_delta(sparse_delta(6), SPEC, "int8"), KNOWN)
    with pytest.raises(PayloadError, match=r"delta.count.*6; want 0..5"):
        decode_delta(data, KNOWN, values="int8", max_entries=5)


def test_another_kind_of_value_is_refused():
    data = encode_delta(quantise_delta(sparse_delta(6), SPEC, "int8"), KNOWN)
    with pytest.raises(PayloadError) as caught:
        decode_delta(data, KNOWN, values="float32", max_entries=6)
    assert caught.value.field == "delta.values"
