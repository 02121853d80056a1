"""Workers and a node of Ray that die or stop in mid-round: the run ends as without."""

import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from helpers.processes import child, module, wait_for
from helpers.small_runs import (
    as_options,
    events,
    figures,
    only_run,
    read_summary,
    run_small,
    small_settings,
)

from fedprune.server.runs.events import ClientAnswered, RoundFinished, WorkerLost

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

# Long local training, so that a signal falls into it.
LONG = {"rounds.warmup": 8, "client.epochs": 6}
START_S = 400  # a busy machine takes minutes to start workers
RUN_S = 1000
END_S = 20
PLAYING = "ray::_Process.play"
PORT = 6397


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Return the figures of the run in one process."""
    return figures(run_small(tmp_path_factory.mktemp("here"), LONG).summary)


@pytest.mark.long
def test_workers_that_die_or_stop_are_replaced_and_no_bit_changes(tmp_path, expected):
    folder = tmp_path / "runs"
    with child(simulate(folder), tmp_path) as run:
        lost = [
            send(run, folder, signal.SIGKILL, most=1),
            send(run, folder, signal.SIGSTOP, most=1),
            send(run, folder, signal.SIGKILL, most=2),
        ]
        assert run.wait(RUN_S) == 0, run.output
        assert run.left_after(END_S) == []
    found = events(only_run(folder), WorkerLost)
    named = {int(event.worker.split()[0]): event for event in found}
    assert {number for group in lost for number in group} <= named.keys()
    (stopped,) = lost[1]
    assert named[stopped].reason == "it did not respond for 10 s"
    (killed,) = lost[0]
    assert named[killed].reason == "its process or its node ended"
    check(run, folder, found, expected)


@pytest.fixture
def short():
    """A folder of its own for a cluster, which no other test then finds running.

    Paths of sockets have 107 characters at most, so it is not pytest's.
    """
    with tempfile.TemporaryDirectory(prefix="fp-", ignore_cleanup_errors=True) as path:
        yield path


@pytest.mark.long
def test_the_workers_of_a_node_that_dies_are_played_by_the_others(
    tmp_path, short, expected
):
    folder = tmp_path / "runs"
    address = f"127.0.0.1:{PORT}"
    first = node("--head", "--port", str(PORT), "--temp-dir", short)
    with child(first, tmp_path) as head:
        wait_for(lambda: is_up(head), START_S, "the head")
        with child(node("--address", address), tmp_path) as second:
            wait_for(lambda: is_up(second), START_S, "the second node")
            with child(simulate(folder, "--ray-address", address), tmp_path) as run:
                wait_for(lambda: rounds_of(folder) >= 2, START_S, "two rounds")
                wait_for(lambda: titled(second, PLAYING), START_S, "a job there")
                second.kill()
                assert run.wait(RUN_S) == 0, run.output
    found = events(only_run(folder), WorkerLost)
    assert found
    check(run, folder, found, expected)


def check(run, folder, lost, expected):
    """Check result, events and terminal of a run that has lost workers."""
    assert figures(read_summary(only_run(folder))) == expected
    answers = events(only_run(folder), ClientAnswered)
    assert {event.status for event in answers} == {"accepted"}
    said = [line for line in run.output.splitlines() if "was lost" in line]
    assert len(said) == len(lost)
    assert "raylet" not in run.output
    assert "Traceback" not in run.output


def simulate(folder, *words):
    """Return the command of a run that is quick to notice silent workers."""
    settings = small_settings(folder, LONG | {"run.engine": "ray", "run.workers": 2})
    return module("impatient", "simulate", *words, *as_options(settings))


def node(*words):
    """Return the command of a node of Ray with one core."""
    command = str(Path(sys.executable).parent / "ray")
    own = ("--num-cpus", "1", "--object-store-memory", "100000000")
    return [command, "start", "--block", "--disable-usage-stats", *own, *words]


def is_up(started):
    return "Ray runtime started" in started.output


def send(run, folder, number, most):
    """Signal workers that play a job of a new round; return their process ids."""
    begun = rounds_of(folder)
    wait_for(lambda: rounds_of(folder) > begun, START_S, "a new round")
    wait_for(lambda: len(titled(run, PLAYING)) >= most, START_S, "workers that play")
    chosen = titled(run, PLAYING)[:most]
    for one in chosen:
        os.kill(one, number)
    return chosen


def titled(started, title):
    """Return the ids of a child's processes whose title starts so."""
    return [one for one in started.alive() if title_of(one).startswith(title)]


def title_of(number):
    try:
        return Path(f"/proc/{number}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def rounds_of(folder):
    """Return how many rounds the run under ``folder`` has logged."""
    found = list(folder.glob("*/events.jsonl"))
    return len(events(found[0].parent, RoundFinished)) if found else 0
