"""Devices, servers, networks and disks that fail: ``make e2e-faults``.

Each case completes, or ends with the documented error and exit code.
"""

import contextlib
import json
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest
from helpers.federation import IDS, Federation
from helpers.processes import PATHS, child, fedprune, wait_for
from helpers.relay import Relay

from fedprune.server.runs.events import ClientAnswered, of_kind, read_events
from fedprune.server.runs.folder import RunFolder
from fedprune.simulations.runs.api import simulate

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(2400)]

# Limits, not pauses: a busy machine takes several times as long as an idle one.
PATIENCE_S = 600
RUN_S = 1200
FIRST, SECOND, THIRD = IDS


@pytest.fixture
def federation(tmp_path):
    made = Federation(tmp_path, minimum=2)
    made.make_certificates()
    return made


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Return the figures of a simulation in which no client fails."""
    folder = tmp_path_factory.mktemp("same")
    config = Federation(folder, minimum=2).config
    run = config.run.model_copy(update={"dir": str(folder / "runs")})
    run = run.model_copy(update={"engine": "inprocess"})
    return simulate(config=config.model_copy(update={"run": run})).summary


def test_a_client_killed_in_training_is_replaced_and_the_round_goes_on(tmp_path):
    # Long local training, so that the kill falls into it.
    federation = Federation(tmp_path, minimum=2, epochs=5)
    federation.make_certificates()
    with federation.serve() as server, federation.clients() as clients:
        victim = clients[FIRST]
        wait_for(lambda: "round 2: received" in victim.output, PATIENCE_S, "round 2")
        kill(victim, "fedprune.client.executor")
        assert server.wait(RUN_S) == 0, server.output
        assert "the executor ended with -9; it is restarted" in victim.output
        assert victim.wait(PATIENCE_S) == 0, victim.output
    rows = records(federation, FIRST)
    assert rows[2].status == "failed"
    assert "stopped responding" in rows[2].reason
    assert rows[max(rows)].status == "accepted"
    assert figures(federation)["delivered"] == 3


def test_a_killed_supernode_comes_back_through_the_reactivation_trap(federation):
    with federation.serve() as server, federation.clients() as clients:
        victim = clients[SECOND]
        # "answered" alone is not enough: the answer must have reached the server.
        wait_for(lambda: "round 1/" in server.output, PATIENCE_S, "round 1")
        kill(victim, "fedprune.client.supernode")
        assert server.wait(RUN_S) == 0, server.output
        assert "counts on the process of before" in victim.output
        assert "the executor ended" not in victim.output
        # It may be let in again only after the run, which needs no third answer.
        other = clients[THIRD]
        assert other.wait(PATIENCE_S) == 0, other.output
    rows = records(federation, SECOND)
    assert rows[1].status == "accepted"
    assert {row.status for row in rows.values()} <= {"accepted", "failed", "late"}
    assert figures(federation)["rounds"] == 7


def test_a_killed_superlink_costs_nothing(federation, expected):
    with federation.serve() as server, federation.clients() as clients:
        wait_for(lambda: "round 2/" in server.output, PATIENCE_S, "two rounds")
        kill(server, "flower-superlink")
        assert server.wait(RUN_S) == 0, server.output
        assert "superlink ended with -9; it is restarted" in server.output
        for name, device in clients.items():
            assert device.wait(PATIENCE_S) == 0, (name, device.output)
    assert_undisturbed(federation, expected)


def test_a_killed_run_is_resumed_by_the_server_itself(federation, expected):
    with federation.serve() as server, federation.clients():
        wait_for(lambda: "round 3/" in server.output, PATIENCE_S, "three rounds")
        kill(server, "flwr-serverapp")
        assert server.wait(RUN_S) == 0, server.output
        assert "the run is resumed" in server.output
    assert_undisturbed(federation, expected)


def test_a_server_killed_whole_goes_on_from_its_checkpoint(federation, expected):
    with federation.clients():
        with federation.serve() as server:
            wait_for(lambda: "round 3/" in server.output, PATIENCE_S, "three rounds")
            os.kill(server.process.pid, signal.SIGKILL)
            # All that it has started ends with it.
            assert server.left_after(60) == []
        with federation.serve("--resume", str(federation.run)) as again:
            assert again.wait(RUN_S) == 0, again.output
    assert_undisturbed(federation, expected)


def test_a_network_cut_of_30_s_costs_nothing(federation, expected):
    relayed(federation, lambda relay: relay.cut())
    assert_undisturbed(federation, expected)


def test_connections_reset_for_30_s_cost_one_client_some_rounds(federation):
    relayed(federation, lambda relay: relay.cut(reset=True))
    rows = records(federation, FIRST)
    assert rows[1].status == "accepted"
    assert {row.status for row in rows.values()} <= {"accepted", "failed", "late"}
    for name in (SECOND, THIRD):
        statuses = {row.status for row in records(federation, name).values()}
        assert statuses == {"accepted"}


def relayed(federation, cut):
    """Run with one client behind a relay; cut that for 30 s after two rounds."""
    relay = Relay(federation.port)
    try:
        with (
            federation.serve() as server,
            federation.client(FIRST, port=relay.port) as first,
            federation.client(SECOND),
            federation.client(THIRD),
        ):
            wait_for(lambda: "round 2/" in server.output, PATIENCE_S, "two rounds")
            cut(relay)
            time.sleep(30)
            relay.mend()
            assert server.wait(RUN_S) == 0, server.output + first.output
    finally:
        relay.close()
    assert relay.carried > 100_000


def test_a_full_disk_fails_one_client_by_name_and_no_other(federation):
    # Residuals of 300 kB do not fit; logs, keys and structure do.
    limit = 200_000
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    with (
        federation.serve() as server,
        federation.client(FIRST),
        federation.client(SECOND),
    ):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
        try:
            with federation.client(THIRD) as full:
                resource.setrlimit(resource.RLIMIT_FSIZE, old)
                assert server.wait(RUN_S) == 0, server.output
                assert "cannot write" in full.output
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
    rows = records(federation, THIRD)
    assert rows[1].status == "failed"
    assert "cannot write" in rows[1].reason
    statuses = {row.status for row in records(federation, FIRST).values()}
    assert statuses == {"accepted"}


def test_strangers_are_refused_with_the_reason(federation, tmp_path):
    """Another authority, an unknown key, a wrong clock, no TLS; all at once."""
    place = tmp_path / "other"
    place.mkdir()
    other = Federation(place)
    other.make_certificates()
    keys, foreign = (f.certs / "clients" / FIRST for f in (federation, other))
    unknown = tmp_path / "unknown"
    shutil.copytree(foreign, unknown)
    shutil.copy(keys / "ca.crt", unknown / "ca.crt")
    cases = {
        "not signed by": (foreign, 0),
        "refuses client client-000": (unknown, 0),
        "speaks TLS": (None, 0),
        "s ahead of the server": (keys, 3600),
        "s behind": (keys, -3600),
    }
    with federation.serve("--quiet"), contextlib.ExitStack() as stack:
        wait_for(lambda: serving(federation), PATIENCE_S, "the server")
        started = {
            words: stack.enter_context(stranger(federation, number, *case))
            for number, (words, case) in enumerate(cases.items())
        }
        for words, refused in started.items():
            assert refused.wait(PATIENCE_S) == 2, refused.output
            errors = [x for x in refused.output.splitlines() if x.startswith("error:")]
            assert len(errors) == 1, refused.output
            assert words in errors[0]
            assert refused.left_after(60) == []


def stranger(federation, number, keys, skew):
    """Start a client that must be refused."""
    trust = ["--insecure"] if keys is None else ["--tls", str(keys)]
    command = fedprune(
        "client", str(federation.file), "--server", f"127.0.0.1:{federation.port}",
        "--id", FIRST, "--partition", "0/3", *trust,
        "--state", str(federation.folder / f"stranger-{number}"),
    )  # fmt: skip
    path = os.pathsep.join([str(Path(__file__).with_name("skewed")), PATHS])
    clock = {"PYTHONPATH": path, "FEDPRUNE_TEST_CLOCK": str(skew)} if skew else None
    return child(command, federation.folder, clock)


def serving(federation):
    registered = federation.state / "registered.json"
    return registered.exists() and len(json.loads(registered.read_text())) == len(IDS)


def kill(started, words):
    """Kill a child's process by its command line."""
    victims = [n for n in started.alive() if words in command_line(n)]
    assert victims, f"no process '{words}'"
    for number in victims:
        os.kill(number, signal.SIGKILL)


def command_line(number):
    try:
        return (
            Path(f"/proc/{number}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        )
    except OSError:
        return ""


def records(federation, name):
    """Return round -> what became of one client in it."""
    events = read_events(RunFolder(federation.run).events)
    rows = [e for e in of_kind(events, ClientAnswered) if e.client == name]
    return {row.round: row for row in rows}


def figures(federation):
    return json.loads(RunFolder(federation.run).summary.read_bytes())


def assert_undisturbed(federation, expected):
    found = figures(federation)
    assert found["failed"] == 0
    assert found["model_sha256"] == expected["model_sha256"]
    assert found["delivered"] == len(IDS)
