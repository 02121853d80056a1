"""Time and computation of a target of the Makefile."""

import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from fedprune.common.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited:
    """The cost of one target.

    Attributes:
        seconds: From its start to its end.
        cpu: Seconds of all its processes in user and system mode; beside other work
            they grow less than ``seconds``.
        load: Processes that ran or waited in the minute before it.
        says: The last line that it printed, without a frame.
    """

    seconds: float
    cpu: float
    load: float
    says: str


def wait_for(root: Path, target: str) -> Waited:
    """Run ``make target`` in a checkout, with the environment of this process.

    Args:
        root: The folder of the Makefile.
        target: Name of the target.

    Raises:
        ConfigError: If it fails.
    """
    command = ("make", "--no-print-directory", f"VENV={sys.prefix}", target)
    load, before, started = os.getloadavg()[0], _cpu(), time.monotonic()
    done = subprocess.run(  # noqa: S603 - our own targets
        command, cwd=root, capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - started
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    says = lines[-1].strip("= ") if lines else ""
    if done.returncode:
        msg = f"make {target} failed: {says or done.stderr.strip()[-300:]}"
        raise ConfigError(msg)
    return Waited(seconds=seconds, cpu=_cpu() - before, load=load, says=says)


def _cpu() -> float:
    """Return the processor seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
