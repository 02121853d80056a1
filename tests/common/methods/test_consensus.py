"""Consensus rules: what each finds, and whom it withstands."""

import numpy as np
import pytest
from helpers.methods import with_law

from fedprune.common.methods.kinds import CONSENSUS
from fedprune.common.methods.registry import find, names

UNITS = 40


def honest(count, seed=0, units=UNITS):
    """Return scores of clients that agree up to noise and scale."""
    rng = np.random.default_rng(seed)
    truth = rng.lognormal(sigma=1.5, size=units)
    return {
        f"client-{number:03d}": (truth * rng.lognormal(sigma=0.3, size=units)).astype(
            np.float32
        )
        for number in range(count)
    }


def agree(scores, rule, examples=None):
    """Return what a rule finds of rows that are scaled to the sum 1."""
    rows = np.stack([scores[name] for name in sorted(scores)]).astype(np.float64)
    counts = dict.fromkeys(scores, 10) if examples is None else examples
    return find(CONSENSUS, rule)(
        scores=rows / rows.sum(axis=1, keepdims=True),
        num_examples=np.array([counts[name] for name in sorted(scores)], float),
    )


def kept_half(importance):
    return set(np.argsort(-importance)[: len(importance) // 2].tolist())


@pytest.mark.parametrize("rule", with_law(CONSENSUS, "robust"))
@pytest.mark.parametrize("seed", range(5))
def test_one_inverted_scorer_of_any_scale_does_not_move_what_is_kept(rule, seed):
    scores = honest(9, seed)
    truth = agree(scores, rule)
    scores["client-999"] = (1e6 / agree(scores, "mean")).astype(np.float32)
    overlap = kept_half(agree(scores, rule)) & kept_half(truth)
    assert len(overlap) >= 0.9 * UNITS / 2


def two_kinds(count, seed):
    """Return scores of clients that agree on which half of the units is needed."""
    rng = np.random.default_rng(seed)
    needed = rng.permutation(UNITS) < UNITS // 2
    truth = np.where(needed, 1.0, 0.1) * rng.uniform(0.7, 1.4, UNITS)
    scores = {
        f"client-{number:03d}": (truth * rng.uniform(0.9, 1.1, UNITS)).astype(
            np.float32
        )
        for number in range(count)
    }
    return scores, set(np.flatnonzero(needed).tolist())


@pytest.mark.parametrize(("rule", "colluders"), [("median", 4), ("trimmed-mean", 3)])
@pytest.mark.parametrize("aim", ["lift one", "lift five", "lift the bad half", "bury"])
@pytest.mark.parametrize("seed", range(3))
def test_colluders_do_not_change_the_half_that_is_kept(rule, colluders, aim, seed):
    scores, needed = two_kinds(10 - colluders, seed)
    assert kept_half(agree(scores, rule)) == needed
    bad = sorted(set(range(UNITS)) - needed)
    lifted = {"lift one": bad[:1], "lift five": bad[:5]}.get(aim, bad)
    attack = np.zeros(UNITS, dtype=np.float32)
    attack[lifted] = 1e9
    if aim == "bury":
        attack[bad] = agree(scores, rule)[bad]
    for number in range(colluders):
        scores[f"client-9{number}"] = attack
    assert kept_half(agree(scores, rule)) == needed


def test_the_mean_is_what_an_attacker_can_move():
    scores = honest(9)
    attack = np.zeros(UNITS, dtype=np.float32)
    unit = int(np.argmin(agree(scores, "mean")))
    attack[unit] = 1.0
    attacked = scores | {"client-999": attack}
    assert unit in kept_half(agree(attacked, "mean"))
    assert unit not in kept_half(agree(attacked, "trimmed-mean"))


# Rows that sum to 1 already; 1/16 each, so that sums are exact.
TABLE = {
    name: np.float32(row) / 16
    for name, row in {
        "a": [1, 15],
        "b": [2, 14],
        "c": [3, 13],
        "d": [5, 11],
        "e": [16, 0],
    }.items()
}


@pytest.mark.parametrize(
    ("names", "rule", "first"),
    [
        ("abcde", "trimmed-mean", 3),  # two off at each end
        ("abcd", "trimmed-mean", 2.5),  # one off at each end
        ("abe", "trimmed-mean", 2),  # one off at each end
        ("ae", "trimmed-mean", 8.5),  # two cannot be trimmed
        ("a", "trimmed-mean", 1),
        ("abcde", "median", 3),
        ("abcd", "median", 2.5),
        ("abcde", "mean", 5.4),
    ],
)
def test_the_agreement_on_five_rows_is_what_a_hand_finds(names, rule, first):
    found = agree({name: TABLE[name] for name in names}, rule)
    assert found[0] == pytest.approx(first / 16, rel=1e-6)
    assert found[1] == pytest.approx(1 - first / 16, rel=1e-6)


def test_the_mean_weighs_clients_by_their_examples_and_other_rules_do_not():
    scores = {name: TABLE[name] for name in "abc"}
    weights = {"a": 1, "b": 1, "c": 6}
    means = {rule: agree(scores, rule, weights) for rule in names(CONSENSUS)}
    assert means["mean"][0] == pytest.approx((1 + 2 + 18) / 8 / 16)
    assert means["median"][0] == pytest.approx(2 / 16)
    assert means["trimmed-mean"][0] == pytest.approx(2 / 16)
