"""Row ``state``: bytes of residuals on the disk, and a run of 100 000 clients."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
from torch import nn

from fedprune.client.rounds.store import IN_FLIGHT
from fedprune.common.config import Config, load_config
from fedprune.common.data.npz import write_npz
from fedprune.common.errors import FedPruneError
from fedprune.common.structure.structure import Structure
from fedprune.server.runs.events import Event, RoundFinished, of_run, read_events
from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.rows import Raw
from fedprune.simulations.benchmarks.kit.science.rows import Found, Piece, Row
from fedprune.simulations.benchmarks.kit.speed.systems.turns import Enough
from fedprune.simulations.runs import run as runs

_BLOCK = 512  # bytes of st_blocks
_GIGA, _KIB = 1e9, 1024
_LOOK_S = 0.1
_FEW, _COHORT = 8, 2  # clients whose residuals are really written
_AFTER = 4  # rounds after the one in which the last client was asked first
_MANY, _MANY_COHORT = 1000, 20  # clients that they stand for
_ALL, _ASKED = 100_000, 1000
_INPUTS, _HIDDEN, _CLASSES = 16, 64, 10
_TOY = "fedprune.simulations.benchmarks.kit.speed.state_row:toy"


def toy() -> nn.Module:
    """Return a network of 1 738 weights."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(_INPUTS, _HIDDEN),
        nn.ReLU(),
        nn.Linear(_HIDDEN, _CLASSES),
    )


def _written(clients: int, cohort: int, model: str) -> Config:
    settings = [
        f'task.model="{model}"',
        f"task.clients={clients}",
        f"rounds.cohort={cohort}",
        f"rounds.minimum={cohort}",
        "rounds.warmup=100",
        "client.epochs=1",
        "run.evaluate_every=100",
        "run.controls=[]",
        "run.engine=inprocess",
        "run.state_limit_mb=1000000",
    ]
    return load_config(None, settings)


class _Disk:
    """Watches the disk until every client has had time to fill its part.

    Args:
        folder: Folder of the run folders.
        clients: Number of clients.
    """

    def __init__(self, folder: Path, clients: int) -> None:
        self._folder, self._clients, self._left = folder, clients, _AFTER
        self.found: Raw = {"bytes": 0, "generations": 0}
        self.rounds = 0

    def on_event(self, event: Event) -> None:
        """Look at the disk after each round."""
        if not of_run([event], RoundFinished):
            return
        self.rounds += 1
        owners = list(self._folder.glob("*/clients/*/client-*"))
        files = [file for owner in owners for file in owner.iterdir()]
        taken = sum(one.stat().st_blocks * _BLOCK for one in [*owners, *files])
        if taken > self.found["bytes"]:
            self.found = {"bytes": taken, "generations": len(files)}
        self._left -= len(owners) == self._clients
        if not self._left:
            raise Enough


def written(clients: int, cohort: int, model: str) -> Raw:
    """Let clients write residuals; return what they take, and the estimate of it.

    Args:
        clients: Number of clients.
        cohort: Clients that a round asks.
        model: ``task.model``.
    """
    estimates: dict[int, int] = {}
    real = runs.residual_bytes

    def estimate(config: Config, count: int, structure: Structure) -> int:
        estimates[_MANY] = real(_of_many(config), _MANY, structure)
        estimates[count] = real(config, count, structure)
        return estimates[count]

    with tempfile.TemporaryDirectory(prefix="fedprune-state-") as name:
        config = _written(clients, cohort, model)
        place = config.run.model_copy(update={"dir": name})
        disk = _Disk(Path(name), clients)
        with patch.object(runs, "residual_bytes", estimate), suppress(Enough):
            runs.run(config.model_copy(update={"run": place}), progress=disk)
    return {
        **disk.found,
        "clients": clients,
        "rounds": disk.rounds,
        "estimate": estimates[clients],
        "estimate_of_many": estimates[_MANY],
    }


def _of_many(config: Config) -> Config:
    """Return the configuration with the cohort of many clients."""
    own = {"cohort": _MANY_COHORT, "minimum": _MANY_COHORT}
    rounds = config.rounds.model_copy(update=own)
    return config.model_copy(update={"rounds": rounds})


def many(clients: int, cohort: int) -> Raw:
    """Run three rounds in one process of their own; return its CPU time and memory.

    Args:
        clients: Number of clients; each has two examples.
        cohort: Clients that a round asks.

    Raises:
        FedPruneError: If the run fails.
    """
    with tempfile.TemporaryDirectory(prefix="fedprune-state-") as name:
        folder = Path(name)
        write_npz(folder / "data.npz", _arrays(2 * clients))
        settings = [
            f'task.model="{_TOY}"',
            f'task.data="npz:{folder / "data.npz"}"',
            'task.partition.kind="iid"',
            f"task.clients={clients}",
            f"rounds.cohort={cohort}",
            f"rounds.minimum={cohort}",
            "rounds.warmup=2",
            "rounds.cuts=0",
            "rounds.final=0",
            "client.epochs=1",
            "run.controls=[]",
            "run.state_limit_mb=1000000",
            f'run.dir="{folder / "runs"}"',
        ]
        words = [word for text in settings for word in ("--set", text)]
        found = _process("simulate", "--engine", "inprocess", "--quiet", *words)
        (log,) = (folder / "runs").glob("*/events.jsonl")
        rounds = of_run(read_events(log), RoundFinished)
        return {**found, "rounds": len(list(rounds))}


