"""A server and its devices on this machine, for benchmarks: start, watch, end."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fedprune.common.data.partition import client_ids
from fedprune.common.errors import FedPruneError
from fedprune.common.system.ports import free_port
from fedprune.common.system.processes import end_with_parent
from fedprune.server.runs.folder import read_json_object

_ROOT = Path(__file__).resolve().parents[3]
_POLL_S = 0.5


@dataclass(slots=True, kw_only=True)
class Fleet:
    """Devices over TLS on the loopback.

    Attributes:
        folder: Folder for all files.
        config: Configuration of both sides.
        sources: ``--data`` of each device; "" = as its configuration says.
        python: The interpreter that the devices run in; their own installation.
        shares: Whether each device trains on its part of one source.
        names: Names of the devices; () = those of a simulation.
    """

    folder: Path
    config: Path
    sources: Sequence[str]
    python: Path = Path(sys.executable)
    shares: bool = False
    names: Sequence[str] = ()
    _stack: ExitStack | None = None
    _port: int = 0

    def __enter__(self) -> Self:
        """Make certificates and choose a port."""
        self._port = free_port()
        self._stack = ExitStack()
        names = [w for name in self.ids for w in ("--client", name)]
        subprocess.run(  # noqa: S603 - our own command
            _command("certs", str(self.folder / "certs"), *names),
            check=True,
            env=_environment(),
            stdout=subprocess.DEVNULL,
        )
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes that still run."""
        if self._stack is not None:
            self._stack.close()

    @property
    def ids(self) -> list[str]:
        """Names of the devices."""
        return list(self.names) or client_ids(len(self.sources))

    def run(
        self, limit_s: float, watch: Callable[[list[int]], None]
    ) -> dict[str, object]:
        """Run a federation to its end; return its ``summary.json``.

        Args:
            limit_s: Seconds that it may take.
            watch: Called repeatedly with the process ids of each device.

        Raises:
            FedPruneError: If it fails or takes longer.
        """
        server = self._start(
            _command("serve", str(self.config), "--tls", str(self.folder / "certs"),
                     "--listen", f"127.0.0.1:{self._port}",
                     "--state", str(self.folder / "server"), "--quiet"),
            "server",
        )  # fmt: skip
        devices = [
            self._device(*pair) for pair in zip(self.ids, self.sources, strict=True)
        ]
        end = time.monotonic() + limit_s
        while server.poll() is None:
            if time.monotonic() > end:
                msg = f"the federation took more than {limit_s:g} s"
                raise FedPruneError(msg)
            watch([device.pid for device in devices])
            time.sleep(_POLL_S)
        said = (self.folder / "server.out").read_text(encoding="utf-8").split()
        if server.returncode or not said:
            msg = f"the server ended with {server.returncode}: {' '.join(said)}"
            raise FedPruneError(msg)
        return read_json_object(self.folder / said[-1] / "summary.json")

    def _device(self, name: str, source: str) -> "subprocess.Popen[bytes]":
        place = self.folder / "certs" / "clients" / name
        words = [
            "client", str(self.config), "--server", f"127.0.0.1:{self._port}",
            "--id", name, "--tls", str(place), "--once",
            "--state", str(self.folder / name),
        ]  # fmt: skip
        if source:
            words += ["--data", source]
        if self.shares:
            ids = self.ids
            words += ["--partition", f"{ids.index(name)}/{len(ids)}"]
        if self.python == Path(sys.executable):
            return self._start(_command(*words), name)
        # An installation of its own must not see this checkout.
        return self._start(
            [str(self.python.parent / "fedprune"), *words], name, path=""
        )

    def _start(
        self, command: Sequence[str], name: str, path: str | None = None
    ) -> "subprocess.Popen[bytes]":
        assert self._stack is not None  # noqa: S101 - used inside the context
        with (self.folder / f"{name}.out").open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own command
                list(command),
                cwd=self.folder,
                env=_environment(path),
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=end_with_parent,  # noqa: PLW1509 - no threads here
            )
        self._stack.callback(_end, process)
        return process


def pss_mb(number: int) -> float:
    """Return the memory of a process and its descendants, PSS in MB (10^6 bytes)."""
    total = 0
    for each in (number, *descendants(number)):
        try:
            text = Path(f"/proc/{each}/smaps_rollup").read_text(encoding="ascii")
        except OSError:
            continue
        line = next((x for x in text.splitlines() if x.startswith("Pss:")), "Pss: 0")
        total += int(line.split()[1])
    return total * 1024 / 1e6


def descendants(number: int) -> list[int]:
    """Return the process ids of a process's descendants."""
    found: list[int] = []
    for task in Path(f"/proc/{number}/task").glob("*/children"):
        try:
            children = [int(word) for word in task.read_text(encoding="ascii").split()]
        except OSError:
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "fedprune", *words]


def _environment(path: str | None = None) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(_ROOT / "src") if path is None else path,
        "OMP_NUM_THREADS": "1",
    }


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
