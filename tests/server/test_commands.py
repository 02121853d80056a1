"""What the commands of a server print, and what they ask of the server."""

import json
from types import SimpleNamespace

import pytest

from fedprune.common.errors import ConfigError, FedPruneError
from fedprune.common.system.processes import ALIVE
from fedprune.server.devices import service, superlink
from fedprune.server.devices.certs import make_certificates
from fedprune.server.runs.folder import RunFolder
from fedprune.simulations.cli import run_command_line

SMALL = ("--set", "task.outputs=10", "--set", "task.input_shape=[1,8,8]")
SUMMARY = {"rounds": 3, "accuracy_final": 0.5}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def printed(capsys):
    """Return a function that runs a command, which succeeds, and returns its lines."""

    def call(*words):
        assert run_command_line([str(word) for word in words]) == 0
        return capsys.readouterr().out.splitlines()

    return call


@pytest.fixture
def refused(capsys):
    """Return a function that runs a command, which fails, and returns code and line."""

    def call(*words):
        code = run_command_line([str(word) for word in words])
        return code, capsys.readouterr().err.splitlines()[-1]

    return call


class Link(SimpleNamespace):
    """A server that is up: runs 7 and 8, one client; notes what it is asked."""

    def running(self):
        return list(self.numbers)

    def stop(self, number):
        self.asked.append(("stop", number))

    def register(self):
        self.asked.append("register")

    def submit(self, folder):
        self.asked.append(("submit", folder))
        return 9

    def names(self):
        return {"1": "edge-01"}

    def runs(self):
        return [{"run-id": str(n), "status": "running"} for n in self.numbers]

    def nodes(self):
        return [{"node-id": "1", "status": "online"}]


@pytest.fixture
def link(tmp_path, monkeypatch):
    state = tmp_path / "state"
    state.mkdir()
    made = Link(address="127.0.0.1:1", state=state, numbers=[7, 8], asked=[])
    monkeypatch.setattr(superlink, "live_link", lambda _: made)
    return made


def test_certs_names_its_files_and_what_goes_where(printed, tmp_path):
    words = ("--host", "localhost", "--client", "edge-01")
    *files, last = printed("certs", "a", *words)
    assert "a/clients/edge-01/node.key" in files
    assert last == "copy a/clients/ID to each device; keep ca.key off them"
    assert sorted(printed("certs", "b", *words, "--quiet")) == sorted(
        name.replace("a/", "b/", 1) for name in files
    )
    found = json.loads("\n".join(printed("certs", "c", *words, "--json")))
    assert len(found["written"]) == len(files)


def test_certs_that_write_nothing_or_less_say_so(printed):
    made = printed("certs", "a", "--client", "x")
    assert not [line for line in made if "already" in line or "nothing" in line]
    (line,) = printed("certs", "a")
    assert line.startswith("nothing was written: a has it all; --client ID")
    has, nothing, copy = printed("certs", "a", "--client", "x")
    assert has == "client x has its key already: a/clients/x"
    assert nothing.startswith("nothing was written")
    assert copy.startswith("copy a/")
    some = printed("certs", "a", "--client", "x", "--client", "y")
    assert has in some
    assert "a/clients/y/node.key" in some
    assert nothing not in some
    assert printed("certs", "a", "--client", "x", "--quiet") == []
    assert json.loads("".join(printed("certs", "a", "--json"))) == {"written": []}


def test_stop_names_one_run_or_all_that_are_going_on(printed, link):
    assert printed("stop", "7") == ["stopped: 7"]
    assert printed("stop") == ["stopped: 7, 8"]
    assert printed("stop", "8", "--quiet") == []
    assert link.asked == [("stop", n) for n in (7, 7, 8, 8)]
    assert json.loads("\n".join(printed("stop", "--json"))) == {"stopped": [7, 8]}
    link.numbers = []
    assert printed("stop") == ["stopped: nothing was running"]


def test_status_shows_runs_and_clients(printed, link):
    assert printed("status", "--quiet") == ["127.0.0.1:1"]
    first, *rest = printed("status")
    assert first == "server 127.0.0.1:1"
    assert [line.split(":")[0] for line in rest] == [
        "  run 7", "  run 8", "  client edge-01",
    ]  # fmt: skip
    found = json.loads("\n".join(printed("status", "--json")))
    assert found["address"] == "127.0.0.1:1"
    assert found["clients"] == [
        {"client": "edge-01", "node-id": "1", "status": "online"}
    ]


