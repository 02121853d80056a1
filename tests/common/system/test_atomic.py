"""Atomic writes beside each other, and what writers that were killed have left."""

import threading

import pytest

from fedprune.common.errors import StorageError
from fedprune.common.system import atomic
from fedprune.common.system.atomic import drop_unfinished, replacing, write_bytes_atomic
from fedprune.simulations.engines.faults import before_rename, forked


def test_two_writers_of_one_file_may_have_one_process_id(tmp_path, monkeypatch):
    """As in containers that share a folder."""
    both, real = threading.Barrier(2, timeout=10), atomic._write_through
    failed = []

    def together(*given, **options):
        real(*given, **options)
        both.wait()

    def write():
        try:
            write_bytes_atomic(tmp_path / "x", b"equal", durable=False)
        except StorageError as error:
            failed.append(error)

    monkeypatch.setattr(atomic, "_write_through", together)
    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert failed == []
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"equal"]


def write_whole(path):
    write_bytes_atomic(path, b"1")


def write_piece_by_piece(path):
    with replacing(path, 1) as file:
        file.write(b"1")


@pytest.mark.parametrize("write", [write_whole, write_piece_by_piece])
def test_what_a_killed_writer_has_left_is_dropped_and_nothing_else(tmp_path, write):
    path = tmp_path / "clients" / "a" / "round-00001.safetensors"
    path.parent.mkdir(parents=True)
    kept = [path.with_name(name) for name in ("x.tmp", ".y.tmp", ".z.0a.tmp.txt")]
    for one in kept:
        one.write_bytes(b"mine")

    def killed():
        before_rename("round-", 1)
        write(path)

    assert forked(killed) == -9
    left = sorted(path.parent.iterdir())
    assert len(left) == 1 + len(kept)
    drop_unfinished(tmp_path)
    assert sorted(path.parent.iterdir()) == sorted(kept)
    drop_unfinished(tmp_path / "absent")


def test_a_file_that_cannot_be_written_names_it_and_its_cause(tmp_path):
    with pytest.raises(StorageError, match=r"cannot write .*absent") as caught:
        write_bytes_atomic(tmp_path / "absent" / "x", b"1")
    assert caught.value.exit_code == 5
    assert list(tmp_path.iterdir()) == []
