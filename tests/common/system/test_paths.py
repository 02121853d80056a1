"""Folders, files and locks that an operator names: usable, or refused in one line."""

import os
import stat
from pathlib import Path

import pytest

from fedprune.common.errors import ConfigError
from fedprune.common.system.lock import hold, holder
from fedprune.common.system.paths import (
    check_output,
    check_readable,
    make_folder,
    make_private_folder,
)
from fedprune.common.system.processes import is_alive
from fedprune.server.devices.superlink import open_link


def test_a_folder_is_made_for_its_owner_only_and_stays_empty(tmp_path):
    make_private_folder(tmp_path / "a" / "b")
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_what_is_in_a_folder_stays(tmp_path):
    (tmp_path / "kept").write_text("x")
    make_private_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    said = r"cannot (use|make) the folder .*: \S*/file is a file; want a folder$"
    for folder in (tmp_path / "file", tmp_path / "file" / "clients" / "a"):
        for make in (make_private_folder, make_folder):
            with pytest.raises(ConfigError, match=said):
                make(folder)
    with pytest.raises(ConfigError, match=r"/file is a file; want a folder$"):
        check_readable(tmp_path / "file" / "ca.crt", "make it")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "theirs").mkdir(mode=0o500)
    with pytest.raises(ConfigError, match="Permission denied"):
        make_private_folder(tmp_path / "theirs")


def test_a_missing_file_comes_with_the_advice(tmp_path):
    for path in (tmp_path / "gone", tmp_path / "no" / "folder"):
        with pytest.raises(ConfigError, match=r"is missing; copy it$"):
            check_readable(path, "copy it")


def test_what_is_no_file_is_told_as_such(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*: Is a directory"):
        check_readable(tmp_path, "copy it")


def test_a_lock_has_one_holder_and_ends_with_its_block(tmp_path):
    path = tmp_path / "lock"
    assert holder(path) is None
    with hold(path, advice="wait"):
        assert holder(path) == os.getpid()
        with (
            pytest.raises(ConfigError, match=rf"process {os.getpid()}; wait$"),
            hold(path, advice="wait"),
        ):
            pass
    assert holder(path) is None
    with hold(path, advice="wait"):
        assert path.read_text() == f"{os.getpid()}\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look everywhere")
def test_a_state_folder_of_somebody_else_is_told_as_such(tmp_path):
    (tmp_path / "theirs").mkdir(mode=0o000)
    with pytest.raises(ConfigError, match="cannot look into"):
        is_alive(tmp_path / "theirs")
    with pytest.raises(ConfigError, match="cannot read"):
        open_link(tmp_path / "theirs")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", r"a folder; want a file, such as .*name\.html$"),
        ("folder.html", "a folder; want a file"),
        ("x.txt", r"want a file whose name ends in \.html$"),
        ("nodir/x.html", "there is no folder .*nodir; make it first$"),
        ("pipe.html", "want a file"),
        ("/proc/x.html", "cannot write into the folder /proc: "),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_work(tmp_path, name, message):
    (tmp_path / "folder.html").mkdir()
    os.mkfifo(tmp_path / "pipe.html")
    with pytest.raises(ConfigError, match=message):
        check_output(tmp_path / name, ".html")
    assert len([*tmp_path.iterdir()]) == 2


def test_a_file_that_is_there_may_be_replaced_and_nothing_is_left(tmp_path):
    (tmp_path / "x.html").write_text("old")
    for name in ("x.html", "new.html"):
        check_output(tmp_path / name, ".html")
    assert [path.name for path in tmp_path.iterdir()] == ["x.html"]


def test_a_folder_that_takes_no_file_is_told_as_such():
    with pytest.raises(ConfigError, match="cannot write into the folder /proc: "):
        make_folder(Path("/proc"))
