"""The command ``fedprune poc``: what it refuses, repeats and prints."""

import json
import socket

import pytest
from helpers.some_events import FINISHED, STARTED, write_all

from fedprune.common.system.atomic import write_json_atomic
from fedprune.server.runs.events import EventLog
from fedprune.server.runs.folder import RunFolder
from fedprune.simulations.cli import run_command_line
from fedprune.simulations.poc import trial
from fedprune.simulations.poc.folder import PocFolder

SUMMARY = {"rounds": 2, "model_sha256": "ab"}


@pytest.fixture
def place(tmp_path):
    return PocFolder(tmp_path / "poc")


@pytest.fixture
def calls(monkeypatch, place):
    """Replace the processes; return the runs that were handed on, and make a run."""
    found = []

    def carry_out(_, unfinished):
        found.append(unfinished)
        run = unfinished or RunFolder.create(place.runs, "x")
        if len(found) == 1:
            raise KeyboardInterrupt
        finish(run)
        return run

    monkeypatch.setattr(trial.Federation, "carry_out", carry_out)
    return found


def finish(run):
    with EventLog(run.events) as log:
        write_all(log, (STARTED, FINISHED))
    write_json_atomic(run.summary, SUMMARY)
    (run.path / "report.html").touch()


def test_a_second_call_resumes_and_a_third_changes_nothing(place, calls, capsys):
    assert run_command_line(["poc", str(place.path)]) == 130
    out, err = capsys.readouterr()
    assert f"made certificates, keys, configuration and data parts: {place.path}" in out
    assert err.splitlines()[0] == f"stopped; to go on: fedprune poc {place.path}"
    run = place.last_run()
    assert run_command_line(["poc", str(place.path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"going on with {run.path}"
    assert not any("made certificates" in line for line in said)
    assert said[-2:] == [
        f"report: {run.path / 'report.html'}",
        f"next, for real devices: {place.instructions}",
    ]
    assert calls == [None, run]
    assert run_command_line(["poc", str(place.path)]) == 0
    assert "has finished already; nothing was changed" in capsys.readouterr().out
    assert len(calls) == 2


def test_the_result_as_one_document_and_as_a_path(place, calls, capsys):
    calls.append("earlier")
    assert run_command_line(["poc", str(place.path), "--json"]) == 0
    run = place.last_run()
    assert json.loads(capsys.readouterr().out) == {
        "directory": str(place.path),
        "run": str(run.path),
        "report": str(run.path / "report.html"),
        **SUMMARY,
    }
    assert run_command_line(["poc", str(place.path), "--quiet"]) == 0
    assert capsys.readouterr().out == f"{run.path}\n"


def test_a_port_in_use_is_one_line_before_anything_is_made(place, calls, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        assert run_command_line(["poc", str(place.path), "--port", str(port)]) == 2
    assert capsys.readouterr().err == (
        f"error: --port: 127.0.0.1:{port} is in use by another process\n"
    )
    assert not place.path.exists()
    assert calls == []


def test_a_folder_that_exists_is_one_line(place, capsys):
    place.path.mkdir()
    (place.path / "mine").touch()
    assert run_command_line(["poc", str(place.path)]) == 2
    assert capsys.readouterr().err == (
        f"error: {place.path} exists and was not made by fedprune poc; want another "
        "folder\n"
    )
