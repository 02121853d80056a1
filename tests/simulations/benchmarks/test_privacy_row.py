"""The row of noise and leakage: its pieces, and what a sum over rows tells."""

import numpy as np
import pytest

from fedprune.common.config import load_config
from fedprune.common.spec import ModelSpec, TensorSpec
from fedprune.simulations.benchmarks import trust
from fedprune.simulations.benchmarks.kit.trust import privacy_row


def test_the_row_has_each_side_and_the_leak_for_each_seed():
    names = [piece.name for piece in trust.rows()["privacy"].pieces([0, 1])]
    assert names == [
        *("open-0", "bounded-0", "private-0", "open-1", "bounded-1", "private-1"),
        *("leak-0", "strict-0", "leak-1", "strict-1"),
    ]


@pytest.mark.parametrize("side", ["open", "bounded", "private"])
def test_each_side_is_a_valid_configuration(side):
    config = load_config(None, privacy_row._settings(side) | {"run.controls": []})
    assert config.task.clients == 100
    assert (config.privacy.epsilon is None) == (side == "open")


def test_sums_are_those_of_the_last_layers_rows_with_their_biases():
    tensors = (
        TensorSpec(name="a", shape=(4,)),
        TensorSpec(name="w", shape=(3, 2)),
        TensorSpec(name="b", shape=(3,)),
    )
    spec = ModelSpec(tensors=tensors, moments=0, units=0)
    delta = np.arange(13.0)
    wanted = [4 + 5 + 10, 6 + 7 + 11, 8 + 9 + 12]
    assert privacy_row._sums(delta, spec).tolist() == wanted


def test_a_delta_that_follows_the_counts_correlates_with_them():
    counts = np.array([3, 0, 7])
    assert privacy_row._correlation(2.0 * counts + 1, counts) == pytest.approx(1.0)
    assert privacy_row._correlation(-1.0 * counts, counts) == pytest.approx(-1.0)
    assert privacy_row._correlation(np.zeros(3), counts) == 0.0


def test_figures_are_paired_by_seed():
    found = {
        "open-0": {"accuracy_final": 0.9},
        "private-0": {"accuracy_final": 0.8},
        "private-1": {"accuracy_final": 0.1},
        "leak-0": {"single": 0.6, "of_sum": 0.1, "membership": 0.55},
    }
    values = {one.name: one.value for one in privacy_row._figures(found)}
    assert values["privacy: accuracy lost by epsilon 8, 100 clients"] == pytest.approx(
        10
    )
    one_update = "privacy: correlation of label counts with one update, no noise"
    assert values[one_update] == 0.6
    blind = "privacy: membership inference by the loss, AUC, 10 clients, no noise"
    assert values[blind] == 0.55


def test_the_area_is_that_of_all_pairs():
    rng = np.random.default_rng(0)
    ones, others = rng.integers(0, 9, 50) / 2.0, rng.integers(1, 9, 30) / 2.0
    pairs = [(a < b) + (a == b) / 2 for a in ones for b in others]
    assert privacy_row.smaller(ones, others) == pytest.approx(np.mean(pairs))