def _arrays(count: int) -> dict[str, np.ndarray]:
    """Return random examples of ten classes, each around a centre."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((_CLASSES, _INPUTS))
    found: dict[str, np.ndarray] = {}
    for part, many_ in (("train", count), ("test", _ASKED)):
        targets = rng.integers(0, _CLASSES, many_)
        inputs = centres[targets] + rng.standard_normal((many_, _INPUTS)) / 2
        found[f"x_{part}"] = inputs.astype(np.float32).reshape(many_, 1, 4, 4)
        found[f"y_{part}"] = targets
    return found


def _process(*words: str) -> Raw:
    """Run a command of ours; return its CPU seconds and the most memory that it had.

    The memory is that of its own pages, looked at while it runs: what the system says
    of a process that has ended may be that of its parent when it was started.
    """
    command = [sys.executable, "-m", "fedprune", *words]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command, stdout=output, stderr=subprocess.STDOUT
        )
        peak = 0
        while True:
            time.sleep(_LOOK_S)
            peak = max(peak, _most_memory(process.pid))
            ended, status, used = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read()[-300:].decode(errors="replace")
    if process.returncode:
        msg = f"fedprune {words[0]} ended with {process.returncode}: {said}"
        raise FedPruneError(msg)
    return {"spent": round(used.ru_utime + used.ru_stime, 1), "peak": peak}


def _most_memory(number: int) -> int:
    """Return the largest resident memory of a process so far; 0 of one that ended."""
    text = Path(f"/proc/{number}/status").read_text(encoding="ascii")
    kib = [line.split()[1] for line in text.splitlines() if line.startswith("VmHWM")]
    return _KIB * int(kib[0]) if kib else 0


def figures(found: Found) -> list[Figure]:
    """Return the figures of all pieces."""
    disk = [raw for raw in found.values() if "generations" in raw]
    runs_ = [raw for raw in found.values() if "peak" in raw]
    made = _of_disk(disk) if disk else []
    return [*made, _of_runs(runs_)] if runs_ else made


def _of_disk(raws: Sequence[Raw]) -> list[Figure]:
    """Return the largest of all pieces: bytes do not scatter as times do."""
    one = max(raws, key=lambda raw: float(raw["bytes"]))
    held = _MANY + IN_FLIGHT * _MANY_COHORT
    each = one["bytes"] / one["generations"]
    what = f"{one['generations']} generations of {one['clients']} clients, "
    what += f"{one['bytes']} B"
    return [
        Figure(
            name=f"state: residuals, {_MANY} clients x ResNet-18, "
            f"cohort {_MANY_COHORT}",
            value=held * each / _GIGA,
            unit="GB",
            goal="<= 30",
            reference="160",
            detail=f"scaled to {held} generations from what was written: {what}; the "
            f"estimate for {_MANY} clients is {one['estimate_of_many'] / _GIGA:.2f} GB",
        ),
        Figure(
            name="state: estimate of residuals / disk, away from 1",
            value=max(100 * abs(raw["estimate"] / raw["bytes"] - 1) for raw in raws),
            unit="%",
            goal="<= 5",
            reference="19 below",
            detail=f"estimate {one['estimate']} B; on the disk {what}, folders too, "
            f"after {one['rounds']} rounds with a cohort of {_COHORT}",
        ),
    ]


def _of_runs(raws: Sequence[Raw]) -> Figure:
    one = max(raws, key=lambda raw: float(raw["peak"]))
    return Figure(
        name=f"state: memory of {_ALL} clients, cohort {_ASKED}",
        value=one["peak"] / _GIGA,
        unit="GB",
        goal="<= 2",
        reference="impossible",
        detail=f"peak of the one process; {one['rounds']} rounds of a toy network with "
        f"the closing one, {one['spent']:.0f} CPU s",
    )


def row(*, small: bool = False) -> Row:
    """Return the row."""
    some = (4, 2, "mlp") if small else (_FEW, _COHORT, "resnet18")
    all_ = (200, 4) if small else (_ALL, _ASKED)
    works: dict[str, tuple[list[object], Callable[[], Raw]]] = {
        "disk": (list(some), partial(written, *some)),
        "many": (list(all_), partial(many, *all_)),
    }

    def pieces(pairs: Sequence[int]) -> list[Piece]:
        return [
            Piece(name=f"{name}-{n}", settings={"sizes": sizes}, work=work)
            for n in pairs
            for name, (sizes, work) in works.items()
        ]

    return Row(
        name="state",
        budget="6 minutes a pair",
        pieces=pieces,
        figures=figures,
    )
