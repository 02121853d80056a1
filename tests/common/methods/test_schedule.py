"""Schedules: the value of each half way, and the power of a polynomial."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprune.common.methods.kinds import SCHEDULE
from fedprune.common.methods.registry import find

HALF_WAY = {
    "cubic": 0.34375,
    "polynomial": 0.34375,  # with the power 3
    "linear": 0.625,
    "geometric": 0.5,
    "constant": 0.25,
}


def density(name, progress, end=0.25, power=3.0):
    return find(SCHEDULE, name)(progress=progress, end=end, power=power)


@pytest.mark.parametrize(("name", "wanted"), HALF_WAY.items())
def test_half_way_each_density_has_its_own_value(name, wanted):
    assert density(name, 0.5) == pytest.approx(wanted)


@given(progress=st.floats(0, 1), end=st.floats(0.01, 1.0))
def test_a_polynomial_of_power_three_is_cubic_and_of_power_one_linear(progress, end):
    assert density("polynomial", progress, end) == density("cubic", progress, end)
    straight = density("polynomial", progress, end, power=1.0)
    assert straight == pytest.approx(density("linear", progress, end), abs=1e-12)


@given(progress=st.floats(0.01, 0.99), end=st.floats(0.01, 0.9))
def test_a_greater_power_cuts_earlier(progress, end):
    found = [density("polynomial", progress, end, power) for power in (0.5, 1, 3, 6)]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[-1]


def test_a_constant_schedule_is_at_its_end_with_the_first_cut():
    assert [density("constant", t) for t in (0.0, 1e-9, 1.0)] == [1.0, 0.25, 0.25]
