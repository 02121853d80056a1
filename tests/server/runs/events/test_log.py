"""The event log: append-only, crash safe, of one version, cut back on resume."""

import errno
import json
import os
from dataclasses import replace
from datetime import datetime

import pytest
from helpers.some_events import (
    CHECK,
    CLIENT,
    CUT,
    DELIVERED,
    FAILED,
    FINISHED,
    MASK,
    ONE_OF_EACH,
    RESUMED,
    ROLLBACK,
    ROUND,
    STARTED,
    WARNING,
    at,
    write_all,
)

from fedprune.common.errors import IntegrityError, StorageError
from fedprune.common.version import __version__
from fedprune.server.runs.events import (
    DENSE,
    EventLog,
    Follower,
    OfRound,
    RoundFinished,
    WarningGiven,
    has_started,
    of_kind,
    read_events,
)

VERSION_1 = b'{"time":"2026-07-01T10:00:00.000+00:00","event":"run_started"}\n'


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def written(path, *events):
    with EventLog(path) as log:
        write_all(log, events)
    return path.read_bytes()


def rounds_of(path):
    return [(e.run, e.round) for e in of_kind(read_events(path), RoundFinished)]


def test_what_is_written_is_read_back_in_order(path):
    written(path, *ONE_OF_EACH)
    assert tuple(read_events(path)) == ONE_OF_EACH


def test_every_line_is_plain_json_with_a_utc_time(path):
    lines = written(path, *ONE_OF_EACH).splitlines()
    assert len(lines) == len(ONE_OF_EACH) + 1
    for line in lines:
        time = json.loads(line)["time"]
        assert datetime.fromisoformat(time).utcoffset().total_seconds() == 0


def test_line_ends_in_a_text_are_no_line_ends(path):
    event = replace(WARNING, text="zwölf\nLines\r")
    assert written(path, event).count(b"\n") == 2
    assert read_events(path) == [event]


def test_a_line_is_on_disk_before_write_returns(path):
    log = EventLog(path)
    log.write(CLIENT)
    assert read_events(path) == [CLIENT]
    log.close()


@pytest.mark.parametrize(
    ("event", "synced"),
    [
        *(
            (event, 1)
            for event in (STARTED, ROUND, CUT, CHECK, ROLLBACK, MASK, FINISHED)
        ),
        *((event, 0) for event in (CLIENT, WARNING, RESUMED, DELIVERED, FAILED)),
    ],
)
def test_what_a_resume_cannot_write_again_is_through_to_the_disk(
    path, monkeypatch, event, synced
):
    with EventLog(path) as log:
        calls = []
        monkeypatch.setattr("os.fsync", calls.append)
        log.write(event)
        assert len(calls) == synced


def test_listeners_hear_every_event_after_it_is_on_disk(path):
    heard = []
    with EventLog(path, [lambda e: heard.append((e, read_events(path)))]) as log:
        write_all(log, (WARNING, RESUMED))
    assert heard == [(WARNING, [WARNING]), (RESUMED, [WARNING, RESUMED])]


@pytest.mark.parametrize("cut", range(1, 60, 3))
def test_a_torn_last_line_is_ignored_and_replaced_by_the_next_event(path, cut):
    whole = written(path, WARNING, ROUND)
    path.write_bytes(whole[:-cut])
    assert read_events(path) == [WARNING]
    written(path, RESUMED)
    assert read_events(path) == [WARNING, RESUMED]


@pytest.mark.parametrize("size", [0, 1, 40])
def test_a_log_with_a_torn_header_is_begun_again(path, size):
    path.write_bytes(written(path)[:size])
    assert read_events(path) == []
    written(path, WARNING)
    assert read_events(path) == [WARNING]
    assert len(path.read_bytes().splitlines()) == 2


def test_a_last_line_of_zeros_as_a_loss_of_power_leaves_it_is_ignored(path):
    path.write_bytes(written(path, WARNING) + bytes(100) + b"\n")
    assert read_events(path) == [WARNING]


