"""Hostile arguments of the kernels: refused before any memory is touched."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fedprune.common import codec, native
from fedprune.common.codec.delta.quantise import VALUES
from fedprune.common.codec.layout import Layout
from fedprune.common.messages import SparseDelta
from fedprune.common.native import Pool, RunModel, choice, library
from fedprune.common.spec import ModelSpec, TensorSpec

KERNELS, WHY = choice.load(choice.LIBRARY)
pytestmark = pytest.mark.skipif(KERNELS is None, reason=WHY)

SPEC = ModelSpec(
    tensors=(TensorSpec(name="w", shape=(4, 3, 2)), TensorSpec(name="b", shape=(4,))),
    moments=0,
    units=0,
)
LAYOUT = Layout(SPEC)
BITS = RunModel(symbols=2, sizes=(3,), root=1 << 20, lanes=8)
ZEROS = np.zeros(8, dtype=np.uint8)


def pool(**changed):
    """Return six candidates in two rows."""
    fields = {
        "bounds": np.array([0, 2, 6]),
        "energy": np.float32([1, 2, 3, 4, 5, 6]),
        "columns": np.uint32([0, 1, 2, 0, 1, 2]),
        "chosen": np.zeros(6, dtype=np.uint8),
        "scores": np.zeros(6, dtype=np.float32),
    }
    return Pool(**fields | changed)


def step(candidates, count=3):
    two, three = np.zeros(2, dtype=np.float32), np.zeros(3, dtype=np.float32)
    return KERNELS.rate_step(candidates, two, three, 1.0, count)


def test_a_step_chooses_the_most_energy():
    candidates = pool()
    changed, (rows, columns) = step(candidates)
    assert candidates.chosen.tolist() == [0, 0, 0, 1, 1, 1]
    assert (changed, rows.tolist(), columns.tolist()) == (3, [0, 3], [1, 1, 1])


@pytest.mark.parametrize(
    "changed",
    [
        {"columns": np.uint32([0, 1, 3, 0, 1, 2])},
        {"columns": np.uint32([0, 1, 2, 0, 1, 2**32 - 1])},
        {"columns": np.zeros(5, dtype=np.uint32)},
        {"bounds": np.array([0, 7, 6])},
        {"bounds": np.array([0, -1, 6])},
        {"bounds": np.array([1, 2, 6])},
        {"bounds": np.array([0, 2, 7])},
        {"bounds": np.array([0, 6])},
        {"chosen": np.zeros(5, dtype=np.uint8)},
    ],
)
def test_candidates_that_contradict_each_other(changed):
    with pytest.raises(IndexError):
        step(pool(**changed))


@pytest.mark.parametrize("count", [-1, 0, 7, 2**40])
def test_counts_of_candidates_that_are_not_there(count):
    with pytest.raises(IndexError):
        step(pool(), count)


def spread(values, bounds, chosen):
    """Spread rows of two and one positions."""
    given = np.asarray(chosen, dtype=bool)
    return KERNELS.spread_rows(values, np.array(bounds), given, ~given)


@pytest.mark.parametrize("size", [0, 1, 3])
def test_values_that_do_not_fill_the_rows(size):
    with pytest.raises(IndexError):
        spread(ZEROS[:size], [0, 2, 3], [True, False])
    assert spread(ZEROS[:2], [0, 2, 3], [True, False]).tolist() == [0, 0, 1]


@pytest.mark.parametrize("bounds", [[0, 9, 8], [0, -1, 8], [2, 4, 8]])
def test_bounds_that_do_not_rise_from_0(bounds):
    with pytest.raises(IndexError):
        spread(ZEROS, bounds, [True, True])
    with pytest.raises(IndexError):
        KERNELS.gather_rows(ZEROS, np.array(bounds), np.ones(2, dtype=bool))
    with pytest.raises(IndexError):
        KERNELS.float_classes(ZEROS.astype(np.float32), np.array(bounds), 21, 32, 9)


@pytest.mark.parametrize("bounds", [[0, 4, 9], [0, 4, 7], [0, 8]])
def test_bounds_of_other_values(bounds):
    with pytest.raises(IndexError):
        KERNELS.gather_rows(ZEROS, np.array(bounds), np.ones(2, dtype=bool))


def test_layouts_of_other_networks():
    rows, columns = len(LAYOUT.lengths), len(LAYOUT.column_lengths)
    of_rows, of_columns = ZEROS[:rows], ZEROS[:columns]
    table = LAYOUT.table
    assert len(KERNELS.scores(table, of_rows, of_columns, SPEC.size)) == SPEC.size
    for one, other, size in (
        (of_rows[:-1], of_columns, SPEC.size),
        (of_rows, of_columns[:-1], SPEC.size),
        (of_rows, of_columns, SPEC.size - 1),
    ):
        with pytest.raises(IndexError):
            KERNELS.scores(table, one, other, size)
    with pytest.raises(IndexError):
        KERNELS.scores(table[:, :4], of_rows, of_columns, SPEC.size)
    with pytest.raises(IndexError):
        KERNELS.column_counts(table, np.arange(3), columns - 1)


@pytest.mark.parametrize("positions", [[-1], [0, SPEC.size], [2**40], [7, 0]])
def test_positions_that_are_not_those_of_a_network(positions):
    places = np.array(positions)
    for kernel in (
        lambda: KERNELS.column_counts(LAYOUT.table, places, 4),
        lambda: KERNELS.columns(LAYOUT.table, places),
    ):
        with pytest.raises(IndexError):
            kernel()


def test_streams_that_are_not_those_of_the_model():
    states, words = np.full(8, 1 << 16, dtype=np.uint32), np.zeros(4, dtype=np.uint16)
    for model, taken in (
        (RunModel(symbols=2, sizes=(3,), root=1, lanes=9), 0),
        (BITS, -1),
        (BITS, 5),
        (RunModel(symbols=2, sizes=(3, 3), root=1, lanes=8), 0),
        (RunModel(symbols=2, sizes=(1 << 40,), root=1, lanes=8), 0),
        (RunModel(symbols=257, sizes=(3,), root=-1, lanes=8), 0),
    ):
        with pytest.raises(IndexError):
            KERNELS.pop_run(model, (ZEROS,), states, words, taken)


def test_contexts_beyond_a_part_are_refused():
    parts = (np.uint8([0, 3]), np.uint8([0, 0]))
    for shape in ((2, 3, 9), (2, 1, 255)):
        with pytest.raises(IndexError):
            KERNELS.tally(shape, parts, ZEROS[:2])
    with pytest.raises(IndexError):
        KERNELS.tally((2, 4), parts, ZEROS[:2])


@pytest.mark.parametrize("count", [-1, 3, 2**40])
def test_more_magnitudes_than_there_are(count):
    with pytest.raises((IndexError, ValueError, MemoryError)):
        KERNELS.largest(np.float32([1, 2]), count)


def test_numbers_without_a_logarithm():
    for numbers in ([0], [-5], [2**55 + 1]):
        with pytest.raises(IndexError):
            KERNELS.log2_steps(np.array(numbers), 4)
    for counts, lengths in (([-1], [3]), ([4], [3]), ([1], [2**60])):
        with pytest.raises(IndexError):
            KERNELS.density_classes(np.array(counts), np.array(lengths), 1)


def test_arrays_of_another_type_are_refused_where_values_could_be_lost():
    doubles, wide = np.ones(8), np.zeros(8, dtype=np.int64)
    total = np.zeros(8, dtype=np.int64)
    for kernel in (
        lambda: KERNELS.largest(doubles, 2),
        lambda: KERNELS.add_dense(total, doubles, 1.0, 9.0),
        lambda: KERNELS.add_sparse(total, doubles, np.ones(8, np.float32), 1.0),
        lambda: KERNELS.pairs(BITS, (wide,), ZEROS),
        lambda: KERNELS.pairs(BITS, (ZEROS,), wide),
        lambda: KERNELS.positions(ZEROS),
        lambda: step(pool(energy=np.ones(6))),
    ):
        with pytest.raises(TypeError):
            kernel()
    assert not total.any()


def test_arrays_that_are_not_contiguous_are_read_as_they_are():
    every = np.arange(48, dtype=np.float32) * np.float32([1, -1] * 24)
    swapped = every.astype(">f4")
    unaligned = np.frombuffer(b"\0" + every.tobytes(), dtype=np.float32, offset=1)
    for values in (every[::3], every[::-1], swapped, unaligned):
        positions, found = KERNELS.largest(values, 5)
        wanted = np.sort(np.argsort(-np.abs(values), kind="stable")[:5])
        assert positions.tolist() == wanted.tolist()
        assert found.tolist() == values[wanted].tolist()
    narrow = np.array([1, 3, 5], dtype=np.int16)
    total = np.zeros(6, dtype=np.int64)
    KERNELS.add_sparse(total, narrow, every[1:6:2], 1.0)
    assert total.tolist() == [0, -1, 0, -3, 0, -5]


def test_arrays_that_cannot_be_written_are_refused():
    sealed = np.zeros(4, dtype=np.int64)
    sealed.flags.writeable = False
    ones = np.ones(4, dtype=np.float32)
    for total in (
        sealed,
        np.zeros(8, dtype=np.int64)[::2],
        np.zeros(4, dtype=np.int32),
    ):
        with pytest.raises(TypeError):
            KERNELS.add_dense(total, ones, 1.0, 9.0)
        with pytest.raises(TypeError):
            KERNELS.add_sparse(total, np.arange(4), ones, 1.0)
        assert not total.any()
    states = np.full(16, 1 << 16, dtype=np.uint32)[::2]
    pairs = KERNELS.pairs(BITS, (ZEROS,), ZEROS)
    with pytest.raises(TypeError):
        KERNELS.push_run(pairs, 15, states)
    assert (states == 1 << 16).all()


def test_a_library_of_other_sources_is_refused(monkeypatch):
    monkeypatch.setattr(library, "INTERFACE", 77)
    found, reason = choice.load(choice.LIBRARY)
    assert found is None
    assert "other sources" in reason


@pytest.mark.parametrize("values", VALUES)
def test_threads_give_what_one_gives(values, monkeypatch):
    monkeypatch.setattr(native, "kernels", lambda: KERNELS)
    spec = ModelSpec(
        tensors=(TensorSpec(name="w", shape=(60, 50)),), moments=0, units=0
    )
    rng = np.random.default_rng(3)
    base = rng.normal(size=spec.size).astype(np.float32)

    def encode(seed):
        draw = np.random.default_rng(seed)
        indices = np.flatnonzero(draw.random(spec.size) < 0.2)
        sent = draw.normal(size=len(indices)).astype(np.float32)
        delta = SparseDelta(size=spec.size, indices=indices, values=sent)
        side_info = codec.SideInformation.of(spec, base)
        quantised = codec.quantise_delta(delta, spec, values)
        return codec.encode_delta(quantised, side_info)

    alone = [encode(seed) for seed in range(12)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(encode, range(12))) == alone
