"""The SuperLink of a server: files for Flower, requests, and traffic of a run."""

import json
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from fedprune.common.config import load_config
from fedprune.common.errors import (
    ConfigError,
    DataError,
    FedPruneError,
    IntegrityError,
    RoundError,
)
from fedprune.server.devices.service import _outcome
from fedprune.server.devices.superlink import Link, open_link, parse_address
from fedprune.server.runs.events import RunFailed
from fedprune.server.runs.folder import RunFolder

SMALL = ["update.max_bytes=4096"]
EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing is bound here


@pytest.fixture
def link(tmp_path):
    made = Link(
        state=tmp_path / "s",
        host=EVERYWHERE,
        port=8443,
        control=8444,
        tls=tmp_path / "certs",
    )
    made.prepare()
    return made


def test_a_server_is_asked_at_the_operator_s_port_of_the_loopback(link):
    assert link.address == "127.0.0.1:8443"
    text = (link.home / "config.toml").read_text()
    assert 'address = "127.0.0.1:8444"' in text
    assert str((link.tls / "ca.crt").resolve()) in text


def test_tls_and_node_keys_are_on_and_installing_is_off(link):
    command = link.superlink().command
    assert "--enable-supernode-auth" in command
    assert "--insecure" not in command
    assert "--disable-runtime-dependency-installation" in command
    assert command[command.index("--isolation") + 1] == "process"


def test_without_certificates_it_says_insecure(tmp_path):
    link = Link(state=tmp_path, host="127.0.0.1", port=1, control=2, tls=None)
    assert "--insecure" in link.superlink().command
    assert "--enable-supernode-auth" not in link.superlink().command
    assert "--insecure" in link.executor().command


@pytest.mark.parametrize("name", ["secret", "operator"])
def test_a_secret_is_readable_for_its_owner_only_and_stays(link, name):
    secret = link.state / name
    before = secret.read_bytes()
    link.prepare()
    assert secret.read_bytes() == before
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_our_programs_stand_in_front_of_flower_s_own(link):
    ours = link.state / "bin"
    assert (ours / "flwr-serverapp").stat().st_mode & stat.S_IXUSR
    assert link.executor().environment["PATH"].startswith(f"{ours}:")
    gate = link.superlink().command
    assert gate[2:5] == (
        str(ours / "flower-superlink"),
        "8444",
        f"{link.state}/operator",
    )


@pytest.mark.parametrize(
    "place", ["bin/torch.py", "app/x.py", "flower/apps/a/torch.py"]
)
def test_nothing_that_flower_would_run_comes_with_a_folder(link, place):
    path = link.state / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    link.prepare()
    assert not path.exists()


@pytest.mark.parametrize("place", ["bin", "app", "flower/apps", "flower"])
def test_a_folder_of_a_server_that_leads_elsewhere_is_refused(link, place, tmp_path):
    (tmp_path / "mine/apps").mkdir(parents=True)
    (tmp_path / "mine/apps/x").touch()
    shutil.rmtree(link.state / place)
    (link.state / place).symlink_to(tmp_path / "mine")
    with pytest.raises(ConfigError, match="by a link"):
        link.prepare()
    assert (tmp_path / "mine/apps/x").exists()


def test_a_link_is_found_again_by_its_folder(link, tmp_path):
    assert open_link(link.state) == Link(
        state=link.state,
        host=link.host,
        port=link.port,
        control=link.control,
        tls=link.tls.resolve(),
    )
    with pytest.raises(ConfigError, match="not a state folder of"):
        open_link(tmp_path)
    (link.state / "link.json").write_text("{}")
    with pytest.raises(IntegrityError, match="not the description of a SuperLink"):
        open_link(link.state)


def answering(monkeypatch, text, calls):
    def run(command, **options):
        calls.append(command)
        return subprocess.CompletedProcess(command, 0, text, "")

    monkeypatch.setattr("fedprune.server.devices.questions.subprocess.run", run)


def answer_keys(*numbers):
    return "\n".join(f'noise\n{{"success": true, "node-id": {n}}}' for n in numbers)


