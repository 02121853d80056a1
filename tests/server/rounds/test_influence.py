"""Bounds on the influence of one client: weights, lengths, moments, losses."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprune.common.errors import PayloadError, Reason
from fedprune.common.messages import SparseDelta, Statistics
from fedprune.server.rounds.influence import (
    ReportedLoss,
    averaged_running,
    bounded,
    check_moments,
    clip_factor,
    clipped_records,
    delta_norm,
    median_norm,
    pooled_moments,
    scaled_delta,
    weight_caps,
)
from fedprune.server.rounds.records import ClientRecord, Status

MOMENTS = 3


def record(client_id, weight, mean, variance, norm=0.0, running=()):
    return ClientRecord(
        client_id=client_id,
        status=Status.ACCEPTED,
        num_examples=weight,
        norm=norm,
        statistics=Statistics(
            num_examples=7,
            mean=np.float32(mean),
            variance=np.float32(variance),
            running=np.float32(running),
        ),
    )


def test_a_weight_goes_up_to_the_enrolment_and_that_up_to_what_is_usual():
    enrolled = {"a": 10, "b": 20, "c": 30, "liar": 100_000}
    assert weight_caps(enrolled, list(enrolled), 2.0, 10**6) == {
        "a": 10,
        "b": 20,
        "c": 30,
        "liar": 40,  # twice the lower median, 20
    }


def test_what_is_usual_is_that_of_the_cohort_alone():
    enrolled = {"a": 10, "b": 10, "big": 100, "bigger": 100}
    assert weight_caps(enrolled, ["big", "bigger"], 2.0, 10**6) == {
        "big": 100,
        "bigger": 100,
    }


@pytest.mark.parametrize(
    ("multiple", "most", "wanted"), [(0.0, 1000, 500), (0.0, 100, 100), (2.0, 100, 20)]
)
def test_without_a_multiple_the_enrolment_and_the_limit_bound_a_weight(
    multiple, most, wanted
):
    enrolled = {"a": 10, "b": 10, "c": 500}
    assert weight_caps(enrolled, list(enrolled), multiple, most)["c"] == wanted


def test_a_client_that_enrolled_with_nothing_has_the_least_weight():
    assert weight_caps({"a": 0, "b": 9}, ["a", "b"], 2.0, 100)["a"] == 1


def delta_of(*values):
    found = np.float32(values)
    return SparseDelta(size=9, indices=np.arange(len(found)), values=found)


def clipped(delta, longest):
    factor = clip_factor(delta_norm(delta), longest)
    return scaled_delta(delta, factor), factor


def test_a_long_delta_is_shortened_and_keeps_its_direction():
    found, factor = clipped(delta_of(3.0, -4.0), 2.5)
    assert factor == 0.5
    np.testing.assert_array_equal(found.values, np.float32([1.5, -2.0]))
    np.testing.assert_array_equal(found.indices, [0, 1])


@pytest.mark.parametrize("count", [0, 1, (1 << 18) - 1, 1 << 18, 600_000])
def test_the_norm_of_a_delta_of_any_length_is_that_of_numpy(count):
    values = np.random.default_rng(3).normal(size=count).astype(np.float32)
    delta = SparseDelta(size=count, indices=np.arange(count), values=values)
    wanted = np.sqrt(np.sum(np.square(values, dtype=np.float64)))
    assert delta_norm(delta) == pytest.approx(wanted, rel=1e-14)


@pytest.mark.parametrize(
    "longest", [5.0, 6.0, np.inf], ids=["equal", "longer", "unknown"]
)
def test_a_short_delta_stays_bit_for_bit(longest):
    delta = delta_of(3.0, -4.0)
    found, factor = clipped(delta, longest)
    assert factor == 1.0
    assert found is delta


@given(
    values=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=8),
    longest=st.floats(1e-3, 1e4),
)
def test_no_delta_is_longer_than_the_longest(values, longest):
    found, factor = clipped(delta_of(*values), longest)
    assert delta_norm(found) <= longest * (1 + 1e-6)
    assert 0.0 < factor <= 1.0


def test_where_no_other_client_sends_anything_nothing_is_added():
    found, factor = clipped(delta_of(3.0, -4.0), 0.0)
    assert factor == 0.0
    np.testing.assert_array_equal(found.values, np.float32([0.0, 0.0]))


def test_of_two_answers_the_smaller_says_what_is_usual():
    short, long = (
        record(name, 1, [0], [1], norm=n) for name, n in (("a", 1), ("b", 9))
    )
    found = clipped_records([short, long], 2.0)
    assert [one.factor for one in found] == [1.0, 2 / 9]
    assert weight_caps({"a": 5, "b": 900}, ["a", "b"], 2.0, 10**6) == {"a": 5, "b": 10}


def test_only_accepted_answers_say_what_is_usual():
    late = replace(record("z", 1, [0], [1], norm=99), status=Status.REFUSED)
    found = clipped_records([record("a", 1, [0], [1], norm=2.0), late], 1.0)
    assert found[0].factor == 1.0


def test_the_usual_length_does_not_follow_one_client():
    norms = [1.0, 1.1, 0.9, 1e9]
    records = [record(str(i), 1, [0], [1], norm=n) for i, n in enumerate(norms)]
    assert median_norm(records) == 1.0
    assert median_norm([]) == 0.0


@given(
    seed=st.integers(0, 10_000),
    counts=st.lists(st.integers(2, 60), min_size=1, max_size=5),
)
def test_without_a_bound_pooled_moments_are_those_of_all_examples(seed, counts):
    rng = np.random.default_rng(seed)
    # Means that differ far more than the spread inside a client.
    parts = [
        rng.normal(rng.normal(scale=10, size=MOMENTS), 0.5, size=(count, MOMENTS))
        for count in counts
    ]
    records = [
        record(f"{i}", len(part), part.mean(axis=0), part.var(axis=0))
        for i, part in enumerate(parts)
    ]
    together = np.concatenate(parts)
    pooled = pooled_moments(records, 0.0)
    assert pooled is not None
    assert pooled.num_examples == len(together)
    np.testing.assert_allclose(pooled.mean, together.mean(axis=0), rtol=1e-5, atol=1e-5)
    variance = together.var(axis=0)
    np.testing.assert_allclose(pooled.variance, variance, rtol=1e-4, atol=1e-4)


def test_an_average_of_variances_would_have_lost_the_spread_of_the_means():
    records = [record("a", 5, [-3.0], [1.0]), record("b", 5, [3.0], [1.0])]
    pooled = pooled_moments(records, 0.0)
    assert (pooled.mean[0], pooled.variance[0]) == (0.0, 10.0)


def test_moments_weigh_as_much_as_deltas_do():
    records = [record("a", 30, [1.0], [1.0]), record("b", 10, [-1.0], [1.0])]
    pooled = pooled_moments(records, 0.0)
    assert pooled.mean[0] == 0.5
    assert pooled.num_examples == 40


def trained(client_id, weight, *running):
    """Return the record of a client of a network without batch norm."""
    return record(client_id, weight, [], [], running=running)


def test_running_values_weigh_as_much_as_deltas_do():
    records = [trained("a", 30, 1.0, 7.0), trained("b", 10, -1.0, 7.0)]
    np.testing.assert_array_equal(averaged_running(records, 3.0), [0.5, 7.0])
    assert averaged_running(records, 3.0).dtype == np.float32


def test_a_false_running_value_counts_as_much_as_honest_ones_spread():
    honest = [trained(f"{i}", 10, value) for i, value in enumerate([1.0, 1.1, 0.9])]
    false = [*honest, trained("liar", 10, 1e30)]
    assert averaged_running(false, 3.0)[0] < 1.3
    assert averaged_running(false, 0.0)[0] > 1e29


def test_what_is_not_reported_is_neither_pooled_nor_averaged():
    running, moments = trained("a", 5, 2.0), record("b", 5, [1.0], [1.0])
    assert averaged_running([running, moments], 3.0) == [2.0]
    assert pooled_moments([running, moments], 3.0).num_examples == 5
    assert averaged_running([moments], 3.0) is None
    assert pooled_moments([running], 3.0) is None


@given(random=st.randoms(use_true_random=False), seed=st.integers(0, 1000))
def test_the_order_of_answers_does_not_change_a_bit_of_running_values(random, seed):
    rng = np.random.default_rng(seed)
    records = [
        trained(f"{i}", int(rng.integers(1, 9)), *rng.normal(size=3)) for i in range(6)
    ]
    before = averaged_running(records, 2.0)
    random.shuffle(records)
    assert averaged_running(records, 2.0).tobytes() == before.tobytes()


@given(random=st.randoms(use_true_random=False), seed=st.integers(0, 1000))
def test_the_order_of_answers_does_not_change_a_bit_of_the_moments(random, seed):
    rng = np.random.default_rng(seed)
    records = [
        record(f"{i}", int(rng.integers(1, 9)), rng.normal(size=3), rng.random(3))
        for i in range(6)
    ]
    before = pooled_moments(records, 2.0)
    random.shuffle(records)
    after = pooled_moments(records, 2.0)
    assert before.mean.tobytes() == after.mean.tobytes()
    assert before.variance.tobytes() == after.variance.tobytes()


LIES = {
    "a far mean": (50.0, 1.0),
    "a far mean of little spread": (50.0, 1e-3),
    "a wide spread": (0.0, 6e4),
    "no spread": (0.0, 0.0),
}


@pytest.mark.parametrize(("mean", "variance"), LIES.values(), ids=LIES)
def test_one_liar_of_ten_moves_the_moments_little(mean, variance):
    honest = [record(f"{i}", 10, [0.1 * i - 0.4], [1.0]) for i in range(9)]
    liar = record("liar", 10, [mean], [variance])
    true, pooled = (pooled_moments(r, 2.0) for r in (honest, [*honest, liar]))
    assert abs(pooled.mean[0] - true.mean[0]) < 0.25
    assert 0.85 < pooled.variance[0] / true.variance[0] < 1.6


def test_honest_clients_of_different_data_are_not_moved():
    means = [-1.5, -1.0, -0.5, 0.0, 0.0, 0.5, 1.0, 1.5]
    records = [record(f"{i}", 10, [m], [0.5]) for i, m in enumerate(means)]
    free, held = pooled_moments(records, 0.0), pooled_moments(records, 2.0)
    np.testing.assert_array_equal(held.mean, free.mean)
    np.testing.assert_array_equal(held.variance, free.variance)


def test_without_moments_there_is_nothing_to_pool():
    assert pooled_moments([], 2.0) is None
    assert pooled_moments([ClientRecord(client_id="a", status=Status.ACCEPTED)], 2) is (
        None
    )


@pytest.mark.parametrize(
    ("mean", "variance"),
    [(5000.0, 1.0), (-5000.0, 1.0), (0.0, 1e9), (float("nan"), 1.0)],
)
def test_impossible_moments_are_refused(mean, variance):
    bad = Statistics(
        num_examples=10,
        mean=np.float32([0.0, mean, 0.0]),
        variance=np.float32([1.0, variance, 1.0]),
    )
    with pytest.raises(PayloadError) as caught:
        check_moments(bad)
    assert (caught.value.field, caught.value.reason) == ("statistics", Reason.BAD_VALUE)


def claim(loss, count=10):
    return ReportedLoss(loss=loss, metric=0.5, count=count)


@pytest.mark.parametrize("lie", [1e300, -1e300])
def test_a_lie_about_the_loss_counts_as_the_worst_that_is_usual(lie):
    found = bounded([claim(1.0), claim(1.2), claim(0.8), claim(lie)], 2.0)
    losses = [one.loss for one in found]
    assert losses[:3] == [1.0, 1.2, 0.8]
    assert -1.4 < losses[3] < 3.5


def test_a_lie_about_the_count_is_cut_to_twice_the_median():
    found = bounded([claim(1.0), claim(1.0), claim(1.0, 10**6)], 2.0)
    assert [one.count for one in found] == [10, 10, 20]


def test_bounds_can_be_switched_off():
    claims = [claim(1.0), claim(1e9, 10**6)]
    assert bounded(claims, 0.0) == claims


def rare(count, holders, seed=0):
    """Return each client's inputs: a channel of all, and a category of some."""
    rng = np.random.default_rng(seed)
    parts = []
    for number in range(count):
        part = rng.normal(size=(100, 2)).astype(np.float32)
        part[:, 1] = 0.25 + (rng.random(100) < 0.5) * (number >= count - holders)
        parts.append(part)
    return parts


