"""Flower's SuperLink as FedPrune starts it: its processes, and requests to it.

All files are in one state folder: Flower's own folder, the database, the secret of
the executor, logs.
"""

import json
import secrets
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from fedprune.common.config import load_config
from fedprune.common.errors import ConfigError, FedPruneError, IntegrityError
from fedprune.common.flower.bundle import APP_TOML, LIMIT_KEY, NAMES_KEY, RUN_KEY
from fedprune.common.system.atomic import write_bytes_atomic, write_json_atomic
from fedprune.common.system.paths import check_readable, empty_private_folder
from fedprune.common.system.processes import Process, environment
from fedprune.common.trust import STATE_VARIABLE, server_ledger
from fedprune.server.devices.certs import CertFolder
from fedprune.server.devices.questions import Question, rows
from fedprune.server.devices.stopped import note_stop
from fedprune.server.runs.folder import RunFolder, read_json_object

CURRENT = "current.json"  # the run that was started last
_SUBMITTED = "submitted.json"  # number -> folder of the runs that were started

# Flower's executor looks for a run that often, seconds.
_SOON = {"FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2"}
_CONNECTION = "fedprune"  # name of the connection
_ANY = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
_SECRET_BYTES = 32
# Commands that this server puts before Flower's own of the same name.
_PROGRAMS = {
    "flwr-serverapp": "fedprune.server.devices.serverapp",
    "flower-superlink": "fedprune.server.devices.gate.superlink",
}
_PORTS = 65536
_STOPPED = "finished:stopped"  # Flower's word


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A SuperLink: its address and its state folder.

    Attributes:
        state: Its folder.
        host: Address that it listens at.
        port: Port that it listens at.
        control: Port of the loopback for the operator and the runs.
        tls: Folder of its certificates, or None for plain connections.
    """

    state: Path
    host: str
    port: int
    control: int
    tls: Path | None

    @property
    def operator(self) -> str:
        """Address at which the operator's commands and runs reach it."""
        return f"127.0.0.1:{self.control}"

    @property
    def address(self) -> str:
        """Address at which nodes of this machine reach it."""
        host = "127.0.0.1" if self.host in _ANY else self.host
        return f"{host}:{self.port}"

    @property
    def home(self) -> Path:
        """Flower's own folder."""
        return self.state / "flower"

    @property
    def _secret(self) -> Path:
        return self.state / "secret"

    @property
    def _token(self) -> Path:
        """File of what the operator's requests carry."""
        return self.state / "operator"

    @property
    def _names_file(self) -> Path:
        """File of node number -> client of the registered key."""
        return self.state / "registered.json"

    def prepare(self) -> None:
        """Write the files that Flower's processes read.

        Raises:
            ConfigError: If the state folder cannot be used.
        """
        # Flower runs the files here, so the folder is emptied of any planted ones.
        for folder in (self.home / "apps", self.state / "app", self.state / "bin"):
            empty_private_folder(folder)
        write_bytes_atomic(self.state / "app/pyproject.toml", APP_TOML.encode())
        write_bytes_atomic(self.home / "config.toml", self._connection().encode())
        for name, module in _PROGRAMS.items():
            script = f"#!{sys.executable}\nfrom {module} import main\n\nmain()\n"
            write_bytes_atomic(self.state / "bin" / name, script.encode(), mode=0o700)
        if not self._secret.exists():
            secret = secrets.token_bytes(_SECRET_BYTES)
            write_bytes_atomic(self._secret, secret, mode=0o600)
        if not self._token.exists():
            token = secrets.token_hex(_SECRET_BYTES).encode()
            write_bytes_atomic(self._token, token, mode=0o600)
        tls = None if self.tls is None else str(self.tls.resolve())
        write_json_atomic(
            self.state / "link.json",
            {
                "host": self.host,
                "port": self.port,
                "control": self.control,
                "tls": tls,
            },
        )

    def superlink(self) -> Process:
        """Return the SuperLink, the process that nodes connect to."""
        command = [
            # -P: nothing is imported from the folder of the script.
            *(sys.executable, "-P", str(self.state / "bin/flower-superlink")),
            *(str(self.control), str(self._token)),
            *("--host", self.host, "--port", str(self.port)),
            *("--database", str(self.state / "link.db"), "--isolation", "process"),
            *("--superexec-auth-secret-file", str(self._secret)),
            "--disable-runtime-dependency-installation",
        ]
        if self.tls is None:
            command.append("--insecure")
        else:
            folder = CertFolder(self.tls)
            command += ["--enable-supernode-auth"]
            command += ["--ssl-ca-certfile", str(folder.ca)]
            command += ["--ssl-certfile", str(folder.server)]
            command += ["--ssl-keyfile", str(folder.server_key)]
        return self._process("superlink", command)

    def executor(self) -> Process:
        """Return the process that runs the server's half of a run."""
        command = [
            *(sys.executable, "-P", "-m", "fedprune.server.devices.gate.executor"),
            *("--runtime-api-address", self.operator),
            *("--superexec-auth-secret-file", str(self._secret)),
        ]
        if self.tls is None:
            command.append("--insecure")
        else:
            command += ["--root-certificates", str(CertFolder(self.tls).ca)]
        return self._process("executor", command)

    def answers(self) -> bool:
        """Return whether a process listens at the operator's port."""
        try:
            with socket.create_connection(("127.0.0.1", self.control), timeout=1.0):
                return True
        except OSError:
            return False

    def register(self) -> list[str]:
        """Register the nodes whose public keys are in the folder of certificates.

        Returns:
            Names of the newly registered clients.
        """
        if self.tls is None:
            return []
        known = read_json_object(self._names_file) if self._names_file.exists() else {}
        fresh: dict[str, tuple[str, str]] = {}
        for name, path in CertFolder(self.tls).public_keys().items():
            key = path.read_text(encoding="utf-8").strip()
            entry = known.get(name)
            if isinstance(entry, dict) and entry.get("key") == key:
                continue
            fresh[name] = (key, str(path))
        asked = [
            ("supernode", "register", path, _CONNECTION) for _, path in fresh.values()
        ]
        answers = self._question.ask(("supernode", "register"), asked) if asked else ()
        for (name, (key, _)), found in zip(fresh.items(), answers, strict=True):
            known[name] = {"key": key, "node": int(str(found["node-id"]))}
            write_json_atomic(self._names_file, known)
        return list(fresh)

    def submit(self, folder: Path) -> int:
        """Start the run of a run folder; return Flower's number of it."""
        names = "" if self.tls is None else self._names_file
        limit = load_config(RunFolder(folder).config).update.max_bytes
        chosen = f'{RUN_KEY}="{folder.resolve()}" {NAMES_KEY}="{names}" '
        chosen += f"{LIMIT_KEY}={limit}"
        app = str(self.state / "app")
        found = self._request("run", app, "--run-config", chosen, index=2)
        number = int(str(found["run-id"]))
        write_json_atomic(
            self.state / CURRENT, {"number": number, "folder": str(folder.resolve())}
        )
        folders = {**self._folders(), str(number): str(folder.resolve())}
        write_json_atomic(self.state / _SUBMITTED, folders)
        return number

    def stop(self, number: int) -> None:
        """Stop a run, and note it among its events once it has ended.

        Raises:
            ConfigError: If it is stopped, and its process does not end.
        """
        self._request("stop", str(number), index=2)
        folder = self._folders().get(str(number))
        if folder is not None and Path(str(folder)).is_dir():
            note_stop(RunFolder(Path(str(folder))))

    def was_stopped(self, number: int) -> bool:
        """Return whether a run was stopped."""
        return any(
            str(run["run-id"]) == str(number) and run["status"] == _STOPPED
            for run in self.runs()
        )

    def runs(self) -> list[dict[str, object]]:
        """Return Flower's table of runs, newest first."""
        return rows(self._request("ls", index=1), "runs")

    def traffic(self, number: int) -> tuple[int, int]:
        """Return the bytes of a run from and to nodes, as Flower counts them."""
        found = self._request("ls", "--run-id", str(number), index=1)
        for run in rows(found, "runs"):
            counts = run.get("network-traffic")
            if isinstance(counts, dict):
                return int(counts["inbound-bytes"]), int(counts["outbound-bytes"])
        return 0, 0

    def running(self) -> list[int]:
        """Return the numbers of the runs that have not ended."""
        return [
            int(str(run["run-id"]))
            for run in self.runs()
            if not str(run["status"]).startswith("finished")
        ]

    def _folders(self) -> dict[str, object]:
        """Return number -> folder of the runs that were started."""
        path = self.state / _SUBMITTED
        return read_json_object(path) if path.exists() else {}

    def names(self) -> dict[str, str]:
        """Return node number -> client of the registered keys."""
        known = read_json_object(self._names_file) if self._names_file.exists() else {}
        entries = {name: e for name, e in known.items() if isinstance(e, dict)}
        return {str(entry["node"]): name for name, entry in entries.items()}

    def nodes(self) -> list[dict[str, object]]:
        """Return Flower's table of nodes."""
        return rows(self._request("supernode", "list", index=2), "nodes")

    def _request(self, *words: str, index: int) -> dict[str, object]:
        """Ask the SuperLink, with the connection's name inserted at ``index``."""
        named = (*words[:index], _CONNECTION, *words[index:])
        (found,) = self._question.ask(words[:2], [named])
        return found

    @property
    def _question(self) -> Question:
        module = "fedprune.server.devices.gate.console"
        command = (sys.executable, "-P", "-m", module, str(self._token))
        return Question(home=self.home, address=self.address, command=command)

    def _process(self, name: str, command: list[str]) -> Process:
        return Process(
            name=name,
            command=tuple(command),
            environment=environment(self.home, [self.state / "bin"])
            | {STATE_VARIABLE: str(server_ledger(self.state)), **_SOON},
            log=self.state / "logs" / f"{name}.log",
        )

    def _connection(self) -> str:
        lines = [
            "[superlink]",
            f'default = "{_CONNECTION}"',
            f"[superlink.{_CONNECTION}]",
            f'address = "{self.operator}"',
        ]
        if self.tls is None:
            lines.append("insecure = true")
        else:
            ca = CertFolder(self.tls).ca.resolve()
            lines.append(f"root-certificates = {json.dumps(str(ca))}")
        return "\n".join(lines) + "\n"


