"""Sums of updates: any order and any tree, the same bits, within proven bounds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprune.common.aggregate import Accumulator, Limits
from fedprune.common.errors import PayloadError
from fedprune.common.messages import SparseDelta

SIZE = 12
LIMITS = Limits(clients=8, max_examples=1000)


def sparse(dense):
    indices = np.flatnonzero(dense)
    values = np.asarray(dense, dtype=np.float32)[indices]
    return SparseDelta(size=len(dense), indices=indices, values=values)


def make_update(seed):
    rng = np.random.default_rng(seed)
    dense = np.where(rng.random(SIZE) < 0.6, rng.normal(size=SIZE), 0.0)
    return sparse(dense), int(rng.integers(1, 1001))


def accumulate(updates):
    total = Accumulator(SIZE, LIMITS)
    for delta, num_examples in updates:
        total.add(delta, num_examples)
    return total


def bits(total):
    return (
        total.delta_sum.tobytes(),
        (total.num_examples, total.num_clients),
        total.mean_delta().tobytes(),
    )


@given(
    seeds=st.lists(st.integers(0, 10_000), min_size=1, max_size=8),
    random=st.randoms(use_true_random=False),
)
def test_any_order_and_any_tree_of_sums_gives_the_same_bits(seeds, random):
    updates = [make_update(seed) for seed in seeds]
    straight = accumulate(updates)
    random.shuffle(updates)
    trees = [accumulate([update]) for update in updates]
    while len(trees) > 1:
        one = trees.pop(random.randrange(len(trees)))
        trees[random.randrange(len(trees))].merge(one)
    assert bits(trees[0]) == bits(straight)


@given(seeds=st.lists(st.integers(0, 10_000), min_size=1, max_size=8))
def test_the_mean_is_the_weighted_mean_in_float64(seeds):
    updates = [make_update(seed) for seed in seeds]
    total, weight = np.zeros(SIZE), 0
    for delta, num_examples in updates:
        total[delta.indices] += num_examples * delta.values.astype(np.float64)
        weight += num_examples
    mean = total / weight
    found = accumulate(updates).mean_delta()
    # Half a step of the grid from each client, and float32's own rounding.
    np.testing.assert_array_less(
        np.abs(found - mean), 2.0**-25 + np.abs(mean) * 2.0**-24 + 1e-12
    )


@pytest.mark.parametrize(
    ("delta", "num_examples", "field"),
    [
        (sparse([2e4] + [0.0] * (SIZE - 1)), 1, "delta"),
        (sparse([float("nan")] + [0.0] * (SIZE - 1)), 1, "delta"),
        (sparse([0.0] * (SIZE - 1) + [float("nan")]), 1, "delta"),
        (sparse([0.0] * (SIZE - 1) + [float("-inf")]), 1, "delta"),
        (sparse([float("-inf")] + [0.0] * (SIZE - 1)), 1, "delta"),
        (sparse([1.0] * (SIZE + 1)), 1, "delta"),
        (sparse([1.0] * SIZE), 0, "num_examples"),
        (sparse([1.0] * SIZE), 1001, "num_examples"),
    ],
)
def test_what_could_overflow_is_refused_and_nothing_is_added(
    delta, num_examples, field
):
    total = accumulate([make_update(1)])
    before = bits(total)
    with pytest.raises(PayloadError) as caught:
        total.add(delta, num_examples)
    assert caught.value.field == field
    assert bits(total) == before


@pytest.mark.parametrize(
    "limits",
    [
        Limits(clients=1, max_examples=1),
        Limits(clients=10, max_examples=100_000),
        Limits(clients=1000, max_examples=100_000),
        Limits(clients=100_000, max_examples=10_000_000),
    ],
)
def test_the_largest_accepted_updates_of_all_clients_stay_inside_int64(limits):
    total = Accumulator(1, limits)
    # The float32 above the bound is refused, the one below is the worst accepted.
    value = np.float32(limits.max_value)
    if value > limits.max_value:
        value = np.nextafter(value, np.float32(0))
    delta = SparseDelta(size=1, indices=np.array([0]), values=np.float32([value]))
    total.add(delta, limits.max_examples)
    assert 0 < int(total.delta_sum[0]) * limits.clients < 2**63


@pytest.mark.parametrize("size", [SIZE, 0], ids=["same network", "no network"])
def test_merging_an_empty_sum_changes_nothing(size):
    total = accumulate([make_update(1), make_update(2)])
    before = bits(total)
    total.merge(Accumulator(size, LIMITS))
    assert bits(total) == before


def test_without_an_answer_the_mean_is_zero():
    total = Accumulator(SIZE, LIMITS)
    assert not total.mean_delta().any()
