"""Row ``start``: what a run costs before its first round and after its last one."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from fedprune.common.errors import FedPruneError
from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.rows import Raw
from fedprune.simulations.benchmarks.kit.science.rows import Found, Piece, Row
from fedprune.simulations.benchmarks.kit.speed.figures import over_pairs
from fedprune.simulations.benchmarks.kit.speed.opponent import Opponent
from fedprune.simulations.benchmarks.kit.speed.tree import busy_seconds

_OURS = "fedprune.simulations.benchmarks.kit.speed.systems.ours"
_LIMIT_S = 1800.0
_SHORT = [
    "rounds.warmup=1",
    "rounds.sparsify=1",
    "rounds.finetune=1",
    "rounds.cuts=1",
    "rounds.final=1",
    "client.epochs=1",
    "run.controls=[]",
]
_RUN = "[run]\nworkers = 2\ncontrols = []\n\n[client]\nepochs = 1\n\n[rounds]\n"
_RUN += "warmup = 1\nsparsify = 1\nfinetune = 1\ncuts = 1\nfinal = 1\n"


def measure(settings: Sequence[str]) -> Raw:
    """Measure a short run on Ray, ``doctor``, and a whole run by its command.

    Args:
        settings: "key=value" of the whole run.
    """
    with tempfile.TemporaryDirectory(prefix="fedprune-speed-") as name:
        folder = Path(name)
        (folder / "fedprune.toml").write_text(_RUN, encoding="utf-8")
        with Opponent("ours", _OURS, (name, "start"), folder / "log") as short:
            start, rounds = short.first(), short.turn()
            end = short.rest(_LIMIT_S)
        words = [word for text in settings for word in ("--set", text)]
        runs = ["--set", f'run.dir="{folder / "runs"}"', "--quiet"]
        return {
            "start": start.to_json(),
            "rounds": rounds.to_json(),
            "end": end.to_json(),
            "doctor": command_cost("doctor"),
            "simulate": command_cost("simulate", *words, *runs),
        }


def command_cost(*words: str) -> Raw:
    """Run a command of ours; return its CPU and wall seconds, and those of others.

    CPU seconds are those of processes that were waited for: not all of Ray's.

    Raises:
        FedPruneError: If it fails.
    """
    command = [sys.executable, "-m", "fedprune", *words]
    started, busy = time.monotonic(), busy_seconds()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read()[-300:].decode(errors="replace")
    if process.returncode:
        msg = f"fedprune {words[0]} ended with {process.returncode}: {said}"
        raise FedPruneError(msg)
    wall, cpu = time.monotonic() - started, used.ru_utime + used.ru_stime
    others = max(0.0, busy_seconds() - busy - cpu) / (wall * (os.cpu_count() or 1))
    return {"cpu": round(cpu, 2), "wall": round(wall, 2), "others": round(others, 3)}


def figures(found: Found) -> list[Figure]:
    """Return the figures of all pieces."""
    raws = list(found.values())
    run = "CPU of the process tree; digits on Ray, two workers"

    def cpu(part: str) -> list[float]:
        return [raw[part]["cpu"] for raw in raws]

    others = 100 * max(raw["simulate"]["others"] for raw in raws)
    return [
        over_pairs(
            "start: to the first round", cpu("start"), run,
            unit="s", goal="<= 15", reference="17.5",
        ),
        over_pairs(
            "start: after the last round", cpu("end"), f"{run}; with the report",
            unit="s", goal="<= 2.5", reference="5.3",
        ),
        over_pairs(
            "start: doctor", cpu("doctor"), "CPU",
            unit="s", goal="<= 2", reference="4.8",
        ),
        over_pairs(
            "start: make simulate without install",
            [raw["simulate"]["wall"] for raw in raws],
            f"on the clock; others and what was not waited for: {others:.0f} % of "
            "the machine; says nothing where others are busy",
            unit="s", goal="<= 30", reference="48 on two idle cores",
        ),
    ]  # fmt: skip


def row(*, small: bool = False) -> Row:
    """Return the row."""
    settings = _SHORT if small else []
    work = partial(measure, settings)

    def pieces(pairs: Sequence[int]) -> list[Piece]:
        given = {"settings of the run": settings}
        return [Piece(name=f"pair-{n}", settings=given, work=work) for n in pairs]

    return Row(
        name="start", budget="6 minutes for three pairs", pieces=pieces, figures=figures
    )
