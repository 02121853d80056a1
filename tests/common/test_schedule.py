"""Schedules: where they start, where they end, and that they never turn back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprune.common.schedule import density_at, learning_rate

KINDS = ("cubic", "linear", "geometric")
ENDS = st.floats(0.01, 1.0)


@pytest.mark.parametrize("kind", KINDS)
@given(end=ENDS)
def test_a_density_starts_at_one_and_ends_at_its_end(kind, end):
    assert density_at(kind, end, 0.0) == pytest.approx(1.0, abs=1e-12)
    assert density_at(kind, end, 1.0) == pytest.approx(end, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@given(end=ENDS, one=st.floats(0, 1), other=st.floats(0, 1))
def test_a_density_never_rises(kind, end, one, other):
    early, late = sorted((one, other))
    higher, lower = density_at(kind, end, early), density_at(kind, end, late)
    assert end - 1e-12 <= lower <= higher + 1e-12 <= 1.0 + 2e-12


def test_half_way_each_density_has_its_own_value():
    found = [density_at(kind, 0.25, 0.5) for kind in KINDS]
    assert found == pytest.approx([0.34375, 0.625, 0.5])


@given(start=st.floats(1e-4, 1.0), rounds=st.integers(2, 50))
def test_a_cosine_falls_from_the_start_to_a_twentieth(start, rounds):
    rates = [learning_rate("cosine", start, r, rounds) for r in range(1, rounds + 1)]
    assert rates[0] == pytest.approx(start)
    assert rates[-1] == pytest.approx(start / 20)
    assert rates == sorted(rates, reverse=True)


def test_rounds_beyond_the_plan_keep_the_last_rate():
    last = learning_rate("cosine", 0.1, 10, 10)
    assert learning_rate("cosine", 0.1, 25, 10) == last


@pytest.mark.parametrize("round_", [1, 5, 99])
def test_a_constant_rate_and_a_run_of_one_round_stay_at_the_start(round_):
    assert learning_rate("constant", 0.1, round_, 10) == 0.1
    assert learning_rate("cosine", 0.1, round_, 1) == 0.1
