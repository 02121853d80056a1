"""Choices of entries: the rule of each, its ends, and what the rate saves."""

from math import ceil, log2

import numpy as np
import pytest
from helpers.codec.dense import dense
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprune.common import codec
from fedprune.common.codec import Layout
from fedprune.common.methods.kinds import CHOICE
from fedprune.common.methods.registry import find
from fedprune.common.sparsity.sparsify import sparsify
from fedprune.common.spec import ModelSpec, TensorSpec

SPEC = ModelSpec(
    tensors=(
        TensorSpec(name="conv", shape=(3, 2, 2, 2)),
        TensorSpec(name="bias", shape=(3,)),
        TensorSpec(name="none", shape=(0, 4)),
        TensorSpec(name="linear", shape=(4, 5)),
    ),
    moments=0,
    units=0,
)

LAYOUT = Layout(SPEC)


def by_rate(total, density, layout, bits):
    """Return what is sent, by the energy of an entry for its bits."""
    rate = find(CHOICE, "rate")
    return sparsify(total, density, rate, layout=layout, value_bits=bits)


def matrix(*shape):
    tensor = TensorSpec(name="w", shape=shape)
    return ModelSpec(tensors=(tensor,), moments=0, units=0)


def parts_of(spec):
    """Return (tensor, row, column) of each place, by the shapes alone."""
    found = []
    for name, shape in ((tensor.name, tensor.shape) for tensor in spec.tensors):
        for index in np.ndindex(*shape):
            matrix = len(shape) > 1
            found.append(
                (
                    name,
                    (name, "row", index[0] if matrix else 0),
                    (name, "column", index[1] if matrix else 0),
                )
            )
    return found


def slow(total, density, spec, bits):
    """Return the chosen positions, by the rule as it is written."""
    parts = parts_of(spec)
    n, k = len(total), min(ceil(density * len(total)), len(total))

    def best(count, among, score):
        return set(sorted(among, key=lambda i: (-score(i), i))[:count])

    pool = best(min(4 * k, n), range(n), lambda i: abs(total[i]))
    chosen = best(k, pool, lambda i: float(total[i]) ** 2)
    for _ in range(16 if k < n else 0):
        lengths, counts = {}, {}
        for i, names in enumerate(parts):
            for name in names:
                lengths[name] = lengths.get(name, 0) + 1
                counts[name] = counts.get(name, 0) + (i in chosen)
        rare = {
            name: log2((lengths[name] + 1) / (counts[name] + 0.5)) for name in counts
        }

        def worth(i, rare=rare):
            tensor, row, column = parts[i]
            place = max(rare[row] + rare[column] - rare[tensor], 0.0)
            return float(total[i]) ** 2 / (bits + place)

        before, chosen = chosen, best(k, pool, worth)
        if chosen == before:
            break
    return sorted(i for i in chosen if total[i] != 0)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    density=st.floats(0.02, 1.0),
    bits=st.sampled_from([0.5, 1.0, 7.0]),
    zeros=st.floats(0.0, 1.0),
)
def test_the_rate_chooses_as_its_rule_says(seed, density, bits, zeros):
    rng = np.random.default_rng(seed)
    total = rng.laplace(size=SPEC.size).astype(np.float32)
    total[rng.random(SPEC.size) < zeros] = 0
    sent = by_rate(total, density, LAYOUT, bits)
    assert sent.indices.tolist() == slow(total, density, SPEC, bits)
    assert sent.values.tobytes() == total[sent.indices].tobytes()
    assert sent.size == SPEC.size


def test_of_equal_entries_the_first_are_sent():
    found = by_rate(np.ones(SPEC.size, np.float32), 0.1, LAYOUT, 1.0)
    assert found.indices.tolist() == slow(np.ones(SPEC.size), 0.1, SPEC, 1.0)
    assert len(found.indices) == ceil(0.1 * SPEC.size)


def test_an_entry_that_stands_alone_waits_until_it_has_grown():
    spec = matrix(8, 50)
    total = np.zeros(spec.size, np.float32)
    total[:40] = 1.0  # a busy row
    lonely = 7 * 50 + 45
    for value, sent in ((1.2, False), (5.0, True)):
        total[lonely] = value
        found = by_rate(total, 40 / 400, Layout(spec), 1.0)
        assert (lonely in found.indices) is sent


def test_where_values_are_costly_the_largest_are_sent():
    total = np.random.default_rng(0).normal(size=SPEC.size).astype(np.float32)
    found = by_rate(total, 0.3, LAYOUT, 1e9)
    assert found.indices.tolist() == sparsify(total, 0.3).indices.tolist()


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_the_choice_does_not_depend_on_the_scale(scale):
    total = np.random.default_rng(1).normal(size=SPEC.size).astype(np.float32)
    wanted = by_rate(total, 0.3, LAYOUT, 1.0).indices
    found = by_rate(total * np.float32(scale), 0.3, LAYOUT, 1.0)
    assert found.indices.tolist() == wanted.tolist()


def test_nothing_is_lost_and_the_input_is_not_changed():
    total = np.random.default_rng(2).normal(size=SPEC.size).astype(np.float32)
    before = total.copy()
    sent = dense(by_rate(total, 0.2, LAYOUT, 1.0))
    left = total - sent
    assert not np.any((sent != 0) & (left != 0))
    np.testing.assert_array_equal(sent + left, total)
    np.testing.assert_array_equal(total, before)


def test_zeros_and_empty_networks_send_nothing():
    nothing = by_rate(np.zeros(SPEC.size, np.float32), 0.5, LAYOUT, 1.0)
    assert (nothing.size, len(nothing.indices)) == (SPEC.size, 0)
    empty = Layout(ModelSpec(tensors=(), moments=0, units=0))
    assert by_rate(np.zeros(0, np.float32), 0.5, empty, 1.0).size == 0


def test_messages_are_shorter_than_their_loss_of_energy():
    spec = matrix(200, 300)
    rng = np.random.default_rng(3)
    scales = np.outer(rng.gamma(2, size=200), rng.gamma(2, size=300))
    total = (rng.laplace(size=(200, 300)) * scales).astype(np.float32).reshape(-1)
    known = codec.SideInformation.of(spec, np.zeros(spec.size, np.float32))
    cheap = by_rate(total, 0.05, known.layout, 1.0)
    largest = sparsify(total, 0.05)

    def size(delta):
        return len(codec.encode_delta(codec.quantise_delta(delta, spec, "step"), known))

    def energy(delta):
        return float((delta.values.astype(np.float64) ** 2).sum())

    assert len(cheap.indices) == len(largest.indices)
    lost = 1 - energy(cheap) / energy(largest)
    saved = 1 - size(cheap) / size(largest)
    assert 0 < 2 * lost < saved


def test_columns_are_those_of_the_second_dimension():
    wanted = [column for _, _, column in parts_of(SPEC)]
    names = list(dict.fromkeys(wanted))
    found = LAYOUT.columns_of(np.arange(SPEC.size))
    assert found.tolist() == [names.index(column) for column in wanted]
    some = np.array([3, 8, 25, 30, 46])
    assert LAYOUT.columns_of(some).tolist() == found[some].tolist()
    counts = np.bincount(found[some], minlength=len(LAYOUT.column_lengths))
    assert counts.tolist() == LAYOUT.column_counts(some).tolist()
