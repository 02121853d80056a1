"""Values of schedules: within their bounds, and the rates of rounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprune.common.errors import ConfigError
from fedprune.common.methods.kinds import SCHEDULE
from fedprune.common.methods.registry import names
from fedprune.common.methods.schedule import density_at, learning_rate

ENDS = st.floats(0.01, 1.0)


@pytest.mark.parametrize("name", names(SCHEDULE))
@given(end=ENDS, one=st.floats(0, 1), other=st.floats(0, 1))
def test_a_density_never_rises_and_stays_within_its_ends(name, end, one, other):
    early, late = sorted((one, other))
    higher, lower = density_at(name, end, early), density_at(name, end, late)
    assert end <= lower <= higher + 1e-12
    assert higher <= 1.0


def test_what_an_own_schedule_returns_is_held_within_end_and_one(tmp_path):
    path = tmp_path / "wild.py"
    path.write_text("def wild(progress):\n    return 7.0 - 10.0 * progress\n")
    found = [density_at(f"{path}:wild", 0.25, t) for t in (0.0, 0.65, 1.0)]
    assert found == [1.0, 0.5, 0.25]


@pytest.mark.parametrize("name", names(SCHEDULE))
@given(end=ENDS)
def test_a_density_ends_at_its_end_to_the_last_bit(name, end):
    assert density_at(name, end, 1.0) == end


def test_an_own_schedule_that_stops_above_its_end_meets_it_all_the_same(tmp_path):
    path = tmp_path / "lazy.py"
    path.write_text(
        "def lazy(progress, end):\n    return 1 - (1 - end) * progress / 2\n"
    )
    found = [density_at(f"{path}:lazy", 0.25, t) for t in (0.0, 0.5, 1.0)]
    assert found == [1.0, 0.8125, 0.25]


@pytest.mark.parametrize("value", ["float('nan')", "float('inf')", "'half'", "None"])
def test_an_own_schedule_that_returns_no_number_is_refused(tmp_path, value):
    path = tmp_path / "wild.py"
    path.write_text(f"def wild(progress):\n    return {value}\n")
    with pytest.raises(ConfigError, match=r"prune\.schedule '.*:wild' returned"):
        density_at(f"{path}:wild", 0.25, 0.5)
    with pytest.raises(ConfigError, match=r"client\.lr_schedule '.*:wild' returned"):
        learning_rate(f"{path}:wild", 0.25, 2, 5)


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
