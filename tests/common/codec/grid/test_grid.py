"""Weights on a grid: the rule of steps and levels, and both encodings of them."""

import numpy as np
import pytest
from helpers.codec.examples import BASE, SPEC
from helpers.codec.grid_examples import (
    CHANGE,
    FULL,
    GRID,
    NAME,
    NEXT,
    grids,
    moved,
    specs,
)
from helpers.codec.grid_golden import MESSAGES, inputs
from helpers.codec.slow_grid import SlowGrid
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprune.common import codec
from fedprune.common.codec.grid.quantise import (
    CODES,
    STEPS,
    TOP,
    empty_grid,
    rescaled,
    tidy,
)
from fedprune.common.errors import ConfigError, DataError, PayloadError
from fedprune.common.messages import GridWeights
from fedprune.common.spec import ModelSpec, TensorSpec

ROWS = ModelSpec(
    tensors=(
        TensorSpec(name="w", shape=(3, 4)),
        TensorSpec(name="b", shape=(2,)),
    ),
    moments=0,
    units=0,
)


def same(one: GridWeights, other: GridWeights) -> bool:
    return one.name == other.name and one.levels.dtype == other.levels.dtype


def rows(*values) -> np.ndarray:
    return np.concatenate([np.float32(row) for row in values])


FIRST = rows([1, -2, 0.5, 0], [0, 0, 0, 0], [127, 1, -1, 0.25], [1, -3])


def test_fresh_steps_are_powers_of_two_that_leave_127_and_1023_levels():
    grid = codec.on_grid(FIRST, ROWS, None)
    assert STEPS[grid.codes].tolist() == [2**-5, 0, 1, 2**-8]
    assert grid.levels[:12].tolist() == [32, -64, 16, 0, 0, 0, 0, 0, 127, 1, -1, 0]
    assert grid.levels[12:].tolist() == [256, -768]
    over = codec.on_grid(np.nextafter(FIRST, np.float32(1e9)), ROWS, None)
    assert STEPS[over.codes[2]] == 2  # 127.00001 is above 127 levels of 1


def test_a_level_stays_while_its_weight_is_within_one_step_of_it():
    before = codec.on_grid(FIRST, ROWS, None)
    step = np.repeat(STEPS[before.codes], ROWS.row_lengths)
    for share, changes in [(0.99, False), (1.01, True)]:
        for sign in (1, -1):
            near = FIRST + np.float32(sign * share) * step
            near[11] = 0.25  # 0.25 steps away from its level of 0 already
            after = codec.on_grid(near, ROWS, before)
            moved_away = after.levels != before.levels
            alive = (before.levels != 0) & (near != 0)
            assert np.all(moved_away[alive] == changes)


def test_a_weight_of_exactly_0_has_level_0_at_once():
    before = codec.on_grid(FIRST, ROWS, None)
    weights = FIRST.copy()
    weights[[9, 10]] = 0  # both within one step of their levels 1 and -1
    after = codec.on_grid(weights, ROWS, before)
    assert after.levels[8:12].tolist() == [127, 0, 0, 0]


@pytest.mark.parametrize(
    ("factor", "octaves"), [(2, 0), (4, 0), (8, 3), (0.5, 0), (0.25, 0), (0.125, -3)]
)
def test_a_step_is_held_while_its_row_moves_by_two_octaves_at_most(factor, octaves):
    before = codec.on_grid(FIRST, ROWS, None)
    after = codec.on_grid(FIRST * np.float32(factor), ROWS, before)
    away = after.codes.astype(int) - before.codes.astype(int)
    assert away.tolist() == [octaves, 0, octaves, octaves]


def test_a_fine_grid_has_steps_of_a_quarter_and_holds_none_that_is_coarser():
    before = codec.on_grid(FIRST, ROWS, None)
    fine = codec.on_grid(FIRST, ROWS, before, fine=True)
    assert (before.codes.astype(int) - fine.codes).tolist() == [2, 0, 2, 2]
    for factor, octaves in [(2, 0), (4, 0), (8, 3), (0.5, -1), (0.25, -2)]:
        after = codec.on_grid(FIRST * np.float32(factor), ROWS, fine, fine=True)
        away = after.codes.astype(int) - fine.codes.astype(int)
        assert away.tolist() == [octaves, 0, octaves, octaves]


