"""A server's processes from start to end, and a run that dies and is resumed."""

import signal
from types import SimpleNamespace

import pytest
from helpers.log_lines import texts
from helpers.some_events import ROUND, STARTED, write_all

from fedprune.common.errors import ConfigError, DataError, FedPruneError, RoundError
from fedprune.common.system.atomic import write_json_atomic
from fedprune.common.system.processes import LOCK, Process
from fedprune.server.devices import service
from fedprune.server.devices.service import Service
from fedprune.server.devices.stopped import note_stop
from fedprune.server.runs.events import (
    EventLog,
    RunFailed,
    RunFinished,
    RunStopped,
    read_events,
)
from fedprune.server.runs.folder import RunFolder, read_json_object


class Supervisor:
    """Notes what is started; starts nothing."""

    def __init__(self, policy, _alive):
        self.policy, self.started, self.looks = policy, [], 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.started.append("ended")

    def start(self, process):
        self.started.append(process.name)

    def check(self):
        self.looks += 1

    def run(self, until):
        self.started.append(until())


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Return a clock that moves by each pause."""
    now = [0.0]
    monkeypatch.setattr(service.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(service.time, "sleep", lambda s: now.__setitem__(0, now[0] + s))
    monkeypatch.setattr(service, "Supervisor", Supervisor)
    monkeypatch.setattr(service, "check_port", lambda *_: None)
    return now


def process(name, log=None):
    return Process(name=name, command=(), environment={}, log=log)


@pytest.fixture
def link(tmp_path):
    """Return the link of a server that comes up at its third answer."""
    answers = iter([False, False, True])
    return SimpleNamespace(
        state=tmp_path / "state",
        home=tmp_path / "state" / "flower",
        host="127.0.0.1",
        port=8000,
        prepare=lambda: None,
        superlink=lambda: process("superlink"),
        executor=lambda: process("executor"),
        answers=lambda: next(answers),
        register=lambda: ["edge-01"],
    )


def test_a_server_starts_when_its_link_answers_and_ends_everything(
    link, capsys, monkeypatch
):
    heard = {}
    monkeypatch.setattr(service.signal, "signal", heard.__setitem__)
    with Service(link, metrics="127.0.0.1:9", quiet=False) as made:
        assert made._supervisor.started == ["superlink", "executor", "metrics"]
        assert made._supervisor.looks == 2
        assert (link.state / LOCK).exists()
        made.wait()
        link.register = list
        heard[signal.SIGHUP](signal.SIGHUP, None)
    assert made._supervisor.started[3:] == [False, "ended"]
    assert texts(capsys.readouterr().out) == [
        "serving at 127.0.0.1:8000",
        "clients registered: edge-01",
        "waiting for fedprune submit",
        "clients registered: no new keys",
    ]


def test_a_server_without_metrics_and_new_keys_says_little(link, capsys):
    link.register = list
    with Service(link, metrics="", quiet=False) as made:
        assert made._supervisor.started == ["superlink", "executor"]
    assert texts(capsys.readouterr().out) == ["serving at 127.0.0.1:8000"]


def test_a_link_that_never_answers_is_given_up_and_ended(link, clock):
    link.answers = lambda: False
    made = Service(link, metrics="", quiet=True)
    with pytest.raises(FedPruneError, match="did not come up within 180 s"), made:
        pass
    assert made._supervisor.started == ["superlink", "ended"]
    assert clock[0] > 180


def test_metrics_without_their_library_start_nothing(link, monkeypatch):
    monkeypatch.setattr(service, "find_spec", lambda _: None)
    made = Service(link, metrics="127.0.0.1:9", quiet=True)
    with pytest.raises(ConfigError, match=r"pip install 'fedprune\[ops\]'"), made:
        pass
    assert made._supervisor.started == []


def test_a_superlink_that_ends_at_once_ends_the_server_with_its_last_line(
    link, clock, tmp_path, capsys
):
    log = tmp_path / "log"
    log.write_text("starting\nport is taken\n\n")
    made = Service(link, metrics="", quiet=False)
    with pytest.raises(FedPruneError, match="superlink ended with 1: port is taken"):
        made._policy(process("superlink", log), 1)
    log.write_text("")
    with pytest.raises(FedPruneError, match="ended with 1: no output"):
        made._policy(process("superlink", log), 1)
    assert made._policy(process("executor"), 1) == 2.0
    clock[0] = 60.0
    assert made._policy(process("superlink", log), -9) == 2.0
    assert texts(capsys.readouterr().out) == [
        "executor ended with 1; it is restarted",
        "superlink ended with -9; it is restarted",
    ]


FINISHED = RunFinished(summary={"rounds": 1})


@pytest.fixture
def carried(tmp_path):
    """Return a function that carries a run out, each attempt with events of its own."""
    folder = RunFolder.create(tmp_path / "runs")
    write_json_atomic(folder.summary, {"rounds": 1})
    with EventLog(folder.events) as log:
        write_all(log, [STARTED])

    def carry_out(*attempts, stopped=False):
        todo, running = iter(attempts), []

        def submit(path):
            assert path == folder.path
            running.append(len(running))
            with EventLog(folder.events) as log:
                write_all(log, next(todo))
            return len(running)

        link = SimpleNamespace(
            state=tmp_path,
            submit=submit,
            running=list,
            traffic=lambda _: (11, 22),
            was_stopped=lambda _: stopped,
        )
        made = Service(link, metrics="", quiet=False)
        try:
            return made.carry_out(folder)
        finally:
            carry_out.attempts = len(running)

    carry_out.folder = folder
    return carry_out


def test_a_run_that_ends_gives_its_figures_with_the_bytes_of_the_transport(carried):
    found = carried([FINISHED])
    assert found == {"rounds": 1, "transport_bytes_up": 11, "transport_bytes_down": 22}
    assert read_json_object(carried.folder.summary) == found
    assert carried.attempts == 1


def test_a_run_whose_process_dies_is_resumed(carried, capsys):
    assert carried([], [FINISHED])["rounds"] == 1
    assert carried.attempts == 2
    assert "ended early; the run is resumed" in capsys.readouterr().out


def test_a_run_whose_process_dies_three_times_is_given_up(carried):
    with pytest.raises(FedPruneError, match=r"ended 3 times; .* --resume ") as error:
        carried([], [], [])
    assert str(carried.folder.path) in str(error.value)
    assert carried.attempts == 3


STOPPED = r"^stopped by the operator after round 3; resume with: fedprune serve --re"


@pytest.mark.parametrize(
    ("events", "stopped"),
    [([], True), ([RunStopped(rounds=3)], True), ([RunStopped(rounds=3)], False)],
    ids=["seen here", "both", "noted by the command"],
)
def test_a_stopped_run_is_not_resumed_but_ends_with_an_event_and_a_line(
    carried, events, stopped
):
    with pytest.raises(FedPruneError, match=STOPPED) as error:
        carried([ROUND, *events], stopped=stopped)
    assert error.value.exit_code == 5
    assert carried.attempts == 1
    assert read_events(carried.folder.events)[-1] == RunStopped(rounds=3)


@pytest.mark.parametrize("events", [[FINISHED], [RunFailed(text="x", exit_code=4)]])
def test_a_run_that_ended_by_itself_is_not_noted_as_stopped(carried, events):
    with EventLog(carried.folder.events) as log:
        write_all(log, events)
    assert note_stop(carried.folder) == events[-1]
    assert read_events(carried.folder.events)[1:] == events


def test_a_run_whose_process_goes_on_is_not_noted_as_stopped(carried, clock):
    with carried.folder.locked(), pytest.raises(ConfigError, match="is in use"):
        note_stop(carried.folder)
    assert clock[0] > 90
    assert read_events(carried.folder.events) == [STARTED]


@pytest.mark.parametrize(
    ("kind", "mends"), [(RoundError, True), (FedPruneError, True), (DataError, False)]
)
def test_a_run_that_fails_fails_with_its_class_and_says_what_a_resume_mends(
    carried, kind, mends
):
    with pytest.raises(kind, match=r"^no good") as error:
        carried([RunFailed(text="no good", exit_code=kind.exit_code)])
    assert type(error.value) is kind
    assert ("resume with: fedprune serve --resume" in str(error.value)) is mends
    assert carried.attempts == 1
