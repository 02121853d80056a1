"""Processes are started again when they end, and none outlives the service."""

import os
import signal
import sys
import time

import pytest

from fedprune.common.errors import ConfigError
from fedprune.common.system.processes import (
    ALIVE,
    Process,
    Supervisor,
    environment,
    is_alive,
    tail,
)

SLEEP = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('up', flush=True); time.sleep(60)"
)


def process(tmp_path, code, name="one"):
    return Process(
        name=name,
        command=(sys.executable, "-c", code),
        environment=dict(os.environ),
        log=tmp_path / f"{name}.log",
    )


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def never(process, code):
    raise AssertionError((process.name, code))


def test_leaving_ends_every_process_also_one_that_does_not_want_to(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("fedprune.common.system.processes._GRACE_S", 1.0)
    with Supervisor(never) as supervisor:
        supervisor.start(process(tmp_path, SLEEP, "a"))
        supervisor.start(process(tmp_path, STUBBORN, "b"))
        for name in "ab":
            until(lambda name=name: "up" in tail(tmp_path / f"{name}.log"))
        numbers = [p.pid for p in supervisor._running.values()]
    codes = [p.returncode for p in supervisor._running.values()]
    assert codes == [-signal.SIGTERM, -signal.SIGKILL]
    for number in numbers:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)


def test_a_process_that_ends_is_started_again_after_its_pause(tmp_path):
    seen = []

    def policy(ended, code):
        seen.append((ended.name, code))
        return 0.0

    code = "print('up', flush=True); raise SystemExit(3)"
    with Supervisor(policy) as supervisor:
        supervisor.start(process(tmp_path, code))
        supervisor.run(lambda: len(seen) >= 2)
    assert seen[:2] == [("one", 3), ("one", 3)]
    assert tail(tmp_path / "one.log").count("up") >= 2


def test_a_policy_that_gives_up_ends_the_service(tmp_path):
    def policy(ended, code):
        msg = "no use"
        raise ConfigError(msg)

    supervisor = Supervisor(policy)

    def serve():
        with supervisor:
            supervisor.start(process(tmp_path, SLEEP, "other"))
            supervisor.start(process(tmp_path, "pass"))
            supervisor.run(lambda: False)

    with pytest.raises(ConfigError, match="no use"):
        serve()
    assert supervisor._running["other"].poll() is not None


def test_sigterm_ends_the_block_as_ctrl_c_does(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    supervisor = Supervisor(never)

    def serve():
        with supervisor:
            supervisor.start(process(tmp_path, SLEEP))
            os.kill(os.getpid(), signal.SIGTERM)
            until(lambda: False)

    with pytest.raises(KeyboardInterrupt):
        serve()
    assert supervisor._running["one"].poll() is not None
    signal.signal(signal.SIGTERM, before)


def test_a_service_is_alive_while_all_its_processes_are(tmp_path):
    assert not is_alive(tmp_path)
    with Supervisor(lambda *_: 100.0, tmp_path / ALIVE) as supervisor:
        supervisor.start(process(tmp_path, SLEEP))
        supervisor.check()
        assert is_alive(tmp_path)
        os.utime(tmp_path / ALIVE, (0, 0))
        assert not is_alive(tmp_path)
    assert not (tmp_path / ALIVE).exists()


def test_a_log_that_grows_is_emptied_while_its_process_writes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("fedprune.common.system.processes._LOG_LIMIT", 1000)
    monkeypatch.setattr("fedprune.common.system.processes._LOOK_S", 0.0)
    code = "import time\nfor n in range(10**6): print(n, flush=True); time.sleep(0.002)"
    log = tmp_path / "one.log"
    with Supervisor(never) as supervisor:
        supervisor.start(process(tmp_path, code))
        until(lambda: supervisor.check() or (tmp_path / "one.log.1").exists())
        until(lambda: log.stat().st_size > 100)
        before = (tmp_path / "one.log.1").read_bytes().split()
        assert b"\0" not in log.read_bytes()
    assert before[:3] == [b"0", b"1", b"2"]


def test_a_child_ends_when_the_service_is_killed(tmp_path):
    from helpers.processes import child

    code = (
        "import sys, os, signal; from pathlib import Path; "
        "from fedprune.common.system.processes import Supervisor, Process; "
        "k = Supervisor(lambda *_: 1.0).__enter__(); "
        "k.start(Process(name='c', command=(sys.executable, '-c', "
        "'import time; time.sleep(60)'), environment=dict(os.environ), log=None)); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    with child([sys.executable, "-c", code], tmp_path) as started:
        assert started.wait(20) == -signal.SIGKILL
        assert started.left_after(10) == []


def test_flower_s_processes_call_no_server_and_have_a_folder_of_their_own(tmp_path):
    found = environment(tmp_path, [tmp_path / "bin"])
    assert found["FLWR_TELEMETRY_ENABLED"] == "0"
    assert found["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert found["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert found["FLWR_HOME"] == str(tmp_path)
    assert found["PATH"].split(os.pathsep)[0] == str(tmp_path / "bin")
