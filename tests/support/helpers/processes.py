"""Children of a test: started in a session of their own, found and killed for sure."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PATHS = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests" / "support")])
_MARK = "FEDPRUNE_TEST_CHILD"
_POLL_S = 0.05


class Child:
    """A process and whatever it starts, known by a mark in their environment.

    Ray and Flower put some of their processes into sessions and groups of their own,
    so a process group alone does not name them all.

    Args:
        command: What to run.
        folder: Working folder; the output goes to ``<mark>.out`` there.
        environment: Added to this process's environment.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environment: dict[str, str] | None = None,
    ) -> None:
        added = environment or {}
        self.mark = uuid.uuid4().hex
        self._path = folder / f"{self.mark}.out"
        with self._path.open("wb") as output:
            self.process = subprocess.Popen(
                list(command),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": PATHS, **added, _MARK: self.mark},
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """All that it has said so far."""
        return self._path.read_text(encoding="utf-8", errors="replace")

    def wait(self, seconds: float) -> int:
        """Return its exit code; fail with its output when it takes longer."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            msg = f"still running after {seconds:g} s:\n{self.output[-4000:]}"
            raise AssertionError(msg) from None

    def signal(self, number: int) -> None:
        """Send a signal to its process group, as a terminal does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def alive(self) -> list[int]:
        """Return the ids of all living processes that carry the mark."""
        wanted = f"{_MARK}={self.mark}".encode()
        numbers = (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return sorted(int(n.name) for n in numbers if wanted in _environment(n))

    def left_after(self, seconds: float) -> list[int]:
        """Return what is still alive when all should have ended by themselves."""
        end = time.monotonic() + seconds
        while (left := self.alive()) and time.monotonic() < end:
            time.sleep(_POLL_S)
        return left

    def kill(self) -> None:
        """End it and everything that it started; nothing is left behind."""
        self.signal(signal.SIGKILL)
        end = time.monotonic() + 20.0
        while (left := self.alive()) and time.monotonic() < end:
            for number in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            time.sleep(_POLL_S)
        self.process.wait(20.0)


@contextlib.contextmanager
def child(
    command: Sequence[str], folder: Path, environment: dict[str, str] | None = None
) -> Iterator[Child]:
    """Start a child; when the block ends, all that is left of it is killed."""
    started = Child(command, folder, environment)
    try:
        yield started
    finally:
        started.kill()


def fedprune(*arguments: str) -> list[str]:
    """Return the command that runs this checkout's command line."""
    return [sys.executable, "-m", "fedprune", *arguments]


def module(name: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this folder."""
    return [sys.executable, "-m", f"helpers.{name}", *arguments]


def on_ray(folder: Path, workers: int, settings: Mapping[str, object]) -> Path:
    """Return the run folder of a small run on so many Ray workers."""
    words = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    script = module("ray_script", str(folder), str(workers), *words)
    with child(script, folder) as running:
        assert running.wait(300) == 0, running.output
    (run,) = json.loads((folder / "results.json").read_text()).values()
    return Path(run)


def wait_for(condition, seconds: float, what: str) -> None:
    """Wait until ``condition()`` holds; fail after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            msg = f"{what}: not within {seconds:g} s"
            raise AssertionError(msg)
        time.sleep(_POLL_S)


def _environment(entry: Path) -> bytes:
    """Return the environment of a living process; nothing for a zombie."""
    try:
        return (entry / "environ").read_bytes()
    except OSError:
        return b""
