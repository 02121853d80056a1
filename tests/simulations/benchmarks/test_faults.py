"""The benchmark of faults: what counts as good, and how processes are found."""

import signal
import sys

import pytest

from fedprune.common.errors import FedPruneError
from fedprune.simulations.benchmarks import faults
from fedprune.simulations.benchmarks.kit.faults import row as row_module
from fedprune.simulations.benchmarks.kit.faults.cases import CASES
from fedprune.simulations.benchmarks.kit.faults.marked import Marked, send

SLEEP = "import time; print('up', flush=True); time.sleep(60)"
# Starts a child in a session of its own, which outlives it.
PARENT = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", {SLEEP!r}], start_new_session=True)
"""


def raw(model="a", lost=("its process or its node ended",), after=1):
    return {
        "exit": 0,
        "expected": "a",
        "model_sha256": model,
        "lost": list(lost),
        "rounds_before": after,
    }


def figure(name, *raws):
    found = {str(number): one for number, one in enumerate(raws)}
    return row_module.figure(name, found, 10)


def test_ten_good_times_of_ten_meet_the_goal():
    found = figure("worker-killed", *[raw(after=1 + n % 5) for n in range(10)])
    assert (found.value, found.unit, found.met) == (10, "of 10", True)
    assert "after round 1, 2, 3, 4, 5 of a run" in found.detail
    assert "its process or its node ended (10)" in found.detail


def test_fewer_times_decide_nothing_unless_one_was_bad():
    few = figure("worker-killed", raw(), raw())
    assert (few.value, few.unit, few.met) == (2, "of 2", None)
    bad = figure("worker-killed", raw(), raw(model="b"))
    assert (bad.value, bad.met) == (1, False)
    assert "1: exit code 0, model b" in bad.detail


def test_a_signal_that_lost_nothing_proves_nothing():
    assert figure("worker-stopped", raw(lost=())).met is False
    assert figure("driver-killed", raw(lost=())).met is None


def test_a_run_that_fails_is_a_figure_and_no_error():
    failed = {"exit": 4, "expected": "a", "rounds_before": 2, "said": "too few"}
    found = figure("node-killed", failed)
    assert (found.value, found.met) == (0, False)
    assert "exit code 4, model none" in found.detail


def test_each_time_is_played_once_and_in_turns(tmp_path, monkeypatch):
    played = []

    def case(name):
        def play(folder, number):
            assert folder.is_dir()
            played.append((name, number))
            return {key: raw()[key] for key in raw() if key != "expected"}

        return play

    monkeypatch.setattr(row_module, "CASES", {name: case(name) for name in CASES})
    monkeypatch.setattr(faults, "undisturbed", lambda: "a")
    words = ["worker-killed", "node-killed", "--work", str(tmp_path), "--times"]
    assert faults.main([*words, "1"]) == 0
    assert faults.main([*words, "2"]) == 0
    assert played == [
        (name, number) for number in (0, 1) for name in ("worker-killed", "node-killed")
    ]


def test_times_below_one_are_refused(tmp_path, capsys):
    assert faults.main(["--times", "0", "--work", str(tmp_path)]) == 2
    assert "--times is 0; want at least 1" in capsys.readouterr().err


def test_a_process_is_found_by_its_mark_and_its_title(tmp_path):
    with Marked([sys.executable, "-c", SLEEP], tmp_path) as started:
        started.until(lambda: "up" in started.output, 60, "its word")
        assert started.alive() == [started.number]
        assert started.titled(sys.executable) == [started.number]
        assert started.titled("another") == []
        send(started.number, signal.SIGKILL)
        assert started.wait(60) == -signal.SIGKILL
        with pytest.raises(FedPruneError, match="ended before a word came"):
            started.until(lambda: False, 60, "a word")


def test_a_word_that_does_not_come_is_not_waited_for(tmp_path):
    late = pytest.raises(FedPruneError, match="a word did not come within 0 s")
    with Marked([sys.executable, "-c", SLEEP], tmp_path) as started, late:
        started.until(lambda: False, 0, "a word")


@pytest.mark.parametrize(("misses", "good"), [(0, True), (2, True), (3, False)])
def test_a_signal_that_finds_no_job_is_sent_in_another_run(misses, good):
    played = []

    def case(folder, number):
        played.append(folder)
        if len(played) <= misses:
            msg = "the process ended before a job came"
            raise FedPruneError(msg)
        return {"model_sha256": "a"}

    if good:
        found = row_module.measure(case, lambda: "a", 0)
        assert found == {"expected": "a", "model_sha256": "a"}
    else:
        with pytest.raises(FedPruneError, match="before a job came"):
            row_module.measure(case, lambda: "a", 0)
    assert len(set(played)) == min(misses + 1, 3)


def test_nothing_that_it_started_is_left_behind(tmp_path):
    with Marked([sys.executable, "-c", PARENT], tmp_path) as started:
        assert started.wait(60) == 0
        (left,) = started.alive()
        assert left != started.number
    assert started.alive() == []
