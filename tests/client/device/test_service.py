"""A device whose SuperNode ends: it tries again, or says why that cannot help."""

import sys
from dataclasses import replace

import pytest
from helpers.log_lines import texts

from fedprune.client.device import service
from fedprune.client.device.check import check_key
from fedprune.client.device.service import Device, DeviceService
from fedprune.common.errors import ConfigError, DataError
from fedprune.common.system.lock import hold
from fedprune.common.system.processes import LOCK, Process
from fedprune.server.devices.certs import make_certificates


@pytest.fixture
def device(tmp_path):
    keys = tmp_path / "keys"
    keys.mkdir()
    for name in ("ca.crt", "node.key"):
        (keys / name).write_text("x")
    return Device(
        client_id="edge-01", config=None, data="", share="", host="h", port=1,
        tls=keys, state=tmp_path / "state",
    )  # fmt: skip


@pytest.fixture
def ended(tmp_path):
    """Return a function that makes a SuperNode which said something and ended."""

    def make(text):
        log = tmp_path / "log"
        log.write_text(text)
        return Process(name="supernode", command=(), environment={}, log=log)

    return make


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(service.time, "monotonic", lambda: now[0])
    return now


REFUSED = "x\n[code: 2004] Failed to activate SuperNode.\nmore\n"


@pytest.fixture
def returned(device):
    """Return a service whose device was connected by an earlier process."""
    log = device.state / "logs" / "supernode.log"
    log.parent.mkdir(parents=True)
    log.write_text("INFO SuperNode ID: 1\n")
    return DeviceService(device, once=False)


def test_a_node_that_is_not_let_in_tries_for_as_long_as_the_trap_lasts(
    returned, ended, clock, capsys
):
    made = returned
    for _ in range(17):
        assert made._policy(ended(REFUSED), 1) == 5.0
        clock[0] += 5.0
    said = texts(capsys.readouterr().out)  # once a minute
    assert len(said) == 2
    assert all("lets this client in again" in text for text in said)
    clock[0] += 10.0
    with pytest.raises(ConfigError, match="refuses client edge-01: Failed"):
        made._policy(ended(REFUSED), 1)


def test_a_node_that_is_early_is_told_what_it_waits_for_and_tries_soon(
    device, ended, clock, capsys
):
    made = DeviceService(device, once=False)
    assert made._policy(ended(REFUSED), 1) == 2.0
    (said,) = texts(capsys.readouterr().out)
    assert "until the server knows this client's key" in said
    assert "refuse" not in said


def test_a_node_says_when_it_is_connected(device, returned, capsys):
    log = device.state / "logs" / "supernode.log"
    final = device.state / "final.safetensors"
    returned._done(final, 0.0)
    assert capsys.readouterr().out == ""  # the line is of the process before
    with log.open("a") as file:
        file.write("2026-11-29T22:56:44Z INFO SuperNode ID: 2\n")
    returned._done(final, 0.0)
    returned._done(final, 0.0)
    assert texts(capsys.readouterr().out) == [
        "connected; waiting for the next run, or the next round of this one"
    ]


def test_a_node_that_was_in_for_a_while_gets_all_of_the_time_again(
    returned, ended, clock
):
    made = returned
    made._policy(ended(REFUSED), 1)
    clock[0] += 4000.0
    assert made._policy(ended(REFUSED), 1) == 5.0


def test_another_refusal_ends_it_at_once(device, ended, clock):
    with pytest.raises(ConfigError, match="no such thing"):
        DeviceService(device, once=False)._policy(
            ended("[code: 1999] no such thing\n"), 1
        )


def test_a_lost_connection_waits_for_the_server(device, ended, monkeypatch):
    reached = []
    monkeypatch.setattr(DeviceService, "_wait_for_server", lambda _: reached.append(1))
    assert DeviceService(device, once=False)._policy(ended("Bye\n"), -9) == 5.0
    assert len(reached) == 1


def test_a_node_that_only_seems_to_run_is_killed(device, monkeypatch, clock):
    made, killed = DeviceService(device, once=True), []
    monkeypatch.setattr(service.Supervisor, "end", lambda _, name: killed.append(name))
    log = device.state / "logs" / "supernode.log"
    log.parent.mkdir(parents=True)
    final = device.state / "final.safetensors"
    log.write_text("ERROR : one\n")
    assert not made._done(final, 0.0)
    clock[0] += 11.0
    log.write_text("ERROR : one\nworking again\n")
    assert not made._done(final, 0.0)
    clock[0] += 11.0
    assert not made._done(final, 0.0)
    assert killed == []
    log.write_text("working\nERROR : [SSL: UNEXPECTED_EOF_WHILE_READING]\n")
    for _ in range(2):
        clock[0] += 11.0
        assert not made._done(final, 0.0)
    assert killed == ["supernode"]
    final.write_text("x")
    assert made._done(final, 0.0)


def test_missing_keys_and_data_are_told_before_anything_starts(device, tmp_path):
    (device.tls / "node.key").unlink()
    with pytest.raises(ConfigError, match=r"node\.key is missing; copy"):
        device.check()


def test_a_certificate_that_is_none_is_told_before_anything_starts(device):
    with pytest.raises(ConfigError, match=r"ca\.crt has no certificate; copy"):
        device.check()


def test_a_node_key_is_what_certs_made_and_nothing_else(tmp_path):
    make_certificates(tmp_path, [], ["edge-01"], 1)
    place = tmp_path / "clients" / "edge-01"
    check_key(place / "node.key")
    for other in (place / "node.pub", tmp_path / "ca.key", place / "gone"):
        with pytest.raises(ConfigError, match=r"is not a node key of fedprune certs"):
            check_key(other)


def test_a_state_folder_has_one_client(device, tmp_path):
    with (
        hold(tmp_path / LOCK, advice=""),
        pytest.raises(ConfigError, match=r"in use by process .* another --state"),
    ):
        DeviceService(replace(device, state=tmp_path), once=True).run()
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot use the folder"):
        replace(device, state=tmp_path / "file").check()


@pytest.mark.slow
def test_what_is_wrong_with_the_data_is_told_with_its_exit_code(device, tmp_path):
    device = replace(device, tls=None)
    with pytest.raises(ConfigError, match=r"no file .*gone\.npz"):
        replace(device, data="npz:gone.npz").check()
    (tmp_path / "bad.npz").write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"bad\.npz cannot be read"):
        replace(device, data=f"npz:{tmp_path / 'bad.npz'}").check()


def test_both_processes_share_port_and_secret_and_no_secret_is_an_argument(device):
    node, executor = device.supernode(9999), device.executor(9999)
    assert executor.command[:3] == (sys.executable, "-m", "fedprune.client.executor")
    assert executor.command[3:] == ("127.0.0.1:9999", str(device.secret))
    assert str(device.secret) in node.command
    start = [sys.executable, "-m", "fedprune.client.supernode", str(64 << 20)]
    assert list(node.command[:4]) == start
    table = node.command[node.command.index("--node-config") + 1]
    assert 'client-id="edge-01"' in table
    assert "--insecure" not in node.command


def test_a_state_folder_in_use_is_refused_before_the_data_are_loaded(
    device, monkeypatch
):
    device.state.mkdir()
    monkeypatch.setattr(service.subprocess, "run", lambda *_, **__: pytest.fail("late"))
    with (
        hold(device.state / LOCK, advice=""),
        pytest.raises(ConfigError, match=r"is in use by process .* another --state"),
    ):
        device.check()
