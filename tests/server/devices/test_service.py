"""Ends of runs as a server sees them, and events that end no server."""

from types import SimpleNamespace

import pytest
from helpers.log_lines import texts

from fedprune.common.errors import FedPruneError
from fedprune.server.devices import service
from fedprune.server.devices.run_config import resume_command
from fedprune.server.devices.service import Service
from fedprune.server.runs.events import Follower
from fedprune.server.runs.folder import RunFolder


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that moves by each pause."""
    now = [0.0]
    monkeypatch.setattr(service.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(service.time, "sleep", lambda s: now.__setitem__(0, now[0] + s))
    return now


@pytest.fixture
def follow(tmp_path):
    """Return a function that follows run 7 on a link that says what still runs."""
    folder = RunFolder(tmp_path)

    def start(running):
        link = SimpleNamespace(state=tmp_path, running=running)
        made = Service(link, metrics="", quiet=True)
        return made._follow(folder, Follower(folder.events), 7)

    return start


def test_a_run_that_flower_has_ended_and_no_process_took_up_is_over(follow, clock):
    assert follow(lambda: [6]) is None
    assert 90.0 < clock[0] < 92.0


def test_a_run_that_waits_to_be_taken_up_is_waited_for(follow, clock):
    answers = iter([[7], [7], []])
    assert follow(lambda: next(answers)) is None
    assert list(answers) == []
    assert 270.0 < clock[0] < 275.0


def test_a_run_that_somebody_had_and_lost_is_over_at_once(follow, clock, monkeypatch):
    held = iter([None, 4711, 4711, None])
    monkeypatch.setattr(RunFolder, "holder", lambda _: next(held))

    def never():
        raise AssertionError

    assert follow(never) is None
    assert clock[0] < 5.0


def test_a_key_that_is_refused_ends_no_server(tmp_path, capsys):
    def refuse():
        msg = "the server refused supernode register: no key"
        raise FedPruneError(msg)

    link = SimpleNamespace(state=tmp_path, register=refuse)
    Service(link, metrics="", quiet=False)._register()
    link.register = lambda: ["edge-02"]
    Service(link, metrics="", quiet=False)._register()
    assert texts(capsys.readouterr().out) == [
        "no key registered: the server refused supernode register: no key",
        "clients registered: edge-02",
    ]


def test_a_printed_command_can_be_pasted_whatever_the_folders_name():
    assert resume_command("my runs/a") == "fedprune simulate --resume 'my runs/a'"
