"""Commands of an operator on a running server: submit, status, stop, resume."""

import contextlib
import json

import pytest
from helpers.federation import IDS, Federation
from helpers.processes import child, fedprune, wait_for

from fedprune.server.runs.events import (
    RoundFinished,
    RunStopped,
    describe,
    of_kind,
    read_events,
)
from fedprune.server.runs.folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(600)]

PATIENCE_S = 240
LONG = 24  # epochs
FIRST, SECOND, THIRD = IDS


def test_an_operator_submits_looks_stops_and_resumes(tmp_path):
    # Long enough that the run cannot end before it is stopped, on a slow machine too.
    federation = Federation(tmp_path, epochs=LONG)
    federation.make_certificates(clients=(FIRST, SECOND))
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(federation.serve("--quiet"))
        wait_for(lambda: names(federation) == {FIRST, SECOND}, PATIENCE_S, "keys")
        assert call(federation, "stop") == (0, "stopped: nothing was running\n")
        federation.make_certificates(host=None, clients=IDS)
        clients = [stack.enter_context(federation.client(name)) for name in IDS]

        # 1. A run starts, and the new key is let in.
        first = ask(federation, "submit", str(federation.file))
        folder = RunFolder.open(federation.run)
        assert first["directory"] == str(folder.path)
        wait_for(lambda: rounds(folder), PATIENCE_S, "a round")
        found = ask(federation, "status")
        assert found["runs"][0]["status"] == "running"
        assert found["runs"][0]["folder"] == str(folder.path)
        assert states(found) == dict.fromkeys(IDS, "online")
        code, said = call(federation, "status")
        assert (code, f"run {first['number']}: running" in said) == (0, True)
        assert f"client {THIRD}: online" in said
        assert call(federation, "status", "--check") == (0, "")
        assert whole(federation, FIRST)

        # 2. It is stopped; a number that is none is refused in one line.
        code, said = call(federation, "stop", "999")
        assert (code, said.count("\n")) == (5, 1)
        assert said.endswith("refused stop 999: [code: 16] Run ID not found.\n")
        assert ask(federation, "stop") == {"stopped": [first["number"]]}
        wait_for(lambda: folder.holder() is None, PATIENCE_S, "the end of the run")
        assert_stopped(federation, folder)
        assert not folder.summary.exists()

        # 3. It continues from its checkpoint, to its end on every device.
        done = len(rounds(folder))
        again = ask(federation, "submit", "--resume", str(folder.path))
        assert again["number"] != first["number"]
        wait_for(folder.summary.exists, PATIENCE_S, server.output)
        for client in clients:
            assert client.wait(PATIENCE_S) == 0, client.output
    summary = json.loads(folder.summary.read_bytes())
    assert rounds(folder) == list(range(1, summary["rounds"] + 1))
    assert summary["rounds"] == 7 > done
    code, said = call(federation, "status")
    assert (code, "no server answers at" in said) == (5, True)


def assert_stopped(federation, folder):
    """Its last event, and the status, say that the run was stopped."""
    stopped = RunStopped(rounds=len(rounds(folder)))
    assert read_events(folder.events)[-1] == stopped
    found = ask(federation, "status")["runs"][0]
    said = ("finished:stopped", describe(stopped))
    assert (found["status"], found["last"]) == said


def command(federation, *words):
    return fedprune(*words, "--state", str(federation.state))


def call(federation, *words):
    """Return exit code and output of a command that asks the server."""
    with child(command(federation, *words), federation.folder) as done:
        code = done.wait(PATIENCE_S)
        return code, done.output


def ask(federation, *words):
    return federation.ask(*words, "--state", str(federation.state))


def names(federation):
    registered = federation.state / "registered.json"
    return set(json.loads(registered.read_text())) if registered.exists() else set()


def rounds(folder):
    return [e.round for e in of_kind(read_events(folder.events), RoundFinished)]


def states(found):
    return {client["client"]: client["status"] for client in found["clients"]}


def whole(federation, name):
    words = fedprune("status", "--check", "--state", str(federation.device(name)))
    with child(words, federation.folder) as done:
        return done.wait(PATIENCE_S) == 0
