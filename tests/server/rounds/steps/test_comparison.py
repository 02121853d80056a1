"""Two broadcasts compared: differences and standard errors, worked out by hand."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprune.common.messages import Validation
from fedprune.server.rounds.records import (
    ClientRecord,
    Status,
    Validations,
    validations_of,
)
from fedprune.server.rounds.steps.comparison import compare_losses, compare_metrics


def measured(losses, metrics=None, counts=100, first=0):
    """Return validations of clients c0, c1, ..., or from another number on."""
    size = len(losses)
    return Validations(
        clients=tuple(f"c{first + number:02d}" for number in range(size)),
        losses=np.asarray(losses, dtype=np.float64),
        metrics=np.asarray(metrics or [0.5] * size, dtype=np.float64),
        counts=np.broadcast_to(np.int64(counts), size).copy(),
    )


def test_each_client_is_compared_with_itself():
    # The clients differ by 4, their differences by nothing: a certain rise.
    before = measured([1.0, 2.0, 3.0, 4.0, 5.0])
    after = measured([1.5, 2.5, 3.5, 4.5, 5.5])
    found = compare_losses(before, after, 2.0)
    assert (found.before, found.after, found.rise) == (3.0, 3.5, 0.5)
    assert (found.error, found.clients, found.paired) == (0.0, 5, True)


def test_the_error_is_that_of_a_weighted_mean_over_the_clients():
    before = measured([1.0] * 5, counts=(10, 10, 10, 10, 20))
    after = measured([1.0, 1.1, 1.2, 1.3, 1.6], counts=(10, 10, 10, 10, 20))
    found = compare_losses(before, after, 2.0)
    mean = (0.0 + 0.1 + 0.2 + 0.3 + 2 * 0.6) / 6
    squares = sum((d - mean) ** 2 for d in (0.0, 0.1, 0.2, 0.3))
    squares += 4 * (0.6 - mean) ** 2
    assert found.rise == pytest.approx(mean)
    assert found.error == pytest.approx(sqrt(5 / 4 * squares / 36))


def test_equal_clients_have_the_usual_standard_error():
    rises = np.array([0.1, 0.3, 0.2, 0.4, 0.0, 0.2])
    found = compare_losses(measured([1.0] * 6), measured(1.0 + rises), 2.0)
    assert found.error == pytest.approx(rises.std(ddof=1) / sqrt(6))


@pytest.mark.parametrize("clients", [1, 2, 4])
def test_the_examples_own_spread_counts_for_few_clients(clients):
    found = compare_losses(measured([1.0] * clients), measured([2.0] * clients), 2.0)
    assert found.error == pytest.approx(sqrt((1.0 + 4.0) / (100 * clients)))
    shares = compare_metrics(
        measured([1.0] * clients, [0.9] * clients),
        measured([1.0] * clients, [0.8] * clients),
        2.0,
        higher=True,
    )
    assert shares.error == pytest.approx(sqrt((0.09 + 0.16) / (100 * clients)))


def test_the_spread_over_few_clients_counts_where_it_is_larger():
    found = compare_losses(measured([0.1] * 2), measured([0.1, 0.5]), 2.0)
    assert found.error == pytest.approx(0.2)


def test_a_count_weighs_at_most_twice_the_median_one():
    before = measured([1.0] * 5, counts=(10, 10, 10, 10, 10_000))
    after = measured([1.0] * 4 + [2.0], counts=(10, 10, 10, 10, 10_000))
    assert compare_losses(before, after, 2.0).rise == pytest.approx(20 / 60)
    assert compare_losses(before, after, 0.0).rise > 0.99


def test_the_smaller_count_of_the_two_rounds_weighs():
    before = measured([1.0] * 5, counts=(10, 10, 10, 10, 10))
    after = measured([1.0] * 4 + [2.0], counts=(10, 10, 10, 10, 20))
    assert compare_losses(before, after, 2.0).rise == pytest.approx(0.2)


HONEST = (0.01, -0.02, 0.03, 0.0, 0.02, -0.01, 0.04, -0.03, 0.01)


@pytest.mark.parametrize("lie", [-1e30, -5.0, 5.0, 1e30])
def test_one_client_moves_a_difference_by_its_share_of_a_bounded_reach(lie):
    base = np.full(10, 0.2)
    honest = np.array([*HONEST, 0.0])
    hostile = np.array([*HONEST, lie])
    before, after = measured(base), measured(base + honest)
    forged = measured(base + hostile)
    calm, found = (compare_losses(before, one, 2.0) for one in (after, forged))
    reach = 3 * sqrt((0.2**2 + 0.2**2) / 100) + 0.02  # from the median
    assert abs(found.rise - calm.rise) <= reach / 10
    assert found.error <= calm.error + reach / 10


@pytest.mark.parametrize("lie", [-1e30, -5.0, 5.0, 1e30])
@pytest.mark.parametrize(("rise", "broken"), [(0.0, False), (0.8, True)])
def test_one_client_neither_forces_nor_prevents_a_rollback(lie, rise, broken):
    base = np.full(10, 0.4)
    hostile = base + rise + np.array([*HONEST, lie])
    counts = (100,) * 9 + (10**9,)
    before, after = measured(base, counts=counts), measured(hostile, counts=counts)
    found = compare_losses(before, after, 2.0)
    allowed = found.before * 1.0 + 0.05
    assert (found.rise - allowed > 2 * found.error) is broken


def test_one_client_that_lied_before_the_cut_does_not_raise_what_is_allowed():
    base = [0.4] * 9 + [1e30]
    found = compare_losses(measured(base), measured([0.8] * 10), 2.0)
    assert found.before < 0.45


def test_clients_that_agree_do_not_hide_those_that_lost_everything():
    # The median difference is 0, and so is the median distance to it.
    after = measured([0.2] * 10, [0.9] * 6 + [0.3] * 4, counts=14)
    before = measured([0.2] * 10, [0.9] * 10, counts=14)
    found = compare_metrics(before, after, 2.0, higher=True)
    assert found.rise < -0.1


def test_other_clients_are_compared_by_their_means():
    before = measured([1.0, 1.2, 1.4, 1.6, 1.8])
    after = measured([2.0, 2.2, 2.4, 2.6, 2.8], first=3)  # c03 and c04 are in both
    found = compare_losses(before, after, 2.0)
    assert (found.paired, found.clients) == (False, 5)
    assert found.rise == pytest.approx(1.0)
    one = np.std([1.0, 1.2, 1.4, 1.6, 1.8], ddof=1) / sqrt(5)
    assert found.error == pytest.approx(sqrt(2) * one)


def test_cohorts_that_share_half_their_clients_are_paired():
    before, after = measured([1.0] * 6), measured([1.5] * 6, first=3)
    found = compare_losses(before, after, 2.0)
    assert (found.paired, found.clients, found.rise) == (True, 3, 0.5)


def test_few_other_clients_have_the_examples_own_spread_too():
    found = compare_losses(measured([1.0]), measured([2.0], first=1), 2.0)
    assert (found.paired, found.clients) == (False, 1)
    assert found.error == pytest.approx(sqrt(5.0 / 100))


def test_without_a_validation_there_is_nothing_to_compare():
    none, some = measured([]), measured([1.0])
    assert compare_losses(none, some, 2.0) is None
    assert compare_losses(some, none, 2.0) is None


@given(
    st.lists(st.floats(0, 1e30), min_size=1, max_size=9),
    st.floats(0, 1e30),
    st.sampled_from([0.0, 2.0]),
)
def test_any_losses_give_finite_figures(losses, other, multiple):
    found = compare_losses(measured(losses), measured([other] * len(losses)), multiple)
    assert np.isfinite([found.before, found.after, found.error]).all()
    assert found.error >= 0.0


def answer(client, loss_sum=3.0, count=4, status=Status.ACCEPTED):
    validation = Validation(loss_sum=loss_sum, metric_sum=1.0, count=count)
    return ClientRecord(client_id=client, status=status, validation=validation)


def test_validations_are_those_of_accepted_answers_with_examples_in_order():
    found = validations_of(
        [
            answer("b"),
            answer("d", count=0),
            answer("c", status=Status.LATE),
            ClientRecord(client_id="e", status=Status.ACCEPTED),
            answer("a", loss_sum=1.7e308, count=1),
        ]
    )
    assert found.clients == ("a", "b")
    assert found.losses.tolist() == [1e30, 0.75]
    assert found.metrics.tolist() == [1.0, 0.25]
    assert found.counts.tolist() == [1, 4]
