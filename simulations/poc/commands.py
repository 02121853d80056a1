"""Commands of the server and the devices of a proof of concept."""

import os
import sys

from fedprune.common.config import toml_value
from fedprune.common.system.processes import Process
from fedprune.server.runs.folder import RunFolder
from fedprune.simulations.poc.folder import PocFolder

SERVER = "server"
HOST = "127.0.0.1"


def server(folder: PocFolder, port: int, unfinished: RunFolder | None) -> Process:
    """Return the server, which carries out one run and ends with it.

    Args:
        folder: Of the proof of concept.
        port: Port of the loopback that it listens at.
        unfinished: The run that is resumed; None = a new one.
    """
    if unfinished is None:
        where = f"run.dir={toml_value(str(folder.runs))}"
        words = [str(folder.config), "--set", where]
    else:
        words = ["--resume", str(unfinished.path)]
    command = _fedprune(
        "serve", *words, "--tls", str(folder.certs), "--listen", f"{HOST}:{port}",
        "--state", str(folder.server),
    )  # fmt: skip
    return _process(folder, SERVER, command)


def device(folder: PocFolder, port: int, name: str) -> Process:
    """Return a device, which ends when the final network has arrived."""
    command = _fedprune(
        "client", str(folder.config), "--server", f"{HOST}:{port}", "--id", name,
        "--data", f"npz:{folder.examples(name)}", "--tls", str(folder.keys(name)),
        "--state", str(folder.device(name)), "--once",
    )  # fmt: skip
    return _process(folder, name, command)


def _fedprune(*words: str) -> tuple[str, ...]:
    # -P: nothing is imported from the working folder.
    return (sys.executable, "-P", "-m", "fedprune", *words)


def _process(folder: PocFolder, name: str, command: tuple[str, ...]) -> Process:
    return Process(
        name=name,
        command=command,
        environment={**os.environ, "PYTHONUNBUFFERED": "1"},
        log=folder.log(name),
    )
