"""Shared values: which entries of an update stand for all, and how they are spread."""

import numpy as np

from fedprune.common.sparsity.shared import (
    first_entries,
    matrices_from,
    most_entries,
    with_shared,
)
from fedprune.common.spec import ModelSpec, TensorSpec

SPEC = ModelSpec(
    tensors=(
        TensorSpec(name="bias", shape=(2,)),
        TensorSpec(name="weight", shape=(2, 3)),
        TensorSpec(name="none", shape=(0, 3)),
        TensorSpec(name="other", shape=(2, 1)),
    ),
    moments=0,
    units=2,
)
CODED = np.array([1, 1, 5, 0, -3, 5, -3, 0, 7, 5], dtype=np.float32)


def test_the_first_weight_of_each_value_stands_for_all_of_them():
    found = np.flatnonzero(first_entries(CODED, SPEC)).tolist()
    assert found == [0, 1, 2, 4, 8, 9]  # both biases; 5 and -3; 7 and 5
    assert len(found) <= most_entries(SPEC, 1) == 2 + 2 + 0 + 2
    assert most_entries(SPEC, 6) == SPEC.size


def test_a_change_of_the_first_weight_is_one_of_all_and_0_stays():
    moved = CODED + np.arange(10, dtype=np.float32)
    found = with_shared(CODED, moved, SPEC).tolist()
    assert found == [1, 2, 7, 0, 1, 7, 1, 0, 15, 14]
    same = with_shared(CODED, CODED, SPEC)
    assert np.array_equal(same, CODED)


def test_matrices_come_from_one_vector_and_the_rest_from_the_other():
    found = matrices_from(CODED, np.full(10, 9, dtype=np.float32), SPEC)
    assert found.tolist() == [9, 9, 5, 0, -3, 5, -3, 0, 7, 5]
