"""Aggregation rules: the number that each gives."""

import numpy as np
import pytest

from fedprune.common.methods.kinds import AGGREGATION
from fedprune.common.methods.registry import find
from fedprune.common.methods.robust import buckets, centred_clip, without_odd_masks

ROWS = ({0: 1.0, 5: 8.0}, {0: 2.0, 5: -2.0}, {0: 600.0}, {0: 4.0, 9: 3.0})


def given(rows):
    """Return deltas and who sent them."""
    deltas, sent = (
        np.zeros((len(rows), 10), np.float32),
        np.zeros((len(rows), 10), bool),
    )
    for number, row in enumerate(rows):
        deltas[number, list(row)] = list(row.values())
        sent[number, list(row)] = True
    return {"deltas": deltas, "sent": sent, "num_examples": np.ones(len(rows))}


def rule(name, hostile, given_):
    method = find(AGGREGATION, name)
    found = method(hostile=hostile, total=None, **given_)
    assert found.dtype == np.float32
    return found


def test_the_median_is_taken_over_the_senders_and_scaled_by_their_share():
    wanted = np.zeros(10)
    wanted[0] = 3.0  # the middle of 1, 2, 4, 600
    wanted[5] = 3.0 * 2 / 4  # two of four sent it
    wanted[9] = 3.0 * 1 / 4
    assert rule("median", 0, given(ROWS)).tolist() == wanted.tolist()


@pytest.mark.parametrize("name", ["median", "trimmed-mean"])
def test_what_too_few_sent_to_outvote_hostile_clients_counts_less(name):
    found = rule(name, 1, given(ROWS))
    assert found[0] == pytest.approx(3.0)  # the middle of 1, 2, 4, 600
    assert found[5] == pytest.approx(3.0 * 2 / 4 * 2 / 3)
    assert found[9] == pytest.approx(3.0 * 1 / 4 * 1 / 3)


def test_the_median_of_a_weight_that_was_sent_as_zero_counts_its_sender():
    deltas = np.float32([[4.0], [0.0], [0.0]])
    sent = np.array([[True], [True], [False]])
    found = find(AGGREGATION, "median")(deltas=deltas, sent=sent, hostile=0)
    assert found[0] == np.float32(2.0 * 2 / 3)


# Ten clients of three weights, from numpy's RandomState(7), the last two turned and ten
# times as long.  The wanted values are those of ByzFL 0.0.11 (torch, float64): Median,
# TrMean(f=2), MultiKrum(f=2), GeometricMedian(nu=1e-9, T=500) and
# CenteredClipping(L=8, tau=1).
VECTORS = np.random.RandomState(7).normal(0.5, 1.0, (10, 3))
VECTORS[8:] *= -10.0
REFERENCE = {
    "median": [0.84098810, -0.04568317, 0.51744288],
    "trimmed-mean": [0.82353657, -0.17588504, 0.62702125],
    "multi-krum": [0.77231300, -0.15693177, 1.05523741],
    "geometric-median": [0.96347892, -0.16738825, 0.61337477],
}
CLIPPED = [0.9285313487052917, -0.16619029641151428, 0.8978422284126282]


@pytest.mark.parametrize("name", REFERENCE)
def test_a_rule_gives_the_values_of_an_independent_implementation(name):
    given_ = {
        "deltas": VECTORS.astype(np.float32),
        "sent": np.ones((10, 3), bool),
        "num_examples": np.ones(10),
    }
    np.testing.assert_allclose(rule(name, 2, given_), REFERENCE[name], rtol=2e-5)


def test_centred_clipping_gives_the_values_of_an_independent_implementation():
    found = centred_clip(VECTORS, steps=8, radius=1.0)
    np.testing.assert_allclose(found, CLIPPED, rtol=1e-6)


def test_buckets_are_means_of_pairs_that_no_order_changes():
    rows = np.arange(10.0).reshape(5, 2)
    found = buckets(rows, size=2)
    assert len(found) == 3
    np.testing.assert_array_equal(buckets(rows[::-1], size=2), found)
    for pair in found[:2]:
        both = (rows[:, None] + rows[None]) / 2
        assert (both == pair).all(axis=2).any()


def test_clients_with_entries_that_no_other_sent_are_left_out_by_their_masks():
    sent = np.zeros((8, 40), bool)
    for client in range(7):
        sent[client, client : client + 20] = True
    sent[7, 30:] = True
    assert without_odd_masks(sent, 2).tolist() == list(range(7))
    assert without_odd_masks(sent, 0).tolist() == list(range(8))
    same = np.ones((8, 40), bool)
    assert without_odd_masks(same, 2).tolist() == list(range(8))


@pytest.mark.parametrize(
    "name",
    ["median", "trimmed-mean", "centred-clipping", "geometric-median", "multi-krum"],
)
def test_two_of_ten_hostile_clients_move_a_robust_rule_little(name):
    rng = np.random.default_rng(1)
    honest = rng.normal(1.0, 0.3, (8, 50)).astype(np.float32)
    for bad in (-100.0, 1e4, -1.1):
        rows = np.vstack([honest, np.full((2, 50), bad, np.float32)])
        given_ = {
            "deltas": rows,
            "sent": np.ones(rows.shape, bool),
            "num_examples": np.ones(10),
        }
        found = rule(name, 2, given_)
        lost = np.linalg.norm(found - honest.mean(axis=0))
        plain = np.linalg.norm(rows.mean(axis=0) - honest.mean(axis=0))
        assert lost < 0.75 * plain
        assert lost < 0.35 * np.linalg.norm(honest.mean(axis=0))