@pytest.fixture
def keys(link):
    """Public keys of two clients, as Flower's command is told of them."""
    paths = []
    for name in ("a", "b"):
        (link.tls / "clients" / name).mkdir(parents=True)
        paths.append(link.tls / "clients" / name / "node.pub")
        paths[-1].write_text(f"key {name}")
    return [
        ["supernode", "register", str(path), "fedprune", "--format", "json"]
        for path in paths
    ]


def test_each_key_is_registered_once_all_by_one_process(link, keys, monkeypatch):
    calls = []
    answering(monkeypatch, answer_keys(5, 6), calls)
    assert link.register() == ["a", "b"]
    registered = json.loads((link.state / "registered.json").read_text())
    assert registered["a"] == {"key": "key a", "node": 5}
    assert registered["b"] == {"key": "key b", "node": 6}
    assert link.register() == []
    (link.tls / "clients" / "b" / "node.pub").write_text("another key")
    assert link.register() == ["b"]
    assert len(calls) == 2
    start = calls[0].index(f"{link.state}/operator")
    assert calls[0][start + 1 :] == [*keys[0], "--then", *keys[1]]


@pytest.mark.parametrize(
    ("second", "why"),
    [
        ('{"success": false, "error-message": "no key"}', "register: no key$"),
        ("Traceback", "did not answer supernode"),
    ],
)
@pytest.mark.usefixtures("keys")
def test_keys_before_one_that_is_refused_are_remembered(link, second, why, monkeypatch):
    answering(monkeypatch, f"{answer_keys(5)}\n{second}", [])
    with pytest.raises(FedPruneError, match=why):
        link.register()
    registered = json.loads((link.state / "registered.json").read_text())
    assert registered == {"a": {"key": "key a", "node": 5}}


def test_a_run_is_submitted_by_the_path_of_its_folder(link, monkeypatch, tmp_path):
    calls = []
    answering(monkeypatch, '{"success": true, "run-id": "123"}', calls)
    folder = RunFolder.create(tmp_path / "runs", "x", config=load_config(None, SMALL))
    assert link.submit(folder.path) == 123
    registered = link.state / "registered.json"
    assert f'run="{folder.path}" names="{registered}" limit=4096' in calls[0]
    current = json.loads((link.state / "current.json").read_text())
    assert current == {"number": 123, "folder": str(folder.path)}


CHATTER = "Using SuperLink: x\\n Listing all runs...\\n\\nno such run\\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f'{{"success": false, "error-message": "{CHATTER}"}}', "ls: no such run$"),
        ("", "ls"),
    ],
)
def test_what_flower_refuses_is_told(link, monkeypatch, text, words):
    answering(monkeypatch, text, [])
    with pytest.raises(FedPruneError, match=words):
        link.runs()


def test_only_what_has_not_ended_is_running(link, monkeypatch):
    runs = [{"run-id": "1", "status": "finished:completed"}]
    runs += [{"run-id": "2", "status": "running"}]
    answering(monkeypatch, json.dumps({"success": True, "runs": runs}), [])
    assert link.running() == [2]


@pytest.mark.parametrize("text", ["x", ":1", "host:", "host:x", "host:0", "h:70000"])
def test_an_address_is_host_and_port(text):
    with pytest.raises(ConfigError, match="--listen"):
        parse_address("--listen", text)


def test_addresses_of_both_kinds_are_read():
    assert parse_address("--listen", f"{EVERYWHERE}:80") == (EVERYWHERE, 80)
    assert parse_address("--listen", "[::1]:80") == ("::1", 80)


def test_a_failed_run_ends_with_the_exit_code_of_its_reason(tmp_path):
    folder = RunFolder(Path(tmp_path))
    event = RunFailed(text="1 of 3 clients", exit_code=4)
    with pytest.raises(RoundError, match="1 of 3 clients; resume with"):
        _outcome(folder, event, tmp_path)


@pytest.mark.parametrize("kind", [ConfigError, DataError, IntegrityError])
def test_what_a_resume_cannot_mend_is_said_without_one(tmp_path, kind):
    event = RunFailed(text="no", exit_code=kind.exit_code)
    with pytest.raises(kind, match=r"^no$"):
        _outcome(RunFolder(tmp_path), event, tmp_path)
