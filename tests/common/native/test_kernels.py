"""The kernels against numpy: equal arguments, equal bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprune.common import codec, native
from fedprune.common.aggregate import Accumulator, Limits
from fedprune.common.codec.delta.choose import entropy
from fedprune.common.codec.delta.positions import scores_of
from fedprune.common.codec.entropy.coder import Encoder, close_stream, open_stream
from fedprune.common.codec.entropy.contexts import (
    density_classes,
    float_classes,
    log2_steps,
)
from fedprune.common.codec.entropy.models import Model, bit_model, tally
from fedprune.common.codec.layout import Layout, positions_of
from fedprune.common.errors import PayloadError
from fedprune.common.messages import SparseDelta
from fedprune.common.methods.choice import largest, rate
from fedprune.common.native import choice
from fedprune.common.spec import ModelSpec, TensorSpec
from fedprune.simulations.benchmarks.kit.codec.drawn import (
    draw_base,
    draw_delta,
    draw_spec,
)

KERNELS, WHY = choice.load(choice.LIBRARY)
pytestmark = pytest.mark.skipif(KERNELS is None, reason=WHY)
SEEDS = st.integers(0, 2**32 - 1)


def both(work):
    """Return what numpy and the kernels make of the same work."""
    found = []
    for kernels in (None, KERNELS):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(native, "kernels", lambda kernels=kernels: kernels)
            found.append(work())
    return found


def assert_equal(work):
    numpy, kernels = both(work)
    assert len(numpy) == len(kernels)
    for one, other in zip(numpy, kernels, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@given(SEEDS)
def test_a_stream_of_symbols(seed):
    rng = np.random.default_rng(seed)
    lanes = int(rng.integers(1, 70))
    runs = []
    for _ in range(rng.integers(1, 4)):
        count = int(rng.integers(0, 5000))
        sizes = tuple(int(n) for n in rng.integers(1, 9, size=rng.integers(1, 4)))
        width = int(rng.integers(2, 65))
        model = Model(width, sizes)
        if rng.random() < 0.5:
            model, width = bit_model(sizes, (int(rng.integers(0, 9)), 9)), 2
        parts = [rng.integers(0, size, count).astype(np.uint8) for size in sizes]
        if sizes[0] == 1 and len(sizes) > 1:
            parts[0] = None
        skewed = np.minimum(
            rng.geometric(rng.uniform(0.05, 0.99), count) - 1, width - 1
        )
        runs.append((model, parts, skewed.astype(np.uint8)))
    raw = rng.integers(0, 2**16, lanes).astype(np.uint16)

    def work():
        writer = Encoder(lanes)
        for model, parts, symbols in runs:
            writer.code(model, parts, symbols)
        data = close_stream(writer, raw)
        reader = open_stream(data, lanes, "x")
        found = [reader.code(model, parts, None) for model, parts, _ in runs]
        return [np.frombuffer(data, np.uint8), *found, reader.finish()]

    assert_equal(work)


@pytest.mark.slow
@given(SEEDS, st.sampled_from(["int8", "step", "float32"]))
def test_an_update(seed, values):
    rng = np.random.default_rng(seed)
    spec = draw_spec(rng)
    base = draw_base(rng, spec)
    delta = codec.quantise_delta(draw_delta(rng, spec), spec, values)

    def work():
        side_info = codec.SideInformation.of(spec, base)
        data = codec.encode_delta(delta, side_info)
        back = codec.decode_delta(data, side_info, values=values, max_entries=spec.size)
        return [np.frombuffer(data, np.uint8), back.indices, back.values, back.scales]

    assert_equal(work)


@given(SEEDS)
def test_a_damaged_update_is_refused_alike(seed):
    rng = np.random.default_rng(seed)
    spec = draw_spec(rng)
    base = draw_base(rng, spec)
    delta = codec.quantise_delta(draw_delta(rng, spec), spec, "step")
    side_info = codec.SideInformation.of(spec, base)
    data = bytearray(codec.encode_delta(delta, side_info))
    for _ in range(rng.integers(1, 4)):
        data[rng.integers(len(data))] = rng.integers(256)

    def work():
        try:
            back = codec.decode_delta(
                bytes(data), side_info, values="step", max_entries=spec.size
            )
        except PayloadError as error:
            return [np.array([error.reason, error.field])]
        return [back.indices, back.values, back.scales]

    assert_equal(work)


@given(SEEDS)
def test_layout(seed):
    rng = np.random.default_rng(seed)
    spec = draw_spec(rng)
    mask = rng.random(spec.size) < rng.random()
    layout = Layout(spec)
    rows = rng.integers(0, 25, len(layout.lengths)).astype(np.uint8)
    columns = rng.integers(0, 25, len(layout.column_lengths)).astype(np.uint8)
    numbers = rng.integers(1, 2**50, 20)

    def work():
        positions = positions_of(mask)
        return [
            positions,
            layout.column_counts(positions),
            layout.columns_of(positions),
            scores_of(rows, columns, layout),
            scores_of(rows, columns[:0], layout),
            density_classes(layout.row_counts(positions), layout.lengths, 2),
            log2_steps(numbers, 4),
        ]

    assert_equal(work)


@given(SEEDS)
def test_selection(seed):
    rng = np.random.default_rng(seed)
    spec = draw_spec(rng)
    total = (rng.laplace(size=spec.size) * 2.0 ** rng.integers(-40, 30)).astype(
        np.float32
    )
    total[rng.random(spec.size) < 0.3] = rng.choice(np.float32([0.0, -1.0, 1.0]))
    count = int(rng.integers(0, spec.size + 1))
    layout = Layout(spec)

    def work():
        by_rate = rate(total=total, count=count, layout=layout, value_bits=1.0)
        return [*largest(total, count), by_rate]

    assert_equal(work)


@pytest.mark.parametrize("size", [0, 1, 5])
@pytest.mark.parametrize("chosen", [0, 1])
def test_nothing_and_everything_is_selected(size, chosen):
    spec = ModelSpec(tensors=(TensorSpec(name="w", shape=(size,)),), moments=0, units=0)
    total = np.arange(size, dtype=np.float32)
    count = chosen * size

    def work():
        mask = rate(total=total, count=count, layout=Layout(spec), value_bits=1.0)
        return [*largest(total, count), mask]

    assert_equal(work)
    assert work()[2].tolist() == [bool(chosen)] * size


@given(SEEDS)
def test_classes_of_floats(seed):
    rng = np.random.default_rng(seed)
    bounds = np.sort(rng.integers(0, 40_000, 3))
    bounds = np.array([0, *bounds, bounds[-1]])
    values = rng.normal(size=bounds[-1]) * 10.0 ** rng.uniform(-44, 38)
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    values[rng.random(len(values)) < rng.random() / 2] = 0
    values[:2] = [-0.0, np.inf][: len(values)]
    settings = [{"shift": 21, "classes": 32}, {"shift": 22, "classes": 16}]
    assert_equal(lambda: [float_classes(values, bounds, **one) for one in settings])


@given(SEEDS)
def test_counts_and_costs(seed):
    rng = np.random.default_rng(seed)
    parts = (rng.integers(0, 6, 900).astype(np.uint8), None)
    symbols = rng.integers(0, 7, 900).astype(np.uint8)
    model = Model(7, (6, 1))
    assert_equal(
        lambda: [tally(model, parts, symbols), np.array(entropy(model, parts, symbols))]
    )


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 9e3])
def test_sums(share, scale):
    rng = np.random.default_rng(3)
    size = 20_000
    values = (rng.normal(size=size) * scale / 8).astype(np.float32)
    # Halves of the last bit, which go to the even one.
    values[:4] = np.float32([0.5, 1.5, -0.5, -2.5]) / np.float32(2**24)
    chosen = np.flatnonzero(rng.random(size) < share)
    delta = SparseDelta(size=size, indices=chosen, values=values[chosen])

    def work():
        total = Accumulator(size, Limits(clients=3, max_examples=90))
        total.add(delta, 1)
        total.add(delta, 83)
        return [total.delta_sum]

    assert_equal(work)


@pytest.mark.parametrize("place", [0, 1023, 1024, 4999])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1e4, 10.001])
@pytest.mark.parametrize("scale", [2.0**24, 2.0**50])
def test_a_dense_sum_with_a_value_above_the_limit_is_as_it_was(place, value, scale):
    rng = np.random.default_rng(4)
    values = rng.uniform(-10, 10, 5000).astype(np.float32)
    total = rng.integers(-(2**40), 2**40, 5000)
    before = total.copy()
    assert KERNELS.add_dense(total.copy(), values, scale, 10.0) is True
    values[place] = value
    assert KERNELS.add_dense(total, values, scale, 10.0) is False
    assert (total == before).all()


def test_a_refused_dense_delta_is_named_with_and_without_kernels():
    values = np.full(3000, 0.5, dtype=np.float32)
    values[2500] = -2e4
    delta = SparseDelta(size=3000, indices=np.arange(3000), values=values)

    def work():
        total = Accumulator(3000, Limits(clients=3, max_examples=90))
        with pytest.raises(PayloadError, match=r"an entry of 20000\.0; want at most"):
            total.add(delta, 83)
        return [total.delta_sum, np.array(total.num_clients)]

    assert_equal(work)


def test_numbers_out_of_range_are_refused():
    model = native.RunModel(symbols=2, sizes=(3,), root=1 << 20, lanes=8)
    bits = np.zeros(4, dtype=np.uint8)
    with pytest.raises(IndexError):
        KERNELS.pairs(model, (np.uint8([0, 1, 2, 3]),), bits)
    with pytest.raises(IndexError):
        KERNELS.pairs(model, (bits,), bits + 2)
    with pytest.raises(IndexError):
        KERNELS.pairs(model, (bits[:3],), bits)
    total = np.zeros(3, dtype=np.int64)
    with pytest.raises(IndexError):
        KERNELS.add_sparse(total, np.array([0, 3]), np.float32([1, 1]), 1.0)
    assert not total.any()
    with pytest.raises(IndexError):
        KERNELS.add_dense(total, np.float32([1, 1]), 1.0, 9.0)
    with pytest.raises(IndexError):
        KERNELS.largest(np.float32([1, 2]), 3)
