"""The run folder: made, opened, locked; files written whole or not at all."""

import errno
import json
import os
import subprocess
import sys

import pytest

import fedprune.common.system.atomic
from fedprune.common.config import Config, Run, load_config
from fedprune.common.errors import ConfigError, FedPruneError, IntegrityError
from fedprune.common.system.atomic import write_bytes_atomic, write_json_atomic
from fedprune.server.runs.checkpoint import _append_line
from fedprune.server.runs.events import EventLog
from fedprune.server.runs.folder import RunFolder

HOLD = """
import sys, time
from pathlib import Path
from fedprune.server.runs.folder import RunFolder
with RunFolder.open(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_new_folder_holds_config_and_manifest_and_opens_again(tmp_path):
    made = RunFolder.create(
        tmp_path, "digits", manifest={"seed": 3}, config=Config(run=Run(seed=3))
    )
    opened = RunFolder.open(made.path)
    assert opened.read_manifest()["seed"] == 3
    assert opened.run_id == made.path.name
    assert "-digits-" in made.path.name
    assert load_config(opened.config).run.seed == 3
    assert not opened.latency.exists()
    assert opened.checkpoints.is_dir()
    assert opened.model.is_dir()


def test_two_runs_of_one_second_get_two_folders(tmp_path):
    paths = {RunFolder.create(tmp_path, "a").path for _ in range(5)}
    assert len(paths) == 5


def test_a_name_cannot_leave_the_base_folder(tmp_path):
    made = RunFolder.create(tmp_path, "../../etc/x y")
    assert made.path.parent == tmp_path


def test_a_base_that_is_a_file_is_a_config_error(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(ConfigError, match="cannot make the run folder"):
        RunFolder.create(tmp_path / "runs", "a")


def test_what_is_no_run_folder_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="no such run folder"):
        RunFolder.open(tmp_path / "absent")
    with pytest.raises(ConfigError, match=r"no manifest\.json"):
        RunFolder.open(tmp_path)


def test_a_file_in_place_of_a_run_folder_is_called_one_and_its_run_named(tmp_path):
    run = RunFolder.create(tmp_path, "a")
    (run.model / "x.onnx").write_text("")
    for file in (run.manifest, run.model / "x.onnx"):
        said = f"{file} is a file; want the run folder: {run.path}"
        with pytest.raises(ConfigError, match=f"^{said}$"):
            RunFolder.open(file)
    (tmp_path / "alone").write_text("")
    with pytest.raises(ConfigError, match=r"alone is a file; want a run folder$"):
        RunFolder.open(tmp_path / "alone")
    with pytest.raises(ConfigError, match=r"alone is a file; want a folder$"):
        RunFolder.create(tmp_path / "alone", "a")


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "other/1"}'])
def test_a_broken_or_foreign_manifest_is_an_integrity_error(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"manifest.json"):
        RunFolder.open(tmp_path)


@pytest.mark.slow
def test_a_second_process_is_refused_in_one_line_that_names_the_first(tmp_path):
    folder = RunFolder.create(tmp_path, "a")
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder.path)],
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout.readline() == b"held\n"
        assert folder.holder() == process.pid
        with (
            pytest.raises(ConfigError, match=f"in use by process {process.pid}") as e,
            folder.locked(),
        ):
            pass
        assert "\n" not in str(e.value)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    with folder.locked():  # kill -9 leaves no stale lock
        assert folder.holder() == os.getpid()
    assert folder.holder() is None


def test_the_lock_ends_when_the_work_inside_fails(tmp_path):
    folder = RunFolder.create(tmp_path, "a")
    with pytest.raises(ZeroDivisionError), folder.locked():
        _ = 1 / 0
    assert folder.holder() is None


def test_an_atomic_write_replaces_the_whole_file_and_leaves_no_sibling(tmp_path):
    path = tmp_path / "x.bin"
    write_bytes_atomic(path, b"old and long")
    write_bytes_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_written_as_text_and_a_figure_without_a_value_is_null(tmp_path):
    path = tmp_path / "x.json"
    write_json_atomic(path, {"b": 1, "a": "ü", "c": [float("nan"), float("-inf")]})
    assert path.read_text().startswith('{\n  "b": 1,\n  "a": "ü"')
    assert json.loads(path.read_text())["c"] == [None, None]


def test_a_full_disk_names_path_and_bytes_and_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.bin"
    write_bytes_atomic(path, b"old")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fedprune.common.system.atomic.os, "fsync", full)
    with pytest.raises(FedPruneError, match="7 bytes needed") as error:
        write_bytes_atomic(path, b"1234567")
    assert str(path) in str(error.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_another_failure_names_the_path_and_its_cause(tmp_path):
    with pytest.raises(FedPruneError, match=r"cannot write .*absent"):
        write_bytes_atomic(tmp_path / "absent" / "x", b"1")


def hold_it(folder):
    with folder.locked():
        pass


def journal(folder):
    _append_line(folder.checkpoints / "main-journal.jsonl", "{}")


WRITERS = {
    ".lock": hold_it,
    "events.jsonl": lambda folder: EventLog(folder.events),
    "checkpoints/main-journal.jsonl": journal,
    ".plan.json.0.tmp": lambda f: write_json_atomic(f.plan, {}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_link_that_came_later_is_not_written_through(tmp_path, name, monkeypatch):
    folder = RunFolder.create(tmp_path / "runs")
    # Else that of a temporary file could not be foreseen.
    monkeypatch.setattr(fedprune.common.system.atomic, "token_hex", lambda _: "0")
    link = folder.path / name
    for target in (tmp_path / "mine", tmp_path / "absent"):
        if target.name == "mine":
            target.write_text("")
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        with pytest.raises(IntegrityError, match="is a link") as error:
            WRITERS[name](folder)
        assert len(str(error.value).splitlines()) == 1
    assert (tmp_path / "mine").read_text() == ""
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("name", ["events.jsonl", ".lock", "checkpoints/x", "model"])
def test_a_run_folder_that_leads_elsewhere_is_refused(tmp_path, name):
    folder = RunFolder.create(tmp_path / "runs")
    target = tmp_path / "elsewhere"
    target.write_text("mine")
    link = folder.path / name
    link.parent.mkdir(exist_ok=True)
    if link.is_dir():
        link.rmdir()
    link.symlink_to(target)
    with pytest.raises(IntegrityError, match="is a link or not a plain file"):
        RunFolder.open(folder.path)
    assert target.read_text() == "mine"


def test_a_pipe_in_a_run_folder_is_refused_and_not_waited_for(tmp_path):
    folder = RunFolder.create(tmp_path / "runs")
    os.mkfifo(folder.path / "events.jsonl")
    with pytest.raises(IntegrityError, match="is a link or not a plain file"):
        RunFolder.open(folder.path)