@pytest.mark.parametrize("line", [b'{"event":', b"7", b"[]", b'{"event":1}', b"[" * 99])
def test_a_broken_line_before_the_last_is_refused_with_its_number(path, line):
    head, first = written(path, WARNING).splitlines(keepends=True)
    path.write_bytes(head + line + b"\n" + first)
    for read in (read_events, EventLog):
        with pytest.raises(
            IntegrityError, match=r"events\.jsonl:2: not an event; want"
        ):
            read(path)


def test_a_last_line_that_is_json_but_no_event_is_refused(path):
    path.write_bytes(written(path) + b'{"event":"half"}\n')
    with pytest.raises(IntegrityError, match=r"jsonl:2: found an event 'half'; want"):
        read_events(path)


def test_an_absent_log_has_no_events(path):
    assert read_events(path) == []


WAY_OUT = "this version reads 8: use that version to read or resume it"
OTHERS = {
    "a log that names no version": (
        VERSION_1,
        f"written by fedprune 0.1.0 with events version 1; {WAY_OUT}",
    ),
    "a later version": (
        b'{"event":"log","version":9,"written_by":"fedprune 9","more":1}\n',
        f"written by fedprune 9 with events version 9; {WAY_OUT}",
    ),
}


@pytest.mark.parametrize(("line", "message"), OTHERS.values(), ids=OTHERS)
def test_a_log_of_another_version_is_refused_in_one_line(path, line, message):
    path.write_bytes(line + VERSION_1)
    follower = Follower(path)
    for read in (read_events, EventLog, lambda _: follower.skip()):
        with pytest.raises(IntegrityError) as error:
            read(path)
        assert str(error.value) == f"{path}: {message}"
    assert path.read_bytes() == line + VERSION_1


def test_the_log_says_its_version_and_who_wrote_it_once(path):
    written(path, WARNING)
    head, *rest = (json.loads(line) for line in written(path, RESUMED).splitlines())
    assert (head["version"], head["written_by"]) == (8, f"fedprune {__version__}")
    assert all("version" not in line for line in rest)


def test_drop_after_removes_later_rounds_and_the_end_but_nothing_else(path):
    with EventLog(path) as log:
        log.write(STARTED)
        for number in (1, 2, 3):
            of_round = (CLIENT, ROUND, replace(ROUND, run=DENSE))
            write_all(log, tuple(at(event, number) for event in of_round))
        write_all(log, (at(CUT, 3), WARNING, FINISHED))
        log.drop_after(2)
        log.write(RESUMED)
    found = read_events(path)
    assert [e.round for e in of_kind(found, OfRound)] == [1] * 3 + [2] * 3 + [0]
    assert (found[0], found[-2:]) == (STARTED, [WARNING, RESUMED])


def test_drop_after_of_one_run_leaves_the_other(path):
    with EventLog(path) as log:
        for number in (1, 2, 3):
            log.write(at(ROUND, number))
            log.write(at(ROUND, number, run=DENSE))
        log.drop_after(1, run="main")
    assert rounds_of(path) == [
        ("main", 1),
        ("dense", 1),
        ("dense", 2),
        ("dense", 3),
    ]


def test_what_drop_after_leaves_keeps_its_bytes(path):
    before = written(path, STARTED, at(WARNING, 1))
    with EventLog(path) as log:
        log.write(at(ROUND, 2))
        log.drop_after(1)
    assert path.read_bytes() == before


def test_a_start_that_failed_is_no_start(path):
    assert not has_started(path)
    written(path, FAILED)
    assert not has_started(path)
    written(path, STARTED)
    assert has_started(path)


def test_a_follower_gives_each_whole_line_once(path):
    follower = Follower(path)
    assert list(follower.new()) == []
    with EventLog(path) as log:
        log.write(WARNING)
        assert list(follower.new()) == [WARNING]
        log.write(at(WARNING, 2))
    with path.open("a") as file:
        file.write('{"event": "half')
    assert list(follower.new()) == [at(WARNING, 2)]
    assert list(follower.new()) == []


