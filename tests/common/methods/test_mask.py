"""Kinds of masks: the form of each."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.masks import FC, MATRICES, ODD, PLAN, SPEC, masked, weights

from fedprune.common.config import MaskRule
from fedprune.common.methods.kinds import MASK
from fedprune.common.methods.registry import find
from fedprune.common.sparsity.masks import full_mask, next_mask

FULL = full_mask(SPEC, PLAN)


def test_sensitivity_does_not_empty_a_layer_of_small_weights():
    values = weights()
    by_size = masked("unstructured", FULL, values, 0.1).keep[FC]
    by_spread = masked("sensitivity", FULL, values, 0.1).keep[FC]
    assert by_size.sum() == 1
    assert 0.05 < by_spread.mean() < 0.2


@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_ranks_may_be_negative_and_masks_stay_nested(shift):
    values, mask = weights(), FULL
    wanted = FULL
    for density in (0.8, 0.5, 0.2, 0.1):
        wanted = masked("unstructured", wanted, values, density)
    lower = replace(
        find(MASK, "unstructured"), function=lambda matrix: np.abs(matrix) - shift
    )
    for density in (0.8, 0.5, 0.2, 0.1):
        rule = MaskRule(kind="unstructured")
        mask = next_mask(mask, SPEC, values, lower, rule, density)
    np.testing.assert_array_equal(mask.keep, wanted.keep)


def test_two_of_each_four_input_channels_stay_the_greater_ones():
    values = weights()
    mask = masked("n:m", FULL, values)
    kept = mask.keep[FC].reshape(10, 6, 4)
    assert (kept.sum(-1) == 2).all()
    size = np.abs(values[FC]).reshape(10, 6, 4)
    assert (
        np.where(kept, size, np.inf).min(-1) >= np.where(kept, 0, size).max(-1)
    ).all()
    conv = mask.keep[:1152].reshape(8, 4, 4, 3, 3)
    assert (conv.sum(2) == 2).all()
    assert mask.keep[ODD].all()  # 6 channels are no multiple of 4


def test_blocks_stay_or_go_whole():
    mask = masked("blocks", FULL, weights(), 0.25)
    fc = mask.keep[FC].reshape(10, 6, 4)[:8].reshape(2, 4, 6, 4)
    conv = mask.keep[:1152].reshape(2, 4, 36, 4)
    for share in (conv.mean(axis=(1, 3)), fc.mean(axis=(1, 3))):
        assert set(np.unique(share)) <= {0.0, 1.0}
    assert 0.2 < (mask.keep.sum() - 8) / MATRICES < 0.35


@pytest.mark.parametrize(("n", "m"), [(1, 2), (1, 8), (3, 4)])
def test_any_n_of_any_m_stay(n, m):
    kept = masked("n:m", FULL, weights(), n=n, m=m).keep[FC]
    assert (kept.reshape(10, 24 // m, m).sum(-1) == n).all()


def test_of_equal_entries_the_lower_channel_stays():
    ones = np.ones((2, 4))
    kept = find(MASK, "n:m")(matrix=ones, kept=ones > 0, n=1, m=2)
    assert kept.tolist() == [[True, False, True, False]] * 2


def test_what_was_masked_before_never_comes_back_in_a_group():
    matrix = np.array([[4.0, 3.0, 2.0, 1.0]])
    kept = np.array([[False, True, True, True]])
    found = find(MASK, "n:m")(matrix=matrix, kept=kept, n=2, m=4)
    assert found.tolist() == [[False, True, True, False]]


def test_a_block_is_ranked_by_its_mean_square_also_at_the_ends():
    matrix = np.zeros((3, 3))
    matrix[:2, :2], matrix[:2, 2], matrix[2, :2], matrix[2, 2] = 1.0, 2.0, 3.0, 4.0
    found = find(MASK, "blocks")(matrix=matrix, block=2)
    assert found.tolist() == [[1.0, 1.0, 4.0], [1.0, 1.0, 4.0], [9.0, 9.0, 16.0]]


def test_sensitivity_divides_by_the_deviation_of_the_tensor():
    matrix = np.array([[1.0, -1.0], [3.0, -3.0]])
    found = find(MASK, "sensitivity")(matrix=matrix)
    np.testing.assert_allclose(found, np.abs(matrix) / np.sqrt(5.0))
    constant = find(MASK, "sensitivity")(matrix=np.full((2, 2), -2.0))
    assert constant.tolist() == [[2.0, 2.0], [2.0, 2.0]]
