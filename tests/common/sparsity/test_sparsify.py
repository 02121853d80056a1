"""Entries of a message: exactly the largest ones, and nothing is lost."""

from math import ceil

import numpy as np
import pytest
from helpers.codec.dense import dense
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedprune.common.errors import ConfigError
from fedprune.common.methods.kinds import CHOICE
from fedprune.common.methods.method import Method
from fedprune.common.sparsity.sparsify import sparsify

# Few magnitudes, so that most vectors hold ties and zeros.
TIED = arrays(
    np.float32,
    st.integers(1, 40),
    elements=st.sampled_from([-2.0, -1.0, -0.5, 0.0, -0.0, 0.5, 1.0, 2.0]),
)
ANY = arrays(
    np.float32,
    st.integers(1, 40),
    elements=st.floats(-1e6, 1e6, width=32),
)

DENSITIES = st.floats(0.001, 1.0)


@given(total=st.one_of(TIED, ANY), density=DENSITIES)
def test_exactly_the_largest_entries_are_sent_of_equals_the_first(total, density):
    count = ceil(density * len(total))
    ranked = sorted(range(len(total)), key=lambda i: (-abs(total[i]), i))
    wanted = sorted(i for i in ranked[:count] if total[i] != 0.0)
    sent = sparsify(total, density)
    assert sent.size == len(total)
    assert sent.indices.tolist() == wanted
    assert sent.values.tobytes() == total[wanted].tobytes()


@given(total=st.one_of(TIED, ANY), density=DENSITIES)
def test_what_is_sent_and_what_is_kept_back_are_the_whole(total, density):
    sent = dense(sparsify(total, density))
    left = total - sent
    np.testing.assert_array_equal(sent + left, total)
    assert not np.any((sent != 0) & (left != 0))


def test_the_number_sent_without_zeros_is_the_share_rounded_up():
    total = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    for density, count in ((0.05, 50), (0.0501, 51), (0.0001, 1), (1.0, 1000)):
        assert len(sparsify(total, density).indices) == count


@pytest.mark.parametrize("density", [0.1, 1.0])
def test_zeros_are_never_sent(density):
    assert len(sparsify(np.zeros(20, dtype=np.float32), density).indices) == 0
    one = np.zeros(20, dtype=np.float32)
    one[7] = -1e-30
    assert sparsify(one, density).indices.tolist() == [7]


def test_the_input_is_not_changed():
    total = np.float32([3, -2, 1, 0])
    sparsify(total, 0.5)
    assert total.tolist() == [3, -2, 1, 0]


def test_an_empty_vector_sends_nothing():
    sent = sparsify(np.zeros(0, dtype=np.float32), 0.5)
    assert (sent.size, len(sent.indices), len(dense(sent))) == (0, 0, 0)


WRONG = {
    "numbers": lambda total: np.arange(len(total)),
    "another length": lambda total: np.ones(len(total) + 1, dtype=bool),
    "more than the share": lambda total: np.ones(len(total), dtype=bool),
    "nothing at all": lambda total: None,
}


@pytest.mark.parametrize("name", WRONG)
def test_a_choice_that_returns_something_else_is_refused_by_its_name(name):
    total = np.float32([3, -2, 1, 0])
    choice = Method(
        kind=CHOICE, name=name, function=WRONG[name], needs=frozenset(["total"])
    )
    with pytest.raises(ConfigError, match=rf"'{name}' returned .*want bool\[4\]"):
        sparsify(total, 0.5, choice)
