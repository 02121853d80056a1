"""Time of a target of a Makefile, and the rows that are made of it."""

import pytest

from fedprune.common.errors import ConfigError
from fedprune.simulations.benchmarks import house
from fedprune.simulations.benchmarks.kit.house.waiting import Waited, wait_for

MAKEFILE = """
works:
	@for i in $$(seq 50000); do :; done
	@echo '==== 3 passed ===='
waits:
	@sleep 0.3
fails:
	@echo 1 failed
	@false
"""


@pytest.fixture
def root(tmp_path):
    (tmp_path / "Makefile").write_text(MAKEFILE)
    return tmp_path


def test_seconds_pass_while_a_target_waits_and_processor_time_while_it_works(root):
    works, waits = wait_for(root, "works"), wait_for(root, "waits")
    assert works.says == "3 passed"
    assert works.cpu > waits.cpu
    assert waits.seconds >= 0.3 > waits.cpu


def test_a_target_that_fails_is_an_error_with_its_last_line(root):
    with pytest.raises(ConfigError, match="make fails failed: 1 failed"):
        wait_for(root, "fails")


def test_fast_tests_may_take_two_minutes_and_make_check_three(root, monkeypatch):
    seconds = {"test-fast": 119.0, "check": 181.0}

    def wait(_root, target):
        return Waited(seconds=seconds[target], cpu=1.0, load=0.5, says="4 passed")

    monkeypatch.setattr(house, "wait_for", wait)
    rows = {figure.name: figure for figure in house._waiting()}
    assert rows["fast tests"].met is True
    assert rows["make check"].met is False
    assert rows["fast tests"].detail == "load 0.5 before it; 4 passed"
