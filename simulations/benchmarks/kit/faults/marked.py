"""A process and all that it starts, known by a mark in their environment.

Ray and Flower put some of their processes into sessions and groups of their own, and
some outlive those that started them, so neither a group nor a parent names them all.
"""

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self, TypeVar

from fedprune.common.errors import FedPruneError

T = TypeVar("T")

_ROOT = Path(__file__).resolve().parents[4]
_MARK = "FEDPRUNE_MARK"
_POLL_S = 0.05
_END_S = 20.0
_SAID = 1500  # characters of its output in an error


class Marked:
    """A process; use it as a context, which leaves nothing of it behind.

    Args:
        command: Its command line.
        folder: Working folder; its output goes to ``MARK.out`` there.
    """

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self._mark = uuid.uuid4().hex
        self._log = folder / f"{self._mark}.out"
        own = {"PYTHONPATH": str(_ROOT / "src"), _MARK: self._mark}
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                list(command),
                cwd=folder,
                env=os.environ | own,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        """Return the process, which has been started."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill all that is left of it."""
        end = time.monotonic() + _END_S
        while (left := self.alive()) and time.monotonic() < end:
            for number in left:
                send(number, signal.SIGKILL)
            time.sleep(_POLL_S)
        self._process.wait(_END_S)

    @property
    def number(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def output(self) -> str:
        """All that it has said so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def alive(self) -> list[int]:
        """Return the ids of all living processes that carry the mark, rising."""
        return self.titled("")

    def titled(self, *starts: str) -> list[int]:
        """Return the ids of those whose command lines begin so, rising."""
        titles, mark = tuple(map(str.encode, starts)), f"{_MARK}={self._mark}".encode()
        numbers = (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return sorted(
            int(entry.name)
            for entry in numbers
            if _read(entry / "cmdline").startswith(titles)
            and mark in _read(entry / "environ")
        )

    def wait(self, seconds: float) -> int:
        """Return its exit code.

        Raises:
            FedPruneError: If it takes longer.
        """
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            msg = f"still running after {seconds:g} s: {self.said()}"
            raise FedPruneError(msg) from error

    def until(self, condition: Callable[[], T], seconds: float, what: str) -> T:
        """Return the first true value of something, while the process runs.

        Raises:
            FedPruneError: If it is not in time, or the process has ended.
        """
        end = time.monotonic() + seconds
        while not (found := condition()):
            if self._process.poll() is not None:
                msg = f"the process ended before {what} came: {self.said()}"
                raise FedPruneError(msg)
            if time.monotonic() > end:
                msg = f"{what} did not come within {seconds:g} s: {self.said()}"
                raise FedPruneError(msg)
            time.sleep(_POLL_S)
        return found

    def said(self) -> str:
        """Return the end of its output."""
        return self.output[-_SAID:]


def send(number: int, what: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    with suppress(ProcessLookupError):
        os.kill(number, what)


def _read(path: Path) -> bytes:
    """Return a file of /proc; nothing for a process that has ended."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
