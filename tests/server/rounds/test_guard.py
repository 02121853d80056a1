"""The guard: what it pools, and when it calls a network worse."""

from math import isnan
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprune.common.messages import Validation
from fedprune.server.rounds.guard import Change, _loss_change, pooled_score
from fedprune.server.rounds.records import (
    ClientRecord,
    Measured,
    Status,
    validations_from,
)
from fedprune.server.rounds.steps.comparison import Difference


def record(client_id, loss_sum, correct, count, status=Status.ACCEPTED):
    validation = Validation(loss_sum=loss_sum, metric_sum=float(correct), count=count)
    return ClientRecord(client_id=client_id, status=status, validation=validation)


def test_a_pooled_score_is_that_of_all_examples_together():
    found = pooled_score([record("a", 3.0, 1, 4), record("b", 5.0, 5, 6)], 2.0)
    assert (found.loss, found.accuracy, found.count) == (0.8, 0.6, 10)


def test_only_accepted_answers_with_a_validation_count():
    records = [
        record("a", 3.0, 1, 2),
        record("b", 900.0, 0, 1, Status.REFUSED),
        record("c", 900.0, 0, 1, Status.LATE),
        record("d", 0.0, 0, 0),
        ClientRecord(client_id="e", status=Status.ACCEPTED),
    ]
    assert pooled_score(records, 2.0) == pooled_score(records[:1], 2.0)


@pytest.mark.parametrize(
    "records",
    [[], [record("a", 0.0, 0, 0)], [record("a", 1.0, 1, 1, Status.FAILED)]],
    ids=["no client", "no examples", "no client accepted"],
)
def test_without_examples_the_score_is_not_a_number(records):
    found = pooled_score(records, 2.0)
    assert isnan(found.loss)
    assert isnan(found.accuracy)
    assert found.count == 0


@given(
    losses=st.lists(st.floats(0, 100), min_size=2, max_size=8),
    random=st.randoms(use_true_random=False),
)
def test_the_order_of_answers_does_not_change_a_bit_of_the_score(losses, random):
    records = [record(f"c{n}", loss, 0, 1) for n, loss in enumerate(losses)]
    before = pooled_score(records, 2.0)
    random.shuffle(records)
    assert pooled_score(records, 2.0) == before


def change(before, after, error, allowed):
    found = Difference(before=before, after=after, error=error, clients=9, paired=True)
    return Change(found=found, worse=found.rise, allowed=allowed)


@pytest.mark.parametrize(
    ("before", "after", "error", "allowed", "broken"),
    [
        (1.0, 1.25, 0.0, 0.25, False),
        (1.0, 1.3, 0.0, 0.25, True),
        (1.0, 1.5, 0.125, 0.25, False),  # two standard errors, and no more
        (1.0, 1.5, 0.124, 0.25, True),
        (1.0, 0.5, 0.0, 0.0, False),
        (1.0, 1e30, 1e29, 0.25, True),
        (1.0, 9.0, 0.0, None, False),
    ],
)
def test_a_limit_is_broken_beyond_two_standard_errors(
    before, after, error, allowed, broken
):
    assert change(before, after, error, allowed).broken is broken


def sent(loss):
    """Make a broadcast that six clients measured alike."""
    measured = [
        Measured(client=f"c{n}", loss=loss, metric=0.0, count=20) for n in range(6)
    ]
    return SimpleNamespace(validations=validations_from(measured))


@pytest.mark.parametrize(
    ("before", "after", "broken"),
    [
        (2.0, 2.9, False),  # half of 2, and 0.05 on top
        (2.0, 3.1, True),
        (-2.0, -2.0, False),  # an own loss, such as the logarithm of a density
        (-2.0, -1.1, False),
        (-2.0, -0.9, True),
    ],
)
def test_a_loss_may_rise_by_a_share_of_its_magnitude(before, after, broken):
    robust = SimpleNamespace(max_weight=2.0)
    run_spec = SimpleNamespace(config=SimpleNamespace(robust=robust))
    assert _loss_change(sent(before), sent(after), run_spec, 0.5).broken is broken
