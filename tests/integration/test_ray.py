"""Ray with any number of workers does what one process does, bit for bit."""

import json
import signal
import time

import pytest
from helpers.processes import child, fedprune, module, wait_for
from helpers.small_runs import (
    PARTIAL,
    as_options,
    events,
    figures,
    only_run,
    read_summary,
    run_small,
    small_settings,
)

from fedprune.server.runs.events import RoundFinished

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

LONG = {"rounds.warmup": 20}
START_S = 120  # seconds that Ray may take to start beside other work
END_S = 10  # seconds that Ctrl-C may take


def test_any_number_of_workers_gives_the_bits_of_one_process(tmp_path):
    here = run_small(tmp_path / "here", PARTIAL).summary
    workers = ("1", "2", "3")
    with child(module("ray_script", str(tmp_path), *workers), tmp_path) as script:
        assert script.wait(300) == 0, script.output
        assert script.left_after(END_S) == []
    runs = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    for number in workers:
        summary = read_summary(runs[number])
        assert figures(summary) == figures(here), number
        assert summary["bytes_simulation"] > 0


@pytest.mark.long
def test_a_run_on_ray_survives_ctrl_c_and_then_kill_9(tmp_path):
    here = run_small(tmp_path / "here", LONG).summary
    folder = tmp_path / "ray"
    settings = small_settings(folder, LONG | {"run.engine": "ray", "run.workers": 2})
    with child(fedprune("simulate", *as_options(settings)), tmp_path) as first:
        wait_for(lambda: rounds_of(folder) >= 3, START_S, "three rounds")
        interrupt(first, only_run(folder))
    run, reached = only_run(folder), rounds_of(folder)
    resume = fedprune("simulate", "--resume", str(run))
    with child(resume, tmp_path) as second:
        wait_for(lambda: rounds_of(folder) >= reached + 3, START_S, "three more")
    # Leaving the block has killed the driver, Ray and the workers.
    assert second.process.returncode == -signal.SIGKILL
    assert not (run / "summary.json").exists()
    with child(resume, tmp_path) as third:
        assert third.wait(START_S) == 0, third.output
        assert third.left_after(END_S) == []
    assert figures(read_summary(run)) == figures(here)


def test_ctrl_c_ends_a_run_in_this_process_and_resume_completes_it(tmp_path):
    here = run_small(tmp_path / "here", LONG).summary
    folder = tmp_path / "runs"
    options = as_options(small_settings(folder, LONG))
    with child(fedprune("simulate", *options), tmp_path) as first:
        wait_for(lambda: rounds_of(folder) >= 3, START_S, "three rounds")
        interrupt(first, only_run(folder))
    run = only_run(folder)
    with child(fedprune("simulate", "--resume", str(run)), tmp_path) as second:
        assert second.wait(START_S) == 0, second.output
    assert figures(read_summary(run)) == figures(here)


def interrupt(started, run):
    """Press Ctrl-C; check how fast, how clean and with which words the run ends."""
    assert started.process.poll() is None, started.output
    began = time.monotonic()
    started.signal(signal.SIGINT)
    code = started.wait(3 * END_S)
    took = time.monotonic() - began
    assert code == 130, started.output
    assert took < END_S
    assert started.left_after(END_S) == []
    said = [line for line in started.output.splitlines() if "--resume" in line]
    assert said == [
        f"error: interrupted; resume with: fedprune simulate --resume {run}"
    ], started.output
    assert "Traceback" not in started.output
    assert not (run / "summary.json").exists()


def rounds_of(folder):
    """Return how many rounds the run under ``folder`` has logged."""
    found = list(folder.glob("*/events.jsonl"))
    return len(events(found[0].parent, RoundFinished)) if found else 0
