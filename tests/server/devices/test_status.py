"""Status of a server: its runs and clients, from Flower's own tables."""

import json

import pytest
from helpers.some_events import CLIENT, ROUND, STARTED, write_all

from fedprune.common.errors import ConfigError, FedPruneError, IntegrityError
from fedprune.server.devices.status import lines, survey
from fedprune.server.devices.superlink import Link, live_link
from fedprune.server.runs.events import EventLog, describe
from fedprune.server.runs.folder import RunFolder
from fedprune.simulations.cli import run_command_line

RUN = {"run-id": "7", "status": "running", "elapsed": 61.5}
RUN["network-traffic"] = {"inbound-bytes": 10, "outbound-bytes": 20}
OLD = {"run-id": "6", "status": "finished:completed", "elapsed": 2.0}
NODES = [{"node-id": "1", "status": "online"}, {"node-id": "2", "status": "offline"}]


@pytest.fixture
def link(tmp_path, monkeypatch):
    made = Link(
        state=tmp_path, host="127.0.0.1", port=1, control=2, tls=tmp_path / "certs"
    )
    made.prepare()
    monkeypatch.setattr(Link, "runs", lambda _: [RUN, OLD])
    monkeypatch.setattr(Link, "nodes", lambda _: NODES)
    registered = {"edge-01": {"key": "k", "node": 1}}
    (tmp_path / "registered.json").write_text(json.dumps(registered))
    (tmp_path / "current.json").write_text('{"number": 7, "folder": "/runs/x"}')
    return made


def test_clients_have_names_and_the_newest_run_its_folder(link):
    found = survey(link)
    assert [run.get("folder") for run in found.runs] == ["/runs/x", None]
    assert [node["client"] for node in found.clients] == ["edge-01", ""]
    assert list(lines(found)) == [
        "run 7: running, 62 s, up 10 B, down 20 B, /runs/x",
        "run 6: finished:completed, 2 s",
        "client edge-01: online",
        "client node 2: offline",
    ]


def current(link, events):
    """Make a folder with these events that of the run started last."""
    folder = RunFolder.create(link.state)
    with EventLog(folder.events) as log:
        write_all(log, events)
    about = {"number": 7, "folder": str(folder.path)}
    (link.state / "current.json").write_text(json.dumps(about))
    return folder


def test_the_newest_run_shows_its_last_event_that_has_a_line(link):
    current(link, (STARTED, ROUND, CLIENT))
    first, second, *_ = lines(survey(link))
    assert first.startswith("run 7: running")
    assert second == f"  {describe(ROUND)}"


def test_events_of_another_version_are_refused_with_what_to_do(
    link, capsys, monkeypatch
):
    folder = current(link, (STARTED, ROUND))
    folder.events.write_bytes(folder.events.read_bytes().split(b"\n", 1)[1])
    monkeypatch.setattr("fedprune.server.devices.superlink.live_link", lambda _: link)
    words = ["status", "--state", str(link.state)]
    assert run_command_line(words) == IntegrityError.exit_code
    assert capsys.readouterr().err == (
        f"error: {folder.events}: written by fedprune 0.1.0 with events version 1; "
        "this version reads 8: use that version to read or resume it\n"
    )


def test_a_server_that_has_had_no_run_shows_none(link):
    (link.state / "current.json").unlink()
    assert [run.get("folder") for run in survey(link).runs] == [None, None]


def test_a_server_that_is_down_is_named(link):
    with pytest.raises(FedPruneError, match="no server answers at"):
        live_link(link.state)


@pytest.mark.parametrize("words", [["status"], ["stop"], ["submit"], ["stop", "5"]])
def test_commands_say_in_one_line_that_no_server_is_there(
    link, words, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code = run_command_line([*words, "--state", str(link.state)])
    said = capsys.readouterr()
    assert (code, said.out) == (5, "")
    assert said.err.startswith("error: no server answers at 127.0.0.1:1")
    assert not (tmp_path / "runs").exists()


REFUSED = {
    "another configuration beside --resume": (
        ["submit", "a.toml", "--resume", "run"],
        "own configuration; want no FILE.toml",
    ),
    "keys beside --resume": (
        ["serve", "--insecure", "--resume", "run", "--set", "run.seed=1"],
        "no --set beside it",
    ),
    "a run to resume that is none": (
        ["serve", "--insecure", "--resume", "run"],
        "run: no such run folder",
    ),
    "no state folder": (["status"], "start a server there, or name its folder"),
    "a name that is a path": (
        ["client", "--server", "h:1", "--id", "../x", "--insecure"],
        'client "../x": want 1 to 100 letters',
    ),
    "half an address": (
        ["client", "--server", "h", "--id", "x", "--insecure"],
        '--server: found "h", want HOST:PORT',
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("words", "message"), REFUSED.values(), ids=REFUSED)
def test_wrong_calls_are_refused_before_anything_starts(
    words, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    code = run_command_line(words)
    errors = capsys.readouterr().err.strip().splitlines()
    assert code == ConfigError.exit_code
    assert errors[-1].startswith("error: ")
    assert message in errors[-1]
    assert list(tmp_path.iterdir()) == []
