"""States of the machine in which a mistake is made: runs, locks, ports, packages.

Each is a context that gives the name of what it made.  The runs are copies of one
small run, which the first of them makes.
"""

import contextlib
import hashlib
import io
import json
import shutil
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from fedprune.common.system.lock import hold
from fedprune.common.system.ports import free_port
from fedprune.common.system.processes import LOCK
from fedprune.server.devices.certs import CertFolder, make_certificates
from fedprune.server.runs.folder import RunFolder
from fedprune.simulations.benchmarks.kit.mistakes.mistake import (
    Command,
    Place,
    anywhere,
    small_run,
)

_BASE = Path("small")
_LOOPBACK = "127.0.0.1"


@contextmanager
def finished_run(command: Command) -> Iterator[str]:
    """Give a run that has ended."""
    yield str(_copy(command, "finished"))


@contextmanager
def stopped_run(command: Command) -> Iterator[str]:
    """Give a run that was stopped after its last round."""
    yield str(_stopped(command, "stopped"))


@contextmanager
def used_run(command: Command) -> Iterator[str]:
    """Give a stopped run that another process writes."""
    run = _stopped(command, "used")
    with RunFolder.open(run).locked():
        yield str(run)


@contextmanager
def edited_run(command: Command) -> Iterator[str]:
    """Give a stopped run with another seed in its configuration."""
    run = _stopped(command, "edited")
    config = run / "config.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("seed = 0", "seed = 1"), encoding="utf-8")
    yield str(run)


@contextmanager
def torn_run(command: Command) -> Iterator[str]:
    """Give a stopped run with half of each checkpoint."""
    run = _stopped(command, "torn")
    for path in _checkpoints(run):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    yield str(run)


@contextmanager
def older_run(command: Command) -> Iterator[str]:
    """Give a stopped run with whole checkpoints of another version."""
    run = _stopped(command, "older")
    journal = run / "checkpoints/main-journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text("utf-8").splitlines()]
    for path in _checkpoints(run):
        data = path.read_bytes().replace(b"prune-checkpoint/", b"prune-checkpoint.")
        path.write_bytes(data)
        for line in lines:
            if line["file"] == path.name:
                line["sha256"] = hashlib.sha256(data).hexdigest()
    journal.write_text("".join(f"{json.dumps(x)}\n" for x in lines), "utf-8")
    yield str(run)


def _checkpoints(run: Path) -> list[Path]:
    return sorted((run / "checkpoints").glob("main-round-*.safetensors"))


def _stopped(command: Command, name: str) -> Path:
    """Return a run without what is written when it ends."""
    run = _copy(command, name)
    folder = RunFolder.open(run)
    lines = folder.events.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if '"run_finished"' not in line]
    folder.events.write_text("".join(kept), encoding="utf-8")
    for path in (folder.summary, folder.report):
        path.unlink()
    shutil.rmtree(folder.model)
    return run


def _copy(command: Command, name: str) -> Path:
    """Return a copy of the small run."""
    made = Path(name)
    if not _BASE.is_dir():
        out = io.StringIO()
        words = small_run("task.model=mlp", f"run.dir={_BASE}")
        with contextlib.redirect_stdout(out):
            command((*words, "--quiet"))
    shutil.rmtree(made, ignore_errors=True)
    shutil.copytree(next(_BASE.iterdir()), made)
    return made


@contextmanager
def used_port(_command: Command) -> Iterator[str]:
    """Give a port at which another program listens."""
    with socket.create_server((_LOOPBACK, 0)) as server:
        yield str(server.getsockname()[1])


@contextmanager
def used_state(_command: Command) -> Iterator[str]:
    """Give a free port, and make ``state-PORT``: of a server or client that works."""
    port = free_port()
    made = Path(f"state-{port}")
    made.mkdir(mode=0o700)
    with hold(made / LOCK, advice="it is ours"):
        yield str(port)


@contextmanager
def other_server(_command: Command) -> Iterator[str]:
    """Give the port of a server whose certificate another authority has signed."""
    for name in ("ours", "theirs"):
        make_certificates(Path(name), [_LOOPBACK], ["a"], 1)
    theirs = CertFolder(Path("theirs"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(theirs.server, theirs.server_key)
    with (
        socket.create_server((_LOOPBACK, 0)) as plain,
        context.wrap_socket(plain, server_side=True) as server,
    ):
        answering = threading.Thread(target=_refused, args=(server,), daemon=True)
        answering.start()
        yield str(server.getsockname()[1])


def _refused(server: ssl.SSLSocket) -> None:
    """Accept clients, which refuse us, until the server is closed."""
    while server.fileno() >= 0:
        with contextlib.suppress(OSError):
            server.accept()[0].close()


@contextmanager
def letters(_command: Command) -> Iterator[str]:
    """Give a folder of data whose name is not ASCII."""
    made = Path("größe-数据")
    made.mkdir(exist_ok=True)
    shutil.copy("series.npz", made / "größe.npz")
    yield str(made)


@contextmanager
def old_project(_command: Command) -> Iterator[str]:
    """Give a folder with a user's own client.py, server.py and common/."""
    made = Path("project")
    (made / "common").mkdir(parents=True, exist_ok=True)
    for name in ("client.py", "server.py", "common/__init__.py"):
        (made / name).write_text("raise RuntimeError('not yours')\n", "utf-8")
    with contextlib.chdir(made):
        yield str(made)


def without(package: str, inside: Place = anywhere) -> Place:
    """Return a place where a package is not installed.

    Args:
        package: Its name in an import.
        inside: A place that is needed, too.
    """

    @contextmanager
    def made(command: Command) -> Iterator[str]:
        # find_spec and import find nothing where None stands.
        with inside(command) as found, patch.dict(sys.modules, {package: None}):
            yield found

    return made