def test_the_health_check_asks_for_the_heartbeat_alone(printed, refused, tmp_path):
    code, line = refused("status", "--check", "--state", tmp_path)
    assert code == FedPruneError.exit_code
    assert f"its logs: {tmp_path / 'logs'}" in line
    (tmp_path / ALIVE).touch()
    assert printed("status", "--check", "--state", tmp_path) == []
    found = "".join(printed("status", "--check", "--json", "--state", tmp_path))
    assert json.loads(found) == {"state": str(tmp_path), "healthy": True}


@pytest.mark.slow
def test_submit_lets_new_clients_in_and_starts_the_run(printed, link, tmp_path):
    for more in ([], ["--quiet"], ["--json"]):
        link.asked.clear()
        lines = printed("submit", *SMALL, *more)
        first, (what, folder) = link.asked
        assert (first, what) == ("register", "submit")
        assert RunFolder(folder).config.is_file()
        name = str(folder)
        if more == ["--json"]:
            assert json.loads(lines[0]) == {"directory": name, "number": 9}
        else:
            assert lines == ([name] if more else [f"run 9: {name}"])


@pytest.fixture
def serving(monkeypatch):
    """Replace the server's processes; return what each of them was asked."""
    asked = []

    class Service:
        def __init__(self, link, *, metrics, quiet):
            asked.append((link.host, link.port, link.tls, metrics, quiet))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            asked.append("ended")

        def wait(self):
            asked.append("waited")

        def carry_out(self, folder):
            asked.append(folder.path)
            return dict(SUMMARY)

    monkeypatch.setattr(service, "Service", Service)
    return asked


@pytest.mark.slow
def test_serve_with_a_configuration_ends_with_its_run(printed, serving):
    lines = printed("serve", "--insecure", *SMALL)
    start, folder, ended = serving
    assert start == ("0.0.0.0", 8000, None, "", False)  # noqa: S104 - the default
    assert ended == "ended"
    assert lines == ["rounds: 3", "accuracy_final: 0.5", f"run: {folder}"]
    assert printed("serve", "--insecure", *SMALL, "--quiet") == [str(serving[4])]
    lines = printed("serve", "--insecure", *SMALL, "--json")
    assert json.loads("\n".join(lines)) == {"directory": str(serving[-2])} | SUMMARY
    assert serving[-3][-1] is True  # JSON alone on standard output


def test_serve_without_a_configuration_waits(printed, serving):
    words = ("--insecure", "--listen", "[::1]:1234", "--metrics", "127.0.0.1:9")
    assert printed("serve", *words) == []
    assert serving == [("::1", 1234, None, "127.0.0.1:9", False), "waited", "ended"]


def test_serve_without_a_run_has_no_result_to_print_as_json(refused, serving):
    code, line = refused("serve", "--insecure", "--json")
    assert code == ConfigError.exit_code
    assert "--json prints the result of one run; want FILE.toml or --resume" in line
    assert serving == []


@pytest.mark.slow
def test_a_stopped_run_is_carried_out_again(printed, serving, link):
    printed("submit", *SMALL)
    folder = link.asked[-1][1]
    printed("serve", "--insecure", "--resume", folder, "--trust-code", "--quiet")
    assert serving[1] == folder


def test_serve_wants_certificates_or_none_and_says_what_none_means(
    refused, serving, capsys, tmp_path
):
    make_certificates(tmp_path / "tls", ["localhost"], ["edge-01"], 30)
    for words in ((), ("--insecure", "--tls", tmp_path / "tls")):
        code, line = refused("serve", *words)
        assert code == ConfigError.exit_code
        assert "want --tls DIR" in line
    assert run_command_line(["serve", "--insecure"]) == 0
    assert capsys.readouterr().err.startswith("warning: --insecure: ")
    assert run_command_line(["serve", "--tls", str(tmp_path / "tls")]) == 0
    assert "--insecure" not in capsys.readouterr().err
    assert serving[-3][2] == tmp_path / "tls"


@pytest.mark.parametrize("command", ["serve", "submit"])
def test_a_resumed_run_takes_no_other_configuration(refused, command):
    code, line = refused(command, "--resume", "x", "--set", "run.seed=1")
    assert code == ConfigError.exit_code
    assert "want no FILE.toml and no --set beside it" in line
