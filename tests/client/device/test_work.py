"""The course of a device's work: the server, two processes, the final network."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from helpers.log_lines import texts

from fedprune.client.device import check, node, service
from fedprune.client.device.preflight import Reach
from fedprune.client.device.service import Device, DeviceService
from fedprune.common.errors import ConfigError, DataError, FedPruneError
from fedprune.common.system.processes import Process


class Supervisor:
    """Notes what is started; each look of ``run`` lets ``happens`` happen."""

    happens = None

    def __init__(self, policy, _alive):
        self.policy, self.started = policy, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.started.append("ended")

    def start(self, process):
        self.started.append(process.name)

    def run(self, until):
        for _ in range(50):
            if until():
                return
            self.happens()
        raise AssertionError


@pytest.fixture
def device(tmp_path):
    return Device(
        client_id="edge-01", config=None, data="", share="", host="h", port=1,
        tls=None, state=tmp_path / "state",
    )  # fmt: skip


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Return a clock that moves by each pause; no process is started."""
    now = [1000.0]
    monkeypatch.setattr(service.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(service.time, "sleep", lambda s: now.__setitem__(0, now[0] + s))
    monkeypatch.setattr(service, "Supervisor", Supervisor)
    return now


def test_a_device_waits_for_the_server_works_and_ends_with_the_network(
    device, clock, monkeypatch, capsys
):
    reached = iter(
        [(Reach.AWAY, "refused"), (Reach.AWAY, "refused"), (Reach.READY, "")]
    )
    monkeypatch.setattr(service, "try_server", lambda *_: next(reached))
    final = device.state / node.FINAL

    def arrive(_):
        clock[0] += 1.0
        final.write_text("x")

    monkeypatch.setattr(Supervisor, "happens", arrive)
    made = DeviceService(device, once=True)
    made.run()
    assert made._supervisor.started == ["executor", "supernode", "ended"]
    assert device.secret.stat().st_mode & 0o777 == 0o600
    said = texts(capsys.readouterr().out)
    assert [line.partition(":")[0] for line in said] == [
        "waiting for the server",  # once a minute
        "client edge-01",
        "final network",
    ]
    secret = device.secret.read_bytes()
    final.unlink()
    reached = iter([(Reach.READY, "")])
    DeviceService(device, once=True).run()
    assert device.secret.read_bytes() == secret


def test_an_executor_that_ends_is_restarted(device, capsys):
    ended = Process(name="executor", command=(), environment={}, log=None)
    assert 0 < DeviceService(device, once=False)._policy(ended, 1) < 60
    said = texts(capsys.readouterr().out)
    assert said == ["the executor ended with 1; it is restarted"]


CHECKS = {
    "wrong": (2, "torch said this\nno key\n", ConfigError, "no key"),
    "no data": (3, "no data\n", DataError, "no data"),
    "another": (1, "killed\n", FedPruneError, "killed"),
    "silent": (-9, "", FedPruneError, "the check of the data failed"),
}


@pytest.mark.parametrize(("code", "said", "kind", "why"), CHECKS.values(), ids=CHECKS)
def test_a_check_that_fails_is_told_by_its_last_line(
    device, monkeypatch, code, said, kind, why
):
    done = SimpleNamespace(returncode=code, stderr=said)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(kind, match=f"^{why}$") as error:
        device.check()
    assert type(error.value) is kind


def test_remarks_of_a_check_are_shown_and_nothing_else(device, monkeypatch, capsys):
    done = SimpleNamespace(returncode=0, stderr=f"torch\n{node.REMARK}one class\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    device.check()
    assert texts(capsys.readouterr().out) == [f"{node.REMARK}one class"]


def test_the_check_says_its_remarks_and_ends_with_the_code_of_an_error(
    monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["check", json.dumps({"share": "1/2"})])
    monkeypatch.setattr(check, "device_task", lambda table: table["share"])
    monkeypatch.setattr(check, "try_device", lambda task: [f"part {task}"])
    check.main()
    assert capsys.readouterr().err == f"\n{node.REMARK}part 1/2\n"

    def fail(_):
        msg = "no such\ndata"
        raise DataError(msg)

    monkeypatch.setattr(check, "device_task", fail)
    with pytest.raises(SystemExit) as ended:
        check.main()
    assert ended.value.code == DataError.exit_code
    assert capsys.readouterr().err.strip().startswith("no such")