@pytest.mark.parametrize("holders", [1, 3])
def test_a_category_that_few_clients_have_keeps_its_spread(holders):
    parts = rare(10, holders)
    records = [
        record(f"{i}", 100, part.mean(axis=0), part.var(axis=0))
        for i, part in enumerate(parts)
    ]
    pooled, together = pooled_moments(records, 3.0), np.concatenate(parts)
    assert pooled.variance[1] == pytest.approx(together[:, 1].var(), rel=1e-3)
    assert pooled.mean[1] == pytest.approx(together[:, 1].mean(), rel=1e-3)


@pytest.mark.parametrize("mean", [-4096.0, 3.0, 4096.0])
@pytest.mark.parametrize("variance", [0.0, 6e4])
def test_a_liar_moves_a_constant_of_the_others_by_less_than_its_spread(mean, variance):
    honest = [record(f"{i}", 10, [0.5], [0.0]) for i in range(9)]
    pooled = pooled_moments([*honest, record("liar", 10, [mean], [variance])], 3.0)
    shift = (0.5 - pooled.mean[0]) / np.sqrt(pooled.variance[0])
    assert abs(shift) <= np.sqrt(0.1 / 0.9) * (1 + 1e-5)


def test_constants_that_differ_between_clients_are_clipped():
    honest = [record(f"{i}", 10, [0.1 * i], [0.0]) for i in range(9)]
    false = [*honest, record("liar", 10, [4096.0], [6e4])]
    assert pooled_moments(false, 3.0).variance[0] < 1.0
