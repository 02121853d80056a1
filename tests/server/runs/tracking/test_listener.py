"""The seam between a run and its trackers, with trackers made for the test."""

import threading
import time

import numpy as np
import pytest
from helpers.some_events import CUT, FINISHED, RESUMED, ROUND, STARTED, at

from fedprune.common.artifacts import read_model_file, write_model_file
from fedprune.common.config import load_config
from fedprune.server.runs.folder import RunFolder
from fedprune.server.runs.tracking import listener, registry, tracked
from fedprune.server.runs.tracking.base import Ended, Tracker


class Recording(Tracker):
    """Keeps what it is told; fails in a method if asked to."""

    def __init__(self, *, fails="", sends=True):
        self.calls, self.fails, self._sends = [], fails, sends

    def _told(self, method, *arguments):
        if method == self.fails:
            message = "the disk is full"
            raise OSError(message)
        self.calls.append((method, *arguments))

    def start(self, run):
        self._told("start", run.token, dict(run.rounds))
        return "token"

    def log_round(self, run, round_, values):
        self._told("log_round", run, round_, dict(values))

    def log_result(self, values):
        self._told("log_result", dict(values))

    def sends(self):
        return self._sends

    def log_file(self, path):
        self._told("log_file", path.name)

    def end(self, ended):
        self._told("end", ended)


@pytest.fixture
def folder(tmp_path):
    made = RunFolder.create(tmp_path)
    for path in (made.model / "final.safetensors", made.plan, made.report):
        path.write_bytes(b"x")
    return made


def settle(tracking):
    """Wait until each tracker has done what it was given, or has failed."""
    for each in tracking._all:
        done = threading.Event()
        each.feed.put(done.set)
        while not (done.is_set() or each.feed.failure):
            time.sleep(0.001)


def follow(monkeypatch, folder, tracker, events, settings=()):
    """Hand events to one tracker; return the warnings that it gave."""
    monkeypatch.setattr(listener, "open_tracker", lambda _name: tracker)
    config = load_config(None, ['run.track=["tensorboard"]', *settings])
    given = []
    with tracked(folder, config) as tracking:
        tracking.warn_by(given.append)
        for event in events:
            tracking.on_event(event)
            settle(tracking)
    return given


def test_the_figures_of_a_round_are_one_record_with_those_of_its_cut(
    monkeypatch, folder
):
    tracker = Recording()
    follow(monkeypatch, folder, tracker, [STARTED, at(CUT, 1), at(ROUND, 1), FINISHED])
    start, one, result, *files, end = tracker.calls
    assert start == ("start", "", {})
    assert one[:3] == ("log_round", "main", 1)
    assert (one[3]["width/conv"], one[3]["loss"]) == (4.0, 1.25)
    assert result == ("log_result", {"rounds": 2.0, "accuracy_final": 0.5})
    assert files == [("log_file", "final.safetensors"), ("log_file", "plan.json")]
    assert end == ("end", Ended.FINISHED)


def test_a_resumed_run_goes_on_with_the_token_and_leaves_out_what_is_there(
    monkeypatch, folder
):
    rounds = [at(ROUND, 1), at(ROUND, 2), at(ROUND, 1, run="dense")]
    follow(monkeypatch, folder, Recording(), [STARTED, *rounds])
    again = Recording()
    later = [RESUMED, at(ROUND, 2), at(ROUND, 3), at(ROUND, 2, run="dense")]
    follow(monkeypatch, folder, again, later)
    assert again.calls[0] == ("start", "token", {"main": 2, "dense": 1})
    logged = [call[1:3] for call in again.calls if call[0] == "log_round"]
    assert logged == [("main", 3), ("dense", 2)]


def test_the_report_is_sent_to_another_machine_only_if_the_user_says_so(
    monkeypatch, folder
):
    def files(tracker, *settings):
        follow(monkeypatch, folder, tracker, [STARTED], settings)
        return [name for call, *name in tracker.calls if call == "log_file"]

    assert ["report.html"] not in files(Recording(sends=True))
    assert ["report.html"] in files(Recording(sends=False))
    assert ["report.html"] in files(Recording(sends=True), "run.track_clients=true")


