"""Serving a run: what is wrong leaves nothing behind, what has ended stays as it is."""

import json

import pytest
from flwr.app import Context, RecordDict
from helpers.some_events import STARTED

from fedprune.common.errors import ConfigError, IntegrityError
from fedprune.common.system.atomic import write_json_atomic
from fedprune.server import app
from fedprune.server.devices.service import Service
from fedprune.server.devices.superlink import Link
from fedprune.server.runs.events import EventLog, RunFinished
from fedprune.server.runs.folder import RunFolder
from fedprune.simulations.cli import run_command_line

# A budget that no network meets, on a server without data.
BAD = ("prune.budget.params=0.0001", "task.outputs=10", "task.input_shape=[1,8,8]")
SET = [word for text in BAD for word in ("--set", text)]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def finished(tmp_path):
    """Return the folder of a run that has ended."""
    folder = RunFolder.create(tmp_path / "runs", "ended")
    with EventLog(folder.events) as log:
        log.write(STARTED)
        log.write(RunFinished(summary={"rounds": 7}))
    write_json_atomic(folder.summary, {"rounds": 7})
    return folder


def content(folder):
    """Return everything that lies in a folder, with the time of its last change."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def refuse(*_):
    raise AssertionError


def test_serve_tries_the_network_before_it_makes_anything(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(Service, "__enter__", refuse)
    code = run_command_line(["serve", "--insecure", *SET])
    assert code == ConfigError.exit_code
    assert "cannot be met" in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_submit_tries_the_network_before_it_makes_anything(
    tmp_path, monkeypatch, capsys
):
    link = Link(state=tmp_path / "state", host="127.0.0.1", port=1, control=2, tls=None)
    monkeypatch.setattr("fedprune.server.devices.superlink.live_link", lambda _: link)
    for name in ("register", "submit"):
        monkeypatch.setattr(Link, name, refuse)
    assert run_command_line(["submit", *SET]) == ConfigError.exit_code
    assert "cannot be met" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def context(**table):
    return Context(1, 1, {}, RecordDict(), table)


def test_a_run_of_the_flower_app_is_tried_before_it_has_a_folder(tmp_path):
    table = {"config": "", "set": ";".join(BAD), "run-dir": str(tmp_path / "runs")}
    with pytest.raises(ConfigError, match="cannot be met"):
        app.main(None, context(**table))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["serve", "--insecure"], ["submit"]])
def test_a_finished_run_stays_exactly_as_it_is(command, finished, tmp_path, capsys):
    before = content(tmp_path)
    words = [*command, "--resume", str(finished.path)]
    assert run_command_line(words) == 0
    said = capsys.readouterr()
    assert said.out == f"{finished.path} has finished already; nothing was changed\n"
    assert said.err == ""
    assert run_command_line([*words, "--quiet"]) == 0
    assert capsys.readouterr().out == f"{finished.path}\n"
    assert run_command_line([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"directory": str(finished.path), "rounds": 7}
    assert content(tmp_path) == before


def test_a_finished_run_says_where_its_report_is(finished, capsys):
    finished.report.write_text("x")
    assert run_command_line(["submit", "--resume", str(finished.path)]) == 0
    assert f"report: {finished.report}\n" in capsys.readouterr().out


def test_a_finished_run_that_flower_starts_again_stays_as_it_is(finished, tmp_path):
    before = content(tmp_path)
    app.main(None, context(run=str(finished.path)))
    assert content(tmp_path) == before


def test_a_run_that_has_written_its_figures_alone_has_not_ended(finished, monkeypatch):
    with EventLog(finished.events) as log:
        log.drop_after(0)
    monkeypatch.setattr(Service, "__enter__", refuse)
    words = ["serve", "--insecure", "--resume", str(finished.path)]
    with pytest.raises(AssertionError):
        run_command_line(words)


@pytest.mark.parametrize("command", [["serve", "--insecure"], ["submit"]])
def test_a_run_with_events_of_another_version_is_refused_first(
    command, finished, tmp_path, capsys
):
    finished.events.write_bytes(finished.events.read_bytes().split(b"\n", 1)[1])
    before = content(tmp_path)
    words = [*command, "--resume", str(finished.path)]
    assert run_command_line(words) == IntegrityError.exit_code
    assert "with events version 1; this version reads 8" in capsys.readouterr().err
    assert content(tmp_path) == before
