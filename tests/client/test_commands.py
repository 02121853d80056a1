"""What the commands of a device refuse, start and print."""

import json
import os

import pytest

from fedprune.client.device import predict, service
from fedprune.client.device.predict import Predictions
from fedprune.common.errors import ConfigError
from fedprune.simulations.cli import run_command_line

SERVER = ("client", "--server", "127.0.0.1:8000", "--id", "edge-01")
ROWS = [
    {"index": 0, "prediction": 3, "probability": 0.9, "target": 3},
    {"index": 1, "prediction": 5, "probability": 0.4, "target": 8},
]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


@pytest.fixture
def devices(monkeypatch):
    """Replace what a device does; return the devices that were started."""
    started = []

    class DeviceService:
        def __init__(self, device, *, once):
            self.device = (device, once)

        def run(self):
            started.append(self.device)

    monkeypatch.setattr(service, "DeviceService", DeviceService)
    monkeypatch.setattr(service.Device, "check", lambda _: None)
    return started


def test_a_client_without_a_name_takes_a_free_key_of_the_folder(devices, tmp_path):
    keys = tmp_path / "clients"
    for name in ("edge-01", "edge-02"):
        (keys / name).mkdir(parents=True)
        (keys / name / "node.key").touch()
    words = ["client", "--server", "h:1", "--tls", str(keys), "--data", "npz:{id}.npz"]
    assert run_command_line([*words, "--state", "s/{id}"]) == 0
    ((device, once),) = devices
    assert (device.client_id, device.data) == ("edge-01", "npz:edge-01.npz")
    assert device.tls == keys / "edge-01"
    assert device.state == tmp_path / "s" / "edge-01"
    assert once is False


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (SERVER, "want --tls DIR"),
        (("client", "--server", "h:1", "--insecure"), "--insecure needs --id NAME"),
        (("client", "--server", "h:1", "--tls", "none"), "has no NAME/node.key"),
        ((*SERVER, "--insecure", "--tls", "keys"), "want --tls DIR"),
        (("client", "--server", "there", "--id", "a", "--insecure"), 'found "there"'),
        (("client", "--server", ":80", "--id", "a", "--insecure"), 'found ":80"'),
        (("client", "--server", "a:b", "--id", "a", "--insecure"), 'found "a:b"'),
        (("client", "--server", "a:0", "--id", "a", "--insecure"), 'found "a:0"'),
    ],
)
def test_a_device_that_cannot_work_is_not_started(words, reason, devices, capsys):
    assert run_command_line(words) == ConfigError.exit_code
    assert reason in capsys.readouterr().err
    assert devices == []


def test_a_device_is_what_its_options_say(devices, capsys, tmp_path):
    words = ("--tls", "keys", "--data", "digits", "--partition", "1/3", "--once")
    assert run_command_line([*SERVER, *words]) == 0
    ((device, once),) = devices
    assert (device.client_id, device.host, device.port) == (
        "edge-01",
        "127.0.0.1",
        8000,
    )
    assert (device.data, device.share, once) == ("digits", "1/3", True)
    assert device.tls == tmp_path / "keys"
    assert device.state == tmp_path / "fedprune-client-edge-01"
    assert capsys.readouterr().err == ""


def test_a_device_warns_of_plain_connections_and_of_root(devices, capsys, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    given = ("--server", "[::1]:80", "--id", "b", "--insecure", "--state", "s")
    assert run_command_line(["client", *given]) == 0
    assert (devices[0][0].host, devices[0][0].tls) == ("::1", None)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "warning: --insecure: nothing is encrypted"
    assert second.startswith("warning: a client needs no root")


def test_predictions_are_printed_whole_alone_or_as_json(monkeypatch, capsys, tmp_path):
    asked = []

    def predictions(model, data, **options):
        asked.append((model.name, data, options))
        return Predictions(rows=ROWS, metric="accuracy", value=0.5, warning="odd\x1b")

    monkeypatch.setattr(predict, "predict", predictions)
    (tmp_path / "m.safetensors").write_bytes(b"x")
    words = ("run-model", "m.safetensors", "--data", "digits", "--count", "2")
    assert run_command_line(words) == 0
    printed = capsys.readouterr()
    assert printed.err == "warning: odd\\x1b\n"
    assert printed.out.splitlines() == [
        "index  prediction  probability  target",
        "    0           3       0.9000       3",
        "    1           5       0.4000       8",
        "accuracy 0.5000 over 2 examples",
    ]
    assert run_command_line([*words, "--quiet"]) == 0
    assert capsys.readouterr().out == "3\n5\n"
    assert run_command_line([*words, "--json", "--trust-code"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "predictions": ROWS,
        "accuracy": 0.5,
    }
    options = {"data_dir": "", "limit": 2, "own": None, "trust_code": False}
    assert asked[0] == ("m.safetensors", "digits", options)
    assert asked[2][2]["trust_code"] is True