@pytest.mark.parametrize(
    ("sends", "name"), [(True, "net.py:make"), (False, "/home/alice/net.py:make")]
)
def test_the_network_that_leaves_says_no_folder_of_this_machine(
    monkeypatch, folder, sends, name
):
    class Reading(Recording):
        def log_file(self, path):
            if path.name == "final.safetensors":
                self._told("network", read_model_file(path)[1]["model"])

    metadata = {
        "plan": "00" * 16,
        "structure": "11" * 16,
        "model": "/home/alice/net.py:make",
        "input_shape": "[4]",
        "num_outputs": "2",
    }
    tensors = {"w": np.ones((2, 4), np.float32)}
    network = folder.model / "final.safetensors"
    write_model_file(network, tensors, metadata)
    tracker = Reading(sends=sends)
    config = "task.model=/home/alice/net.py:make"
    follow(monkeypatch, folder, tracker, [STARTED, FINISHED], [config])
    assert ("network", name) in tracker.calls
    assert read_model_file(network)[1]["model"] == "/home/alice/net.py:make"


@pytest.mark.parametrize("method", ["start", "log_round"])
def test_a_tracker_that_fails_gives_one_warning_and_gets_nothing_more(
    monkeypatch, folder, capsys, method
):
    tracker = Recording(fails=method)
    events = [STARTED, at(ROUND, 1), at(ROUND, 2), FINISHED]
    given = follow(monkeypatch, folder, tracker, events)
    (warning,) = given
    assert "tracker tensorboard has failed" in warning.text
    assert "the disk is full" in warning.text
    assert [call[0] for call in tracker.calls] in ([], ["start"])
    assert capsys.readouterr().err == ""


def test_a_failure_after_the_events_is_one_line_on_standard_error(
    monkeypatch, folder, capsys
):
    tracker = Recording(fails="end")
    monkeypatch.setattr(listener, "open_tracker", lambda _name: tracker)
    with tracked(folder, load_config(None, ['run.track=["mlflow"]'])) as tracking:
        tracking.on_event(STARTED)
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("warning: the tracker mlflow has failed")


def test_a_tracker_that_hangs_does_not_hold_the_run(monkeypatch, folder, capsys):
    class Hanging(Recording):
        def start(self, run):
            threading.Event().wait()

    monkeypatch.setattr(listener, "open_tracker", lambda _name: Hanging())
    monkeypatch.setattr(listener, "_LIMIT_S", 0.05)
    with tracked(folder, load_config(None, ['run.track=["mlflow"]'])) as tracking:
        tracking.on_event(STARTED)
    assert "not taken everything after 0.05 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "ended"),
    [(KeyboardInterrupt, Ended.INTERRUPTED), (ValueError, Ended.FAILED)],
)
def test_how_the_run_ended_is_told(monkeypatch, folder, error, ended):
    tracker = Recording()
    monkeypatch.setattr(listener, "open_tracker", lambda _name: tracker)
    config = load_config(None, ['run.track=["mlflow"]'])

    def run():
        with tracked(folder, config) as tracking:
            tracking.on_event(STARTED)
            raise error

    with pytest.raises(error):
        run()
    assert tracker.calls[1:] == [("end", ended)]


def test_a_broken_state_of_a_tracker_is_its_failure(monkeypatch, folder, capsys):
    folder.tracking.mkdir()
    (folder.tracking / "mlflow.json").write_text('{"token": 3}')
    tracker = Recording()
    monkeypatch.setattr(listener, "open_tracker", lambda _name: tracker)
    with tracked(folder, load_config(None, ['run.track=["mlflow"]'])) as tracking:
        tracking.on_event(STARTED)
    assert tracker.calls == []
    assert "remove it to start the tracker anew" in capsys.readouterr().err


def test_without_trackers_nothing_is_made(folder):
    with tracked(folder, load_config()) as tracking:
        tracking.on_event(STARTED)
    assert not folder.tracking.exists()


def test_a_missing_package_is_one_line_with_its_extra(monkeypatch):
    monkeypatch.setattr(registry, "find_spec", lambda _name: None)
    for name in registry.TRACKERS:
        with pytest.raises(registry.ConfigError) as caught:
            registry.check_trackers([name])
        assert f"run: pip install 'fedprune[{name}]'" in str(caught.value)


def test_wandb_without_a_key_is_refused_before_it_would_ask(monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(registry, "find_spec", lambda _name: True)
    with pytest.raises(registry.ConfigError, match=r"wandb login.*WANDB_MODE=offline"):
        registry.check_trackers(["wandb"])
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password k\n")
    (tmp_path / ".netrc").chmod(0o600)
    registry.check_trackers(["wandb"])
