"""A server and clients as an operator starts them, on the loopback, over TLS."""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from fedprune.common.config import load_config
from fedprune.common.system.ports import free_port
from helpers.processes import Child, child, fedprune

IDS = ("client-000", "client-001", "client-002")
# Part K of N of one data set on each device: what a simulation deals out.
TEXT = """\
[task]
data = "digits"
clients = 3

[rounds]
warmup = 1
sparsify = 1
finetune = 1
cuts = 2
final = 1
cohort = 3
minimum = {minimum}
quorum = 1.0
deadline_s = {deadline}

[client]
epochs = {epochs}

[prune]
budget = {{ params = 0.5 }}

[update]
update_density = 0.5
values = "int8"

[run]
dir = "{runs}"
controls = []
"""

# What devices say of it does not count: the server's values travel.
OWN = """\
[task]
data = "digits"

[client]
epochs = 7
clip = 0.001
validation = 0.5

[run]
seed = 99
"""


class Federation:
    """Folders, names and commands of one federation under test.

    Args:
        folder: Where everything goes.
        settings: Replace fields of ``TEXT``.
    """

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.port = free_port()
        self.file = folder / "fedprune.toml"
        fields = {"minimum": 3, "deadline": 150.0, "epochs": 1, "runs": folder / "runs"}
        self.file.write_text(TEXT.format(**(fields | settings)), encoding="utf-8")
        self.own = folder / "device.toml"
        self.own.write_text(OWN, encoding="utf-8")
        self.certs = folder / "certs"

    @property
    def config(self):
        """The configuration as the server reads it."""
        return load_config(self.file)

    @property
    def run(self) -> Path:
        """The one run folder."""
        (found,) = (self.folder / "runs").iterdir()
        return found

    def make_certificates(self, host="localhost", clients=IDS):
        names = [word for name in clients for word in ("--client", name)]
        hosts = ("--host", host) if host else ()
        command = fedprune("certs", str(self.certs), *hosts, *names)
        with child(command, self.folder) as done:
            assert done.wait(240) == 0, done.output

    @contextlib.contextmanager
    def serve(self, *options: str) -> Iterator[Child]:
        words = options or (str(self.file),)
        command = fedprune(
            "serve", *words, "--tls", str(self.certs),
            "--listen", f"127.0.0.1:{self.port}", "--state", str(self.state),
        )  # fmt: skip
        with child(command, self.folder) as server:
            yield server

    @contextlib.contextmanager
    def client(self, name: str, *options: str, port: int = 0) -> Iterator[Child]:
        number = IDS.index(name)
        command = fedprune(
            "client", str(self.own), "--server", f"127.0.0.1:{port or self.port}",
            "--id", name, "--partition", f"{number}/{len(IDS)}",
            "--tls", str(self.certs / "clients" / name),
            "--state", str(self.device(name)), "--once", *options,
        )  # fmt: skip
        with child(command, self.folder) as started:
            yield started

    @contextlib.contextmanager
    def clients(self) -> Iterator[dict[str, Child]]:
        with contextlib.ExitStack() as stack:
            yield {name: stack.enter_context(self.client(name)) for name in IDS}

    @property
    def state(self) -> Path:
        return self.folder / "server"

    def device(self, name: str) -> Path:
        return self.folder / "devices" / name

    def ask(self, *words: str) -> dict:
        """Return what a command says as JSON."""
        command = fedprune(*words, "--json")
        with child(command, self.folder) as done:
            assert done.wait(240) == 0, done.output
            return json.loads(done.output)


def python(*words: str) -> list[str]:
    """Return a command of this Python."""
    return [sys.executable, *words]
