"""Bytes of replies on their way: counted, bounded, forgotten."""

import pytest

from fedprune.server.devices.gate.uploads import EXPIRY_S, ROOM, Uploads, Verdict

LIMIT = 1000


@pytest.fixture
def clock():
    return [0.0]


@pytest.fixture
def uploads(clock):
    made = Uploads(lambda: clock[0])
    made.announce("root", "question", "notice")
    made.begin("root", "session", ["a", "b"])
    return made


def test_a_reply_is_ready_when_it_is_whole(uploads):
    assert uploads.ready(["question", "other"]) == ["other"]
    for name in ("a", "b"):
        assert uploads.admit("session", name, 10, LIMIT) is Verdict.STORE
        uploads.stored("session", name)
    assert uploads.ready(["question", "other"]) == ["question", "other"]
    assert len(uploads) == 0


def test_the_bytes_of_a_reply_are_bounded_as_a_whole(uploads):
    assert uploads.admit("session", "a", LIMIT, LIMIT) is Verdict.STORE
    uploads.stored("session", "a")
    assert uploads.admit("session", "b", ROOM, LIMIT) is Verdict.STORE
    assert uploads.admit("session", "b", 1, LIMIT) is Verdict.OVER
    assert uploads.notice("session") == "notice"


def test_another_session_of_the_same_reply_counts_on(uploads):
    uploads.admit("session", "a", LIMIT + ROOM, LIMIT)
    uploads.announce("root", "question", "notice")
    uploads.begin("root", "second", ["a", "b"])
    assert uploads.admit("second", "b", 1, LIMIT) is Verdict.OVER


def test_an_object_that_was_not_asked_for_is_left_to_flower(uploads):
    assert uploads.admit("session", "c", 9 * ROOM, LIMIT) is Verdict.UNKNOWN
    assert uploads.admit("other", "a", 9 * ROOM, LIMIT) is Verdict.UNKNOWN


def test_a_reply_whose_objects_are_all_there_is_ready_at_once(uploads):
    uploads.announce("second", "another", None)
    assert uploads.ready(["another"]) == []
    uploads.begin("second", "s", [])
    assert uploads.ready(["another"]) == ["another"]


def test_what_makes_no_progress_is_forgotten(uploads, clock):
    clock[0] = EXPIRY_S - 1.0
    uploads.admit("session", "a", 1, LIMIT)
    clock[0] = EXPIRY_S + 1.0
    assert uploads.ready(["question"]) == []
    clock[0] = 2 * EXPIRY_S
    assert uploads.ready(["question"]) == ["question"]
    assert len(uploads) == 0


def test_a_withdrawn_reply_leaves_nothing(uploads):
    uploads.withdraw("root")
    assert len(uploads) == 0
    assert uploads.notice("session") is None
    uploads.begin("root", "session", ["a"])
    uploads.stored("session", "a")
    assert len(uploads) == 0
