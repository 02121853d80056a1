"""A system that is measured: a tree of processes that runs a round when told to."""

import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self

from fedprune.common.errors import FedPruneError
from fedprune.common.system.processes import end_with_parent, tail
from fedprune.simulations.benchmarks.kit.speed.systems.turns import TURNS
from fedprune.simulations.benchmarks.kit.speed.tree import (
    TreeClock,
    busy_seconds,
    own_pss_mb,
)

_ROOT = Path(__file__).resolve().parents[4]
_LOOK_S = 0.25  # between two readings of a tree
_END_S, _END_LOOK_S = 60.0, 0.02
_SAID = 600  # characters of a log in an error
# One thread a process; Ray would start workers nicer than the rest of the machine.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Cost of one turn.

    Attributes:
        cpu: CPU seconds of the whole tree.
        wall: Seconds on the clock.
        others: Share of the machine that other processes kept busy, 0 to 1.
        pss: Largest memory of the root process alone, PSS in MB (10^6 bytes).
    """

    cpu: float
    wall: float
    others: float
    pss: float

    def to_json(self) -> dict[str, float]:
        """Return the figures, rounded to what they can tell."""
        return {
            "cpu": round(self.cpu, 2),
            "wall": round(self.wall, 3),
            "others": round(self.others, 3),
            "pss": round(self.pss, 1),
        }


class Opponent:
    """A system; use it as a context, which starts and ends it.

    Args:
        name: Its name.
        module: Module that it runs, or a script of its own interpreter.
        arguments: Arguments of the module.
        log: File of its output.
        python: Its interpreter.
    """

    def __init__(
        self,
        name: str,
        module: str,
        arguments: tuple[str, ...],
        log: Path,
        python: Path = Path(sys.executable),
    ) -> None:
        self.name = name
        self._log = log
        mine, theirs = os.pipe(), os.pipe()
        self._reading, self._writing = theirs[0], mine[1]
        own = python == Path(sys.executable)
        path = str(_ROOT / "src") if own else ""
        turns = f"{mine[0]},{theirs[1]}"
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                [str(python), *(("-m",) if own else ()), module, *arguments],
                env=_environment() | {"PYTHONPATH": path, TURNS: turns},
                pass_fds=(mine[0], theirs[1]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=end_with_parent,  # noqa: PLW1509 - no threads here
            )
        os.close(mine[0])
        os.close(theirs[1])
        self._clock = TreeClock(self._process.pid)

    def __enter__(self) -> Self:
        """Return the system itself, which has been started."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it, also where it hangs."""
        self.end()

    @property
    def cpu(self) -> float:
        """CPU seconds of the tree since its start."""
        return self._clock.seconds()

    def first(self) -> Spent:
        """Wait for the end of its first turn, which includes its start."""
        return self._wait()

    def turn(self) -> Spent:
        """Let one round run.

        Raises:
            FedPruneError: If the system ends instead.
        """
        os.write(self._writing, b"g")
        return self._wait()

    def rest(self, limit_s: float) -> Spent:
        """Let the system run to its own end.

        Raises:
            FedPruneError: If that takes longer, or fails.
        """
        before, started, busy = self.cpu, time.monotonic(), busy_seconds()
        os.write(self._writing, b"g")
        self._until_ended(started + limit_s)
        if self._process.poll() != 0:
            self._fail()
        return self._spent(before, started, busy, 0.0)

    def end(self) -> None:
        """End the system, in which no turn follows."""
        os.close(self._writing)
        self._until_ended(time.monotonic() + _END_S)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        os.close(self._reading)

    def _until_ended(self, limit: float) -> None:
        while self._process.poll() is None and time.monotonic() < limit:
            self._clock.seconds()
            time.sleep(_END_LOOK_S)

    def _wait(self) -> Spent:
        before, started, busy, pss = self.cpu, time.monotonic(), busy_seconds(), 0.0
        while not select.select([self._reading], [], [], _LOOK_S)[0]:
            self._clock.seconds()
            pss = max(pss, own_pss_mb(self._process.pid))
        if not os.read(self._reading, 1):
            self._process.wait()
            self._fail()
        pss = max(pss, own_pss_mb(self._process.pid))
        return self._spent(before, started, busy, pss)

    def _fail(self) -> NoReturn:
        said = " ".join(tail(self._log).split())[-_SAID:]
        msg = f"{self.name} ended with {self._process.poll()}: {said}"
        raise FedPruneError(msg)

    def _spent(self, before: float, started: float, busy: float, pss: float) -> Spent:
        cpu, wall = self.cpu - before, time.monotonic() - started
        others = max(0.0, busy_seconds() - busy - cpu)
        machine = max(wall, 1e-3) * (os.cpu_count() or 1)
        return Spent(cpu=cpu, wall=wall, others=min(1.0, others / machine), pss=pss)


def _environment() -> dict[str, str]:
    """Return the environment of all systems, whose compiled code is kept."""
    own = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return own | _ENVIRONMENT