def test_a_row_of_zeros_has_no_step_and_chooses_a_fresh_one_afterwards():
    before = codec.on_grid(FIRST, ROWS, None)
    gone = FIRST.copy()
    gone[8:12] = 0
    between = codec.on_grid(gone, ROWS, before)
    assert between.codes[2] == 0
    back = codec.on_grid(FIRST, ROWS, between)
    assert back.codes.tolist() == before.codes.tolist()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), factor=st.sampled_from([1e-9, 1e-3, 1.0, 1e3]))
def test_weights_are_within_half_a_step_at_first_and_one_step_later(seed, factor):
    rng = np.random.default_rng(seed)
    weights = (rng.normal(size=SPEC.size) * factor).astype(np.float32)
    grid = codec.on_grid(weights, SPEC, None)
    step = np.repeat(STEPS[grid.codes], SPEC.row_lengths)
    assert np.all(np.abs(codec.grid_values(grid, SPEC) - weights) <= step / 2)
    weights = weights + (rng.normal(size=SPEC.size) * factor / 20).astype(np.float32)
    later = codec.on_grid(weights, SPEC, grid)
    step = np.repeat(STEPS[later.codes], SPEC.row_lengths)
    assert np.all(np.abs(codec.grid_values(later, SPEC) - weights) <= step)
    again = codec.on_grid(weights, SPEC, later)
    assert same(again, later)


def test_weights_beyond_the_grid_are_refused_by_name_and_tiny_ones_become_0():
    weights = FIRST.copy()
    weights[13] = 1e9
    with pytest.raises(ConfigError, match=r"b holds 1e\+09.*broadcast.values"):
        codec.on_grid(weights, ROWS, None)
    grid = codec.on_grid(FIRST * np.float32(1e-20), ROWS, None)
    assert same(grid, empty_grid(ROWS))


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_what_lies_on_a_grid_lies_exactly_on_its_coarsest(data):
    spec = data.draw(specs())
    grid = data.draw(grids(spec))
    weights = codec.grid_values(grid, spec)
    found = codec.exact_grid(weights, spec)
    assert found is not None
    assert codec.grid_values(found, spec).tobytes() == weights.tobytes()
    filled = grid.codes > 0
    assert np.all(found.codes[filled] >= grid.codes[filled])
    data = codec.encode_weights(weights, spec, "grid")
    assert codec.decode_weights(data, spec).tobytes() == weights.tobytes()


@pytest.mark.parametrize("value", [1 / 3, 1e-20, 2.0**40, 1.0 + 2.0**-20])
def test_weights_on_no_grid_travel_on_a_fresh_one_if_there_is_one(value):
    weights = FIRST.copy()
    weights[0] = value
    if value > 1e9:
        with pytest.raises(ConfigError):
            codec.encode_weights(weights, ROWS, "grid")
        return
    assert codec.exact_grid(weights, ROWS) is None
    fresh = codec.on_grid(weights, ROWS, None)
    data = codec.encode_weights(weights, ROWS, "grid")
    assert same(codec.decode_full(data, ROWS), fresh)


def test_levels_in_other_steps_are_shifted():
    spec = ModelSpec(tensors=(TensorSpec(name="w", shape=(1, 5)),), moments=0, units=0)
    levels = np.array([5, -5, 6, TOP, -1], dtype=np.int16)
    grid = GridWeights(codes=np.array([20], np.uint8), levels=levels)

    def at(code):
        return rescaled(grid, np.array([code], np.uint8), spec).tolist()

    assert at(20) == [5, -5, 6, TOP, -1]
    assert at(19) == [10, -10, 12, TOP, -2]
    assert at(21) == [3, -2, 3, 8192, 0]
    assert at(22) == [1, -1, 2, 4096, 0]
    assert at(37) == at(40) == [0, 0, 0, 0, 0]
    assert at(34) == [0, 0, 0, 1, 0]
    assert at(35) == [0, 0, 0, 0, 0]
    assert at(1) == [TOP, -TOP, TOP, TOP, -TOP]
    assert at(0) == [0, 0, 0, 0, 0]


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_both_encodings_are_read_to_the_same_bits(data):
    spec = data.draw(specs())
    base, grid = data.draw(grids(spec)), data.draw(grids(spec))
    full = codec.encode_full(grid, spec)
    assert same(codec.decode_full(full, spec), grid)
    assert codec.encode_full(grid, spec) == full
    name = codec.BaseName(round=1, name=base.name)
    change = codec.encode_change(grid, spec, name, base)
    assert codec.base_name(change, spec) == name
    assert same(codec.decode_change(change, spec, base, base), grid)


