"""A device of a federation: Flower's SuperNode, and the executor beside it."""

import itertools
import json
import re
import secrets
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from fedprune.client.device import node
from fedprune.client.device.preflight import Reach, try_server
from fedprune.common.config import toml_value
from fedprune.common.data.places import check_early
from fedprune.common.errors import ConfigError, DataError, FedPruneError
from fedprune.common.system.atomic import drop_unfinished, write_bytes_atomic
from fedprune.common.system.lock import hold
from fedprune.common.system.logs import NewLines
from fedprune.common.system.paths import check_readable, make_private_folder
from fedprune.common.system.ports import free_port
from fedprune.common.system.processes import (
    ALIVE,
    LOCK,
    Process,
    Supervisor,
    environment,
    tail,
)
from fedprune.common.text import say

_AGAIN_S = 5.0
_SOON_S, _SOON_TRIES = 1.0, 30  # a server that starts together with its devices
_KNOCK_S = 2.0
_REMIND_S = 60.0
_EXECUTOR_S = 1.0
_SECRET_BYTES = 32
_REFUSED = re.compile(r"\[code: (\d+)\] *(.*)")
# Flower's answer for an unknown key and for a node that died: the SuperLink treats a
# node as alive until it has missed two heartbeats, 60 s.
_NOT_ACTIVATED = "2004"
_TRAP_S = 90.0
# After a connection that was reset in a TLS handshake the process of Flower 1.41 hangs;
# the last line of its log is an error.
_FAILED = "ERROR"
_CONNECTED = "SuperNode ID:"
_LOOK_S = 10.0
_EARLY = (
    f"waiting up to {_TRAP_S:g} s until the server knows this client's key: it reads "
    "keys as it starts, and with fedprune submit"
)
_RETURNING = (
    f"waiting up to {_TRAP_S:g} s until the server lets this client in again: it "
    "counts on the process of before for 60 s"
)
_IN_USE = "want another --state"
_KINDS = {ConfigError.exit_code: ConfigError, DataError.exit_code: DataError}


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Settings of one device: its client id, data, server and folders.

    Attributes:
        client_id: Its client id.
        config: Configuration file, or None for the defaults.
        data: Replaces ``task.data``, or "".
        share: "k/n": it trains on part k of n of the data; "" = on all of it.
        host: Address of the server.
        port: Port of the server.
        tls: Folder with ca.crt, node.key; None = plain connections.
        state: The device's own folder.
    """

    client_id: str
    config: Path | None
    data: str
    share: str
    host: str
    port: int
    tls: Path | None
    state: Path

    def check(self) -> None:
        """Refuse unusable settings, before anything is started.

        Raises:
            ConfigError: If files or data are missing or wrong, or the state is in use.
            DataError: If the data cannot be used.
        """
        check_early(node.device_config(self._node()))
        make_private_folder(self.state)
        with hold(self.state / LOCK, advice=_IN_USE):
            pass  # refused before the data are loaded, which takes seconds
        words = [json.dumps(self._node())]
        if self.tls is not None:
            self._check_keys(self.tls)
            words.append(str(self.tls / "node.key"))
        done = subprocess.run(  # noqa: S603 - our own module
            [sys.executable, "-m", "fedprune.client.device.check", *words],
            env=environment(self.state / "flower"),
            capture_output=True,
            text=True,
            check=False,
        )
        lines = done.stderr.strip().splitlines()
        if done.returncode:
            kind = _KINDS.get(done.returncode, FedPruneError)
            raise kind(lines[-1] if lines else "the check of the data failed")
        for line in lines:
            if line.startswith(node.REMARK):
                say(line)

    def _check_keys(self, tls: Path) -> None:
        source = f"clients/{self.client_id} of the folder that fedprune certs made"
        for name in ("ca.crt", "node.key"):
            check_readable(tls / name, f"copy {source}")
        try:
            ssl.create_default_context(cafile=tls / "ca.crt")
        except ssl.SSLError as error:
            msg = f"{tls / 'ca.crt'} has no certificate; copy {source}"
            raise ConfigError(msg) from error

    def supernode(self, port: int) -> Process:
        """Return the SuperNode, the process connected to the server."""
        table = " ".join(f"{k}={toml_value(v)}" for k, v in self._node().items())
        limit = node.device_config(self._node()).device.max_bytes
        command = [
            *(sys.executable, "-m", "fedprune.client.supernode", str(limit)),
            *("--superlink", f"{self.host}:{self.port}", "--isolation", "process"),
            *("--port", str(port), "--node-config", table),
            *("--superexec-auth-secret-file", str(self.secret)),
        ]
        if self.tls is None:
            command.append("--insecure")
        else:
            command += ["--root-certificates", str(self.tls / "ca.crt")]
            command += ["--auth-supernode-private-key", str(self.tls / "node.key")]
        return self._process("supernode", command, self.state / "logs/supernode.log")

    def executor(self, port: int) -> Process:
        """Return the executor, the process that trains; it prints to our output."""
        command = [sys.executable, "-m", "fedprune.client.executor"]
        command += [f"127.0.0.1:{port}", str(self.secret)]
        return self._process("executor", command, None)

    @property
    def secret(self) -> Path:
        """File of the secret that both processes share."""
        return self.state / "secret"

    def _node(self) -> dict[str, str]:
        return {
            node.CLIENT_ID: self.client_id,
            node.CONFIG: "" if self.config is None else str(self.config.resolve()),
            node.DATA: self.data,
            node.SHARE: self.share,
            node.STATE: str(self.state),
        }

    def _process(self, name: str, command: list[str], log: Path | None) -> Process:
        surroundings = environment(self.state / "flower")
        return Process(
            name=name, command=tuple(command), environment=surroundings, log=log
        )


class DeviceService:
    """Supervises a device's processes and keeps it connected to its federation.

    Args:
        device: Its settings.
        once: Whether it ends when a run's final network has arrived.
    """

    def __init__(self, device: Device, *, once: bool) -> None:
        self._device = device
        self._once = once
        self._supervisor = Supervisor(self._policy, device.state / ALIVE)
        self._reminded, self._said = 0.0, ""
        self._knocking = 0.0
        self._looked, self._last = 0.0, ""
        self._log = device.state / "logs" / "supernode.log"
        self._before = self._log.exists()  # an earlier process of this device
        self._lines = NewLines(self._log)

    def run(self) -> None:
        """Work until Ctrl-C or SIGTERM, or until the final network has arrived.

        Raises:
            ConfigError: If the server refuses this device or is the wrong one, or the
                state folder is in use.
        """
        own = self._device
        make_private_folder(own.state)
        with hold(own.state / LOCK, advice=_IN_USE):
            drop_unfinished(own.state)
            if not own.secret.exists():
                token = secrets.token_bytes(_SECRET_BYTES)
                write_bytes_atomic(own.secret, token, mode=0o600)
            self._work()

    def _work(self) -> None:
        own = self._device
        final = own.state / node.FINAL
        before = _changed(final)
        with self._supervisor:
            self._wait_for_server()
            port = free_port()
            self._supervisor.start(own.executor(port))
            self._supervisor.start(own.supernode(port))
            say(f"client {own.client_id}: connecting to {own.host}:{own.port}")
            self._supervisor.run(lambda: self._done(final, before))
            say(f"final network: {final}")
            # The answer to the delivery is still being sent.
            end = time.monotonic() + _AGAIN_S
            self._supervisor.run(lambda: time.monotonic() > end)

    def _done(self, final: Path, before: float) -> bool:
        """Return whether the work is done; end a SuperNode that hangs."""
        now = time.monotonic()
        if any(_CONNECTED in line for line in self._lines.read()):
            self._knocking = 0.0
            say("connected; waiting for the next run, or the next round of this one")
        if now - self._looked > _LOOK_S:
            self._looked = now
            said = _last_line(self._log)
            if _FAILED in said and said == self._last:
                self._supervisor.end("supernode")
            self._last = said
        return self._once and _changed(final) != before

    def _wait_for_server(self) -> None:
        for attempt in itertools.count():
            own = self._device
            authority = None if own.tls is None else own.tls / "ca.crt"
            reach, why = try_server(own.host, own.port, authority)
            if reach is Reach.READY:
                return
            self._remind(f"waiting for the server: {why}")
            time.sleep(_SOON_S if attempt < _SOON_TRIES else _AGAIN_S)

    def _policy(self, process: Process, code: int) -> float:
        """Print why a process ended; return the seconds until its restart.

        Raises:
            ConfigError: If another attempt would end the same way.
        """
        if process.name == "executor":
            say(f"the executor ended with {code}; it is restarted")
            return _EXECUTOR_S
        said = _REFUSED.findall(tail(process.log))
        number, text = said[-1] if said else ("", "")
        if number:
            return self._refused(number, text)
        self._knocking, self._before = 0.0, True
        self._remind(f"the connection ended ({code}); trying again")
        self._wait_for_server()
        return _AGAIN_S

    def _refused(self, number: str, text: str) -> float:
        """Retry while the server may not know this client's key, or its end, yet.

        Returns:
            Seconds until the next attempt.

        Raises:
            ConfigError: If it still refuses after that time, or for another reason.
        """
        now = time.monotonic()
        if not self._knocking or now - self._knocking > 2 * _TRAP_S:
            self._knocking = now
        if number == _NOT_ACTIVATED and now - self._knocking < _TRAP_S:
            self._remind(_RETURNING if self._before else _EARLY)
            return _AGAIN_S if self._before else _KNOCK_S
        msg = (
            f"the server refuses client {self._device.client_id}: {text or number}; it "
            "reads clients/*/node.pub of its certificates when it starts and after "
            "fedprune submit"
        )
        raise ConfigError(msg)

    def _remind(self, text: str) -> None:
        """Print a lasting state at once, then once a minute."""
        now = time.monotonic()
        if text != self._said or now - self._reminded > _REMIND_S:
            self._said, self._reminded = text, now
            say(text)


def _last_line(log: Path) -> str:
    lines = tail(log).rstrip().splitlines()
    return lines[-1] if lines else ""


def _changed(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0