def test_a_follower_starts_over_in_a_log_that_was_cut_back(path):
    follower = Follower(path)
    with EventLog(path) as log:
        write_all(log, (at(WARNING, 1), at(WARNING, 2)))
        follower.skip()
        log.drop_after(1)
        assert list(follower.new()) == [at(WARNING, 1)]


def test_a_follower_of_a_resumed_run_gives_no_end_twice(path):
    """An old failure would end the waiting for the run that goes on."""
    follower = Follower(path)
    with EventLog(path) as log:
        many = [at(WARNING, 2) for _ in range(9)]
        write_all(log, (STARTED, at(WARNING, 1), *many, FAILED))
        follower.skip()
        log.write(RESUMED)
        log.drop_after(1)
        log.write(at(WARNING, 2))
        assert list(follower.new()) == [RESUMED, at(WARNING, 2)]


def test_a_follower_reads_on_in_a_log_that_is_longer_than_before(path):
    """What a resume dropped, and more, was written again between two looks."""
    long = replace(at(WARNING, 2), text="b" * 99)
    follower = Follower(path)
    with EventLog(path) as log:
        write_all(log, (STARTED, at(WARNING, 1), at(WARNING, 2)))
        follower.skip()
        log.drop_after(1)
        write_all(log, (long, long))
        found = list(follower.new())
    assert found[-2:] == [long, long]
    assert found[:-2] == [at(WARNING, 1)]


def test_a_follower_gives_nothing_twice_where_a_resume_dropped_nothing(path):
    follower = Follower(path)
    with EventLog(path) as log:
        write_all(log, (STARTED, at(WARNING, 1)))
        follower.skip()
        log.drop_after(1)
        assert list(follower.new()) == []


def test_a_follower_refuses_a_line_that_is_no_event_with_its_number(path):
    path.write_bytes(written(path, RESUMED) + b"[1]\n")
    with pytest.raises(IntegrityError, match=r"jsonl:3: not an event"):
        Follower(path).skip()


def test_a_warning_of_no_round_outlives_every_resume(path):
    with EventLog(path) as log:
        write_all(log, (WARNING, at(WARNING, 1)))
        log.drop_after(0)
    assert list(of_kind(read_events(path), WarningGiven)) == [WARNING]


@pytest.mark.parametrize(
    "line",
    [
        (
            b'{"time":"2026-07-01T10:00:00.000+00:00","event":"run_failed","text":"a",'
            b'"text":"b","exit_code":5}\n'
        ),
        b'{"event":"run_failed","text":"' + b"a" * (1 << 24) + b'"}\n',
    ],
    ids=["a field twice", "too long"],
)
def test_a_line_that_says_a_field_twice_or_is_too_long_is_refused(line, tmp_path):
    path = tmp_path / "events.jsonl"
    with EventLog(path):
        pass
    path.write_bytes(path.read_bytes() + line + b"{}\n{}\n")
    with pytest.raises(IntegrityError, match=r"events\.jsonl:2: not an event"):
        read_events(path)


class Full:
    """A file of a disk that is full."""

    closed = False

    def __init__(self, file):
        self.file = file

    def write(self, data):
        return len(data)

    def flush(self):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.file.close()


def test_a_full_disk_is_one_error_that_names_the_log(path):
    log = EventLog(path)
    log._file = Full(log._file)

    def write():
        with log:
            log.write(ROUND)

    with pytest.raises(StorageError, match=f"no space left for {path}: ") as caught:
        write()
    assert " 0 bytes needed" not in str(caught.value)


def test_a_disk_that_is_full_in_the_end_is_one_error_too(path):
    log = EventLog(path)
    log._file = Full(log._file)
    with pytest.raises(StorageError, match=f"no space left for {path}"):
        log.close()