def assert_agrees(grid, data, spec, base=None):
    start = None if base is None else (base.codes, base.levels)
    steps, levels = SlowGrid(data, spec, start).read()
    assert steps == grid.codes.tolist()
    assert levels == grid.levels.tolist()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_second_decoder_agrees(data):
    spec = data.draw(specs())
    base, grid = data.draw(grids(spec)), data.draw(grids(spec))
    assert_agrees(grid, codec.encode_full(grid, spec), spec)
    name = codec.BaseName(round=1, name=base.name)
    assert_agrees(grid, codec.encode_change(grid, spec, name, base), spec, base)


def test_a_second_decoder_agrees_on_every_golden_message():
    for name, (spec, grid, base) in inputs().items():
        assert_agrees(grid, bytes.fromhex(MESSAGES[name]), spec, base)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), share=st.sampled_from([0.0, 0.01, 0.3, 1.0]))
def test_a_change_of_a_few_weights_is_read_to_the_same_bits(seed, share):
    grid = moved(share=share, seed=seed)
    change = codec.encode_change(grid, SPEC, NAME, GRID)
    assert same(codec.decode_change(change, SPEC, GRID, GRID), grid)


def test_a_change_of_nothing_has_no_body():
    change = codec.encode_change(GRID, SPEC, NAME, GRID)
    assert len(change) < 64
    assert same(codec.decode_change(change, SPEC, GRID, GRID), GRID)


def test_a_step_may_change_without_a_level_that_is_told():
    coarse = tidy(GRID.codes, (GRID.levels // 2 * 2).astype(np.int16), SPEC)
    halved = GridWeights(
        codes=np.where(coarse.codes > 0, coarse.codes + 1, 0).astype(np.uint8),
        levels=(coarse.levels // 2).astype(np.int16),
    )
    name = codec.BaseName(round=1, name=coarse.name)
    change = codec.encode_change(halved, SPEC, name, coarse)
    assert same(codec.decode_change(change, SPEC, coarse, coarse), halved)


def test_one_weight_and_no_weight_travel():
    for shape in [(), (1, 1), (0,), (3, 0)]:
        spec = ModelSpec(
            tensors=(TensorSpec(name="w", shape=shape),), moments=0, units=0
        )
        weights = np.full(spec.size, -0.5, np.float32)
        data = codec.encode_weights(weights, spec, "grid")
        assert codec.decode_weights(data, spec).tobytes() == weights.tobytes()


def test_a_change_is_shorter_than_all_and_all_is_shorter_than_8_bits():
    spec = ModelSpec(
        tensors=(
            TensorSpec(name="w", shape=(64, 200)),
            TensorSpec(name="b", shape=(64,)),
        ),
        moments=0,
        units=0,
    )
    weights = np.random.default_rng(0).normal(size=spec.size).astype(np.float32)
    grid = codec.on_grid(weights, spec, None)
    full = codec.encode_full(grid, spec)
    name = codec.BaseName(round=1, name=grid.name)
    after = moved(grid, spec, share=0.05)
    change = codec.encode_change(after, spec, name, grid)
    assert len(change) < len(full) / 5
    assert len(full) < len(codec.encode_weights(weights, spec, "float32")) / 3


def test_what_does_not_belong_together_is_not_encoded():
    other = codec.on_grid(FIRST, ROWS, None)
    with pytest.raises(DataError, match="a grid of 4 rows and 14 levels"):
        codec.encode_full(other, SPEC)
    with pytest.raises(DataError, match="a grid of 4 rows and 14 levels"):
        codec.encode_change(NEXT, SPEC, NAME, other)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_not_put_on_a_grid(bad):
    weights = BASE.copy()
    weights[109] = bad
    with pytest.raises(DataError, match=r"1 weights are not finite.*conv.bias"):
        codec.encode_weights(weights, SPEC, "grid")


def test_a_change_does_not_stand_alone_and_all_is_no_change():
    assert codec.is_grid(CHANGE)
    assert codec.is_grid(FULL)
    assert not codec.is_grid(codec.encode_weights(BASE, SPEC, "float32"))
    assert codec.base_name(FULL, SPEC) is None
    with pytest.raises(PayloadError, match="kind"):
        codec.decode_weights(CHANGE, SPEC)
    with pytest.raises(PayloadError, match="kind"):
        codec.decode_change(FULL, SPEC, GRID, GRID)
    assert len(STEPS) == CODES
