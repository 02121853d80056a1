"""A stranger who has the public certificate and no more: ``make e2e``."""

import json
import os
import shutil
import ssl
import subprocess
import sys

import httpx
import pytest
from helpers.federation import IDS, Federation
from helpers.processes import wait_for

from fedprune.common.flower.bundle import APP_TOML
from fedprune.server.devices.questions import flower
from fedprune.server.devices.superlink import open_link
from fedprune.server.runs.events import RoundFinished, of_kind, read_events
from fedprune.server.runs.folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(1500)]

PATIENCE_S = 600
CONTROL = ("start-run", "list-runs", "stop-run", "register-node", "list-nodes")


class Stranger:
    """Flower's own command with the server's address and public certificate."""

    def __init__(self, folder, federation):
        folder.mkdir()
        self.folder = folder
        self.ca = shutil.copy(federation.certs / "ca.crt", folder)
        (folder / "app").mkdir()
        (folder / "app/pyproject.toml").write_text(APP_TOML)
        self._make_key(folder / "key")
        lines = [
            "[superlink.there]",
            f'address = "127.0.0.1:{federation.port}"',
            f'root-certificates = "{self.ca}"',
        ]
        (folder / "config.toml").write_text("\n".join(lines))

    def _make_key(self, path):
        """Make a node's key with our own certificates of another authority."""
        words = [sys.executable, "-m", "fedprune", "certs", str(path), "--client", "x"]
        subprocess.run(words, check=True, capture_output=True)
        self.key = path / "clients/x/node.pub"

    def flwr(self, *words):
        """Return Flower's answer."""
        done = subprocess.run(
            [*flower("flwr"), *words, "--format", "json"],
            env={**os.environ, "FLWR_HOME": str(self.folder)},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        start = done.stdout.find("{")
        if start < 0:
            return {"success": False, "said": done.stderr}
        return json.JSONDecoder().raw_decode(done.stdout[start:])[0]

    def post(self, port, path, scheme="https"):
        """Return the status of an empty request; None when there is no answer."""
        context = ssl.create_default_context(cafile=self.ca)
        headers = {"content-type": "application/protobuf"}
        try:
            return httpx.post(
                f"{scheme}://127.0.0.1:{port}{path}",
                content=b"",
                headers=headers,
                verify=context,
                timeout=60.0,
            ).status_code
        except httpx.HTTPError:
            return None


def test_a_stranger_lists_starts_stops_and_registers_nothing(tmp_path):
    # Long enough that the run cannot end before the stranger has tried everything.
    federation = Federation(tmp_path, epochs=18)
    federation.make_certificates()
    stranger = Stranger(tmp_path / "stranger", federation)
    with federation.serve("--quiet") as server, federation.clients() as clients:
        registered = federation.state / "registered.json"
        wait_for(lambda: keys(registered) == set(IDS), PATIENCE_S, "keys")
        started = federation.ask(
            "submit", str(federation.file), "--state", str(federation.state)
        )
        folder = RunFolder.open(federation.run)
        wait_for(lambda: rounds(folder), PATIENCE_S, "round 1")
        link = open_link(federation.state)

        # 1. Flower's own command, at the address that devices use.
        number = str(started["number"])
        for words in (
            ("ls", "there"),
            ("supernode", "list", "there"),
            ("supernode", "register", str(stranger.key), "there"),
            ("stop", number, "there"),
            ("run", str(stranger.folder / "app"), "there"),
        ):
            answer = stranger.flwr(*words)
            assert answer["success"] is False, (words, answer)

        # 2. By hand, with and without TLS, at both ports.
        for name in CONTROL:
            path = f"/v1/control/{name}"
            assert stranger.post(link.port, path) == 404
            assert stranger.post(link.control, path) == 403
            assert stranger.post(link.port, path, "http") is None
            assert stranger.post(link.control, path, "http") is None
        assert stranger.post(link.port, "/v1/runtime/acquire-task") == 404
        assert stranger.post(link.port, "/v1/fleet/register-node") == 401

        # 3. The operator sees one run and no other client, and the run goes on.
        (run,) = link.runs()
        assert (str(run["run-id"]), run["status"]) == (number, "running")
        assert {node["node-id"] for node in link.nodes()} == set(link.names())
        wait_for(folder.summary.exists, PATIENCE_S, server.output)
        for name, device in clients.items():
            assert device.wait(PATIENCE_S) == 0, (name, device.output)
    summary = json.loads(folder.summary.read_bytes())
    assert (summary["rounds"], summary["delivered"]) == (7, len(IDS))


def keys(registered):
    return set(json.loads(registered.read_text())) if registered.exists() else set()


def rounds(folder):
    return [e.round for e in of_kind(read_events(folder.events), RoundFinished)]
