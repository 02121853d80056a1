"""Supervisor of a service's processes: start, restart policy, heartbeat file, end."""

import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from fedprune.common.errors import ConfigError

_POLL_S = 0.2
_GRACE_S = 8.0
_TAIL = 4000
_PR_SET_PDEATHSIG = 1
_LOG_LIMIT = 5 << 20
_LOOK_S = 5.0
_STALE_S = 30.0

ALIVE = "alive"  # files in the state folder of a service
LOCK = "lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process for the supervisor to keep running.

    Attributes:
        name: Human-readable name; also that of its log.
        command: Its command line.
        environment: Its whole environment.
        log: File of its output; None = the output of this process.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path | None


# The restart policy: seconds to wait before the restart.  Raises to give up.
RestartPolicy = Callable[[Process, int], float]


@dataclass(slots=True)
class Supervisor:
    """Starts processes, restarts them when they exit, and ends them with its block.

    Use it as a context: leaving it ends everything.  SIGTERM counts as Ctrl-C.

    Attributes:
        policy: Restart policy, called for each exit.
        alive: Heartbeat file, touched while every process is up, or None.
    """

    policy: RestartPolicy
    alive: Path | None = None
    _looked: float = 0.0
    _wanted: dict[str, Process] = field(default_factory=dict)
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _due: dict[str, float] = field(default_factory=dict)

    def __enter__(self) -> "Supervisor":
        """Let SIGTERM end the block, as Ctrl-C does."""
        signal.signal(signal.SIGTERM, _interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        """End every process: SIGTERM first, SIGKILL after a wait."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if self.alive is not None:
            self.alive.unlink(missing_ok=True)
        _end(list(self._running.values()))
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def start(self, process: Process) -> None:
        """Start a process now and supervise it."""
        self._wanted[process.name] = process
        self._running[process.name] = _spawn(process)

    def check(self) -> None:
        """Restart the exited processes that are due.

        Raises:
            FedPruneError: Raised by the restart policy to give up.
        """
        now = time.monotonic()
        for name, process in list(self._running.items()):
            code = process.poll()
            if code is not None:
                del self._running[name]
                self._due[name] = now + self.policy(self._wanted[name], code)
        for name, due in list(self._due.items()):
            if due <= now:
                del self._due[name]
                self._running[name] = _spawn(self._wanted[name])
        if now - self._looked > _LOOK_S:
            self._looked = now
            self._look_after()

    def _look_after(self) -> None:
        """Touch the heartbeat file if all processes are up; trim large logs."""
        if self.alive is not None and not self._due:
            with suppress(OSError):  # a full disk ends no service
                self.alive.touch()
        for process in self._wanted.values():
            if process.log is not None:
                trim(process.log)

    def end(self, name: str) -> None:
        """End a process that hangs; ``check`` restarts it."""
        if name in self._running:
            _end([self._running[name]])

    def run(self, done: Callable[[], bool]) -> None:
        """Supervise all processes until ``done()``."""
        while not done():
            self.check()
            time.sleep(_POLL_S)


def is_alive(state: Path) -> bool:
    """Return whether the heartbeat of a service is fresh.

    Raises:
        ConfigError: If this user may not look into the folder.
    """
    try:
        touched = (state / ALIVE).stat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        msg = f"cannot look into {state}: {error.strerror or error}"
        raise ConfigError(msg) from error
    return time.time() - touched < _STALE_S


def tail(path: Path | None) -> str:
    """Return the last lines of a log."""
    if path is None or not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        return file.read().decode("utf-8", errors="replace")


def trim(log: Path) -> None:
    """Empty a log of more than 5 MB; its old content becomes ``<log>.1``.

    The writer appends, so it continues at the new end.
    """
    with suppress(OSError):
        if log.stat().st_size > _LOG_LIMIT:
            with suppress(OSError):
                shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            os.truncate(log, 0)


def environment(home: Path, first: Sequence[Path] = ()) -> dict[str, str]:
    """Return the environment of Flower's processes: no telemetry, its own folder.

    Args:
        home: Flower's folder.
        first: Folders put before the search path of commands.
    """
    path = [*map(str, first), os.environ.get("PATH", "")]
    return {
        **os.environ,
        "PATH": os.pathsep.join(path),
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End processes: SIGTERM first, SIGKILL after a wait."""
    for process in processes:
        with suppress(ProcessLookupError):
            process.terminate()
    end = time.monotonic() + _GRACE_S
    for process in processes:
        try:
            process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _spawn(process: Process) -> subprocess.Popen[bytes]:
    output = None
    if process.log is not None:
        process.log.parent.mkdir(parents=True, exist_ok=True)
        output = process.log.open("ab")
    try:
        return subprocess.Popen(  # noqa: S603 - our own commands
            list(process.command),
            env=dict(process.environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            preexec_fn=end_with_parent,  # noqa: PLW1509 - no threads here
            start_new_session=True,  # Ctrl-C reaches us, and we end them in order
        )
    finally:
        if output is not None:
            output.close()


def end_with_parent() -> None:
    """Ask Linux to end this process when its parent ends in any way."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _interrupt(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt
