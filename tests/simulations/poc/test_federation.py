"""Processes of a proof of concept, with small programs in place of Flower's."""

import os
import sys
from pathlib import Path

import pytest

from fedprune.common.errors import ConfigError, DataError, FedPruneError, RoundError
from fedprune.common.system.lock import hold
from fedprune.common.system.processes import Process
from fedprune.server.runs.folder import RunFolder
from fedprune.simulations.poc import commands, federation
from fedprune.simulations.poc.federation import Federation
from fedprune.simulations.poc.folder import PocFolder, Settings

WORK = "import time; time.sleep(60)"
# Ends well once the first device has started.
GOOD = """
import pathlib, sys, time
place = pathlib.Path(sys.argv[1])
while not (place / "client-000").exists():
    time.sleep(0.02)
print("2026-11-29T22:56:44Z pruned round 1/2", flush=True)
print("rounds: 2")
"""
STARTED = """
import pathlib, sys, time
with (pathlib.Path(sys.argv[1]) / sys.argv[2]).open("a") as file:
    print("x", file=file)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return the folder of a federation whose processes note their starts in it."""
    folder = PocFolder(tmp_path / "poc")
    folder.path.mkdir()
    monkeypatch.setattr(federation, "_RESTART_S", 0.0)
    return folder


@pytest.fixture
def programs(place, monkeypatch):
    """Return name -> program; each device notes its start and works."""
    texts = {"server": GOOD}

    def process(folder, name):
        text = texts.get(name, STARTED + WORK)
        return Process(
            name=name,
            command=(sys.executable, "-c", text, str(place.path), name),
            environment=dict(os.environ),
            log=folder.log(name),
        )

    monkeypatch.setattr(commands, "server", lambda f, _port, _run: process(f, "server"))
    monkeypatch.setattr(commands, "device", lambda f, _port, name: process(f, name))
    return texts


def federation_of(place, shown):
    return Federation(
        folder=place, settings=Settings(clients=2), port=1, show=shown.append
    )


def starts(place, name):
    path = place.path / name
    return path.read_text().count("x") if path.exists() else 0


def children():
    """Return the living children of this process."""
    tasks = Path("/proc/self/task").glob("*/children")
    return [number for task in tasks for number in task.read_text().split()]


def test_the_server_s_lines_are_shown_and_its_end_ends_the_devices(place, programs):
    shown, before = [], children()
    run = RunFolder.create(place.runs, "x")
    assert federation_of(place, shown).carry_out(None).path == run.path
    assert shown == ["2026-11-29T22:56:44Z pruned round 1/2", "rounds: 2"]
    assert children() == before


def test_lines_of_an_earlier_call_are_not_shown_again(place, programs):
    RunFolder.create(place.runs, "x")
    federation_of(place, []).carry_out(None)
    (place.path / "client-000").unlink()
    shown = []
    federation_of(place, shown).carry_out(None)
    assert len(shown) == 2


@pytest.mark.parametrize(("code", "kind"), [(4, RoundError), (1, FedPruneError)])
def test_a_server_that_fails_is_an_error_of_its_kind(place, programs, code, kind):
    said = "error: 2 of 3 clients connected; resume with: fedprune serve --resume x"
    programs["server"] = f"import sys; print({said!r}); sys.exit({code})"
    with pytest.raises(
        FedPruneError, match=r"^server: 2 of 3 clients connected; its l"
    ):
        federation_of(place, []).carry_out(None)
    with pytest.raises(kind, match=r"server\.log"):
        federation_of(place, []).carry_out(None)


@pytest.mark.parametrize(("code", "kind"), [(2, ConfigError), (3, DataError)])
def test_a_device_that_cannot_work_ends_it_with_its_reason(place, programs, code, kind):
    programs["server"] = WORK
    text = f"import sys; print('error: no such data'); sys.exit({code})"
    programs["client-001"] = text
    before = children()
    with pytest.raises(kind, match=r"^client-001: no such data; its log: "):
        federation_of(place, []).carry_out(None)
    assert children() == before


def test_a_device_that_is_killed_is_started_again(place, programs):
    RunFolder.create(place.runs, "x")
    programs["client-001"] = f"{STARTED}\nimport os; os.kill(os.getpid(), 9)"
    programs["server"] = GOOD.replace(
        '(place / "client-000").exists()',
        '(place / "client-001").exists() or '
        'len((place / "client-001").read_text()) < 6',
    )
    shown = []
    federation_of(place, shown).carry_out(None)
    assert starts(place, "client-001") >= 3
    assert shown[0] == "client-001: it ended with -9; it is restarted"


def test_a_warning_of_a_device_is_shown_with_its_name(place, programs):
    RunFolder.create(place.runs, "x")
    text = "print('2026-11-29T22:56:44Z warning: one class', flush=True)"
    programs["client-001"] = f"{text}\nprint('and more', flush=True)\n{WORK}"
    programs["server"] = f"import time; time.sleep(0.5)\n{GOOD}"
    shown = []
    federation_of(place, shown).carry_out(None)
    assert "client-001: 2026-11-29T22:56:44Z warning: one class" in shown
    assert not any("and more" in line for line in shown)


def test_an_interrupt_ends_all_processes(place, programs, monkeypatch):
    def interrupted(_self):
        if (place.path / "client-000").exists():
            raise KeyboardInterrupt
        return False

    programs["server"] = WORK
    monkeypatch.setattr(Federation, "_is_over", interrupted)
    before = children()
    with pytest.raises(KeyboardInterrupt):
        federation_of(place, []).carry_out(None)
    assert children() == before


def test_one_call_at_a_time_works_in_a_folder(place, programs):
    with (
        hold(place.lock, advice=""),
        pytest.raises(
            ConfigError, match=r"is in use by process .*; one call at a time"
        ),
    ):
        federation_of(place, []).carry_out(None)


def test_the_processes_of_a_killed_call_are_waited_for(place, programs, monkeypatch):
    monkeypatch.setattr(federation, "_LEFT_S", 0.3)
    state = place.device("client-001")
    state.mkdir(parents=True)
    with (
        hold(state / "lock", advice=""),
        pytest.raises(ConfigError, match="client-001 is in use by process"),
    ):
        federation_of(place, []).carry_out(None)
    held = hold(state / "lock", advice="")
    held.__enter__()
    pauses = []

    def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) == 1:
            held.__exit__(None, None, None)

    monkeypatch.setattr(federation, "_LEFT_S", 60.0)
    with monkeypatch.context() as patched:
        patched.setattr(federation.time, "sleep", sleep)
        with federation_of(place, [])._alone():
            pass
    assert len(pauses) == 1