def parse_address(option: str, text: str) -> tuple[str, int]:
    """Return host and port of "HOST:PORT".

    Raises:
        ConfigError: If it is malformed.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < _PORTS:
        msg = f'{option}: found "{text}", want HOST:PORT, for example 0.0.0.0:8000'
        raise ConfigError(msg)
    return host.strip("[]"), int(port)


def live_link(state: Path) -> Link:
    """Return the link of a server that is up.

    Raises:
        ConfigError: If this is not a server's state folder.
        IntegrityError: If its description is broken.
        FedPruneError: If no server answers.
    """
    link = open_link(state)
    if not link.answers():
        msg = f"no server answers at {link.address}; start it: fedprune serve"
        raise FedPruneError(msg)
    return link


def open_link(state: Path) -> Link:
    """Return the link of a state folder.

    Raises:
        ConfigError: If this is not a server's state folder.
        IntegrityError: If its description is broken.
    """
    path = state / "link.json"
    advice = f"{state} is not a state folder of fedprune serve: start a server there, "
    check_readable(path, f"{advice}or name its folder: --state DIR")
    try:
        found = read_json_object(path)
        tls = found["tls"]
        return Link(
            state=state,
            host=str(found["host"]),
            port=int(str(found["port"])),
            control=int(str(found["control"])),
            tls=None if tls is None else Path(str(tls)),
        )
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{path}: not the description of a SuperLink: {error}"
        raise IntegrityError(msg) from error
