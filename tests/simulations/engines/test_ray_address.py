"""A Ray cluster that is not there is one line, soon, and leaves nothing behind."""

import re
import socket
from concurrent import futures
from contextlib import contextmanager

import grpc
import pytest

from fedprune.common.errors import ConfigError
from fedprune.simulations.cli import run_command_line
from fedprune.simulations.engines import ray_address
from fedprune.simulations.engines.ray_address import reachable
from fedprune.simulations.runs.api import simulate


@pytest.fixture(autouse=True)
def no_address_is_set(monkeypatch, tmp_path):
    for name in ("RAY_ADDRESS", "RAY_USE_TLS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(ray_address, "_WAIT_S", 0.3)
    monkeypatch.setattr(ray_address, "_SLACK_S", 0.1)


@contextmanager
def closed_port():
    """A port without a listener: bound, so that no other process takes it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@contextmanager
def silent_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def head():
    """What greets as the head of a Ray cluster does."""
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_dead_address_is_refused_by_the_words_typed(scheme):
    with closed_port() as address:
        wanted = re.escape(f'Ray address "{scheme}{address}": nothing answers')
        with pytest.raises(ConfigError, match=wanted):
            reachable(scheme + address)


def test_what_accepts_and_says_nothing_is_no_ray():
    with silent_port() as address, pytest.raises(ConfigError, match="is not Ray"):
        reachable(address)


def test_a_name_that_takes_forever_to_look_up_is_given_up(monkeypatch):
    release = ray_address.threading.Event()
    monkeypatch.setattr(ray_address, "_ask", lambda *_: str(release.wait()))
    with pytest.raises(ConfigError, match=r'"far.away:6379": nothing answers'):
        reachable("far.away:6379")
    release.set()


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_that_answers_is_taken_as_it_is(scheme, monkeypatch):
    monkeypatch.setattr(ray_address, "_WAIT_S", 10.0)
    with head() as address:
        assert reachable(scheme + address) == scheme + address


def test_a_cluster_with_tls_is_asked_for_a_connection_only(monkeypatch):
    monkeypatch.setenv("RAY_USE_TLS", "1")
    with silent_port() as address:
        assert reachable(address) == address


def test_no_address_is_a_local_ray():
    assert reachable("") == ""


@pytest.mark.parametrize(
    "address",
    ["foo", ":80", "h:0", "h:99999", "h:x", "local", "http://h:80", "h:1:2", "a b:1"],
)
def test_a_malformed_address_is_refused_with_what_is_wanted(address):
    message = re.escape(f'Ray address "{address}": want HOST:PORT')
    with pytest.raises(ConfigError, match=message):
        reachable(address)


@pytest.mark.parametrize("address", [None, 6379, b"h:1"])
def test_an_address_that_is_no_string_is_refused(address):
    with pytest.raises(ConfigError, match=r"Ray address: found .*, want a string"):
        reachable(address)


def test_auto_without_a_cluster_says_what_to_do():
    with pytest.raises(ConfigError, match=r'"auto": no cluster .* ray start --head'):
        reachable("auto")


def test_auto_is_what_the_environment_names(monkeypatch):
    with head() as address:
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert reachable("auto") == address


def test_auto_is_else_the_cluster_that_was_started_last(tmp_path):
    (tmp_path / "ray").mkdir()
    with head() as address:
        (tmp_path / "ray/ray_current_cluster").write_text(address)
        assert reachable("auto") == address


def test_auto_that_means_a_dead_cluster_names_it(tmp_path):
    (tmp_path / "ray").mkdir()
    with closed_port() as address:
        (tmp_path / "ray/ray_current_cluster").write_text(address)
        wanted = re.escape(f'"auto" (it means {address}): nothing answers')
        with pytest.raises(ConfigError, match=wanted):
            reachable("auto")


def test_the_command_line_ends_with_2_and_one_line_and_makes_no_run_folder(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with closed_port() as address:
        for more in (
            [],
            ["--sweep", "--set", "run.seed=[0, 1]"],
            ["--resume", "runs/none"],
        ):
            words = ["simulate", *more, "--ray-address", address]
            assert run_command_line(words) == 2
            said = capsys.readouterr()
            assert address in said.err
            assert len(said.err.splitlines()) == 1
            assert said.out == ""
    assert list(tmp_path.iterdir()) == []


def test_python_raises_and_makes_no_run_folder(tmp_path):
    with closed_port() as address, pytest.raises(ConfigError, match=address):
        simulate(config={"run.dir": tmp_path / "runs"}, ray_address=address)
    assert not (tmp_path / "runs").exists()
