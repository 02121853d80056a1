"""Flower's own processes for an app, over TLS with node keys, for benchmarks."""

import json
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from fedprune.common.data.partition import client_ids
from fedprune.common.errors import FedPruneError
from fedprune.common.system.ports import free_port
from fedprune.common.system.processes import Process, Supervisor, environment, tail
from fedprune.server.devices.certs import CertFolder, make_certificates
from fedprune.server.devices.questions import Question, flower, rows

_ROOT = Path(__file__).resolve().parents[3]
_START_S = 180.0
_POLL_S = 0.3
_NAME = "stock"
_SAID = 500  # characters of a log in an error


class Stock:
    """A SuperLink and SuperNodes as Flower starts them; use it as a context.

    Args:
        folder: Folder for all files.
        clients: Number of nodes.
    """

    def __init__(self, folder: Path, clients: int) -> None:
        self._folder = folder
        self._clients = clients
        self._address = f"127.0.0.1:{free_port()}"
        self._certs = CertFolder(folder / "certs")
        self._supervisor = Supervisor(_never)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start all processes."""
        make_certificates(self._certs.path, [], client_ids(self._clients), 30)
        self._home.mkdir()
        (self._home / "config.toml").write_text(
            f'[superlink.{_NAME}]\naddress = "{self._address}"\n'
            f"root-certificates = {json.dumps(str(self._certs.ca))}\n",
            encoding="utf-8",
        )
        with ExitStack() as stack:
            stack.enter_context(self._supervisor)
            self._supervisor.start(self._link())
            self._wait_for_link()
            for number, path in enumerate(self._certs.public_keys().values()):
                self._ask("supernode", "register", str(path), _NAME)
                self._supervisor.start(self._node(number, path.with_name("node.key")))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes."""
        self._stack.close()

    def run(
        self, app: Path, given: str, result: Path, limit_s: float
    ) -> tuple[int, int]:
        """Run an app until its result file exists.

        Args:
            app: Folder of the app.
            given: Its ``--run-config``.
            result: File that the app writes at its end.
            limit_s: Seconds that it may take.

        Returns:
            Bytes from and to the nodes, as Flower counts them.

        Raises:
            FedPruneError: If it takes longer, or a process ends.
        """
        number = str(self._ask("run", str(app), _NAME, "--run-config", given)["run-id"])
        end = time.monotonic() + limit_s
        self._supervisor.run(lambda: result.exists() or time.monotonic() > end)
        if not result.exists():
            msg = f"{app.name} took more than {limit_s:g} s"
            raise FedPruneError(msg)
        (row,) = rows(self._ask("ls", _NAME, "--run-id", number), "runs")
        traffic = row["network-traffic"]
        assert isinstance(traffic, dict)  # noqa: S101 - Flower's answer
        return int(traffic["inbound-bytes"]), int(traffic["outbound-bytes"])

    @property
    def _home(self) -> Path:
        return self._folder / "home"

    def _ask(self, *words: str) -> dict[str, object]:
        asked = Question(home=self._home, address=self._address)
        (found,) = asked.ask(words[:2], [words])
        return found

    def _link(self) -> Process:
        certs = self._certs
        return self._process(
            "superlink", *flower("flower-superlink"), "--enable-supernode-auth",
            "--ssl-ca-certfile", str(certs.ca), "--ssl-certfile", str(certs.server),
            "--ssl-keyfile", str(certs.server_key),
            "--port", self._address.rpartition(":")[2],
            "--database", str(self._folder / "link.db"),
            "--disable-runtime-dependency-installation",
        )  # fmt: skip

    def _node(self, number: int, key: Path) -> Process:
        return self._process(
            f"node-{number}", *flower("flower-supernode"),
            "--root-certificates", str(self._certs.ca), "--superlink", self._address,
            "--auth-supernode-private-key", str(key), "--port", str(free_port()),
            "--node-config", f"partition-id={number}",
        )  # fmt: skip

    def _process(self, name: str, *command: str) -> Process:
        surroundings = environment(self._home, [Path(sys.executable).parent])
        return Process(
            name=name,
            command=tuple(command),
            environment=surroundings | {"PYTHONPATH": str(_ROOT / "src")},
            log=self._folder / f"{name}.log",
        )

    def _wait_for_link(self) -> None:
        host, _, port = self._address.rpartition(":")
        end = time.monotonic() + _START_S
        while True:
            try:
                socket.create_connection((host, int(port)), timeout=1.0).close()
            except OSError:
                self._supervisor.check()
                if time.monotonic() > end:
                    raise
                time.sleep(_POLL_S)
            else:
                return


def _never(process: Process, code: int) -> float:
    said = " ".join(tail(process.log).split())[-_SAID:]
    msg = f"{process.name} ended with {code}: {said}"
    raise FedPruneError(msg)
