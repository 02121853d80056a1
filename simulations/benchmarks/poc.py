"""A federation of three devices from nothing: commands typed, and where time goes.

``python -m fedprune.simulations.benchmarks.poc``: ``fedprune poc`` in a new folder,
with its defaults: certificates, keys, data parts, a server and three devices in their
own processes over TLS, twelve rounds of digits and the closing one, delivery, report.
"""

import re
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedprune.common.errors import FedPruneError
from fedprune.server.runs.folder import read_json_object
from fedprune.simulations.benchmarks.kit.harness import Figure, benchmark

ROUNDS = 12  # and the closing one
DEVICES = 3
COMMANDS = ("fedprune poc {folder}",)  # all that is typed


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the time, up to a line that the command prints.

    Attributes:
        name: Its name.
        end: Pattern of the line.
    """

    name: str
    end: str


STAGES = (
    Stage("certificates, keys, data parts", r"starting the server"),
    Stage("the server is up, keys registered", r"clients registered:"),
    Stage("all devices have enrolled", rf"{DEVICES}/{DEVICES} clients:"),
    Stage("rounds", rf"round {ROUNDS + 1}/{ROUNDS + 1} "),
    Stage("delivery of the final network", rf"delivered to client-00{DEVICES - 1}:"),
    Stage("end of all processes, report", r"next, for real devices:"),
)


def measure() -> list[Figure]:
    """Run it once; return the figures."""
    with tempfile.TemporaryDirectory(prefix="fedprune-poc-") as name:
        folder = Path(name) / "poc"
        started, before = time.monotonic(), _cpu_s()
        lines = [
            line
            for command in COMMANDS
            for line in _run(command.format(folder=folder), started)
        ]
        seconds, used = time.monotonic() - started, _cpu_s() - before
        (run,) = (folder / "runs").iterdir()
        summary = read_json_object(run / "summary.json")
        has_report = (run / "report.html").is_file()
    if not has_report or summary["delivered"] != DEVICES:
        msg = f"delivered to {summary['delivered']} of {DEVICES}; report: {has_report}"
        raise FedPruneError(msg)
    accuracy = f"{float(str(summary['validation_accuracy_final'])):.3f}"
    detail = f"{DEVICES} devices, {ROUNDS} rounds and the closing one of digits; "
    detail += f"validation accuracy {accuracy}"
    return [
        Figure(
            name="commands typed",
            value=len(COMMANDS),
            goal="<= 1",
            detail="; ".join(COMMANDS).format(folder="DIR"),
        ),
        Figure(
            name="a federation from nothing",
            value=seconds,
            unit="s",
            goal="<= 120",
            reference="8 commands, about 210 s by hand",
            detail=detail,
        ),
        Figure(
            name="CPU of all its processes",
            value=used,
            unit="s",
            detail="user and system",
        ),
        *stages(lines),
    ]


def stages(lines: Sequence[tuple[float, str]]) -> list[Figure]:
    """Return the time of each stage.

    Args:
        lines: (seconds from the start, text) of each line that was printed.

    Raises:
        FedPruneError: If the line that ends a stage is missing.
    """
    found, before = [], 0.0
    for stage in STAGES:
        ends = [when for when, text in lines if re.search(stage.end, text)]
        if not ends:
            msg = f"no line '{stage.end}' was printed"
            raise FedPruneError(msg)
        found.append(
            Figure(name=f"part: {stage.name}", value=ends[-1] - before, unit="s")
        )
        before = ends[-1]
    return found


def _cpu_s() -> float:
    """Return the CPU time of ended children and theirs, user and system, seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(typed: str, started: float) -> list[tuple[float, str]]:
    """Return the lines that a command prints, each with its time.

    Args:
        typed: The command.
        started: When the first command started, by ``time.monotonic``.

    Raises:
        FedPruneError: If it fails.
    """
    _, *words = shlex.split(typed)
    lines = []
    with subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "fedprune", *words], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        for line in process.stdout:
            lines.append((time.monotonic() - started, line.rstrip()))
            print(line, end="", flush=True)
    if process.returncode:
        msg = f"{typed} ended with {process.returncode}"
        raise FedPruneError(msg)
    return lines


main = benchmark("poc", measure)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
