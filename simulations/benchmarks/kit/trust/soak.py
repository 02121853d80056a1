"""The row ``soak``: what thousands of rounds leave behind, in memory and on disk.

A small network on few examples, two clients, in this process; one cut early, then
rounds of fine-tuning.  Memory is that of the whole process, clients included; slopes
are over the second half of the run.
"""

import os
import resource
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fedprune.server.runs.events import Event, RoundFinished, RunStarted
from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.rows import Raw
from fedprune.simulations.benchmarks.kit.science.rows import Found, Piece, Row
from fedprune.simulations.runs.api import simulate

ROUNDS = 10_000
_SAMPLES = 200  # in a run, whatever its length
_FIRST = 10  # rounds before the last phase: warm-up, and one cut
_EXAMPLES = 128
_INPUTS, _CLASSES = 32, 4
_CLIENTS = 2
_PAGE = os.sysconf("SC_PAGE_SIZE")
_KB = 1024.0
_SLOPES = {
    "memory": ("kB", "< 1", "resident memory of the whole process"),
    "events": ("kB", "", "events.jsonl: a line for each client and one for the round"),
    "others": ("kB", "< 1", "all other files of the run folder"),
}


_Floats: TypeAlias = NDArray[np.float32]
_Integers: TypeAlias = NDArray[np.int64]


def small_net() -> nn.Sequential:
    """Return a network of two linear layers."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(_INPUTS, 16), nn.ReLU(), nn.Linear(16, _CLASSES)
    )


def _data(seed: int) -> tuple[_Floats, _Integers, _Floats, _Integers]:
    """Return examples and test examples of classes that a line separates."""
    draw = np.random.default_rng(seed)
    inputs = draw.normal(size=(2 * _EXAMPLES, _INPUTS)).astype(np.float32)
    targets = inputs[:, :_CLASSES].argmax(axis=1)
    first, rest = slice(_EXAMPLES), slice(_EXAMPLES, None)
    return inputs[first], targets[first], inputs[rest], targets[rest]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    """Sizes after a round, in bytes; the last two are counts."""

    memory: int
    events: int
    others: int
    checkpoint: int
    files: int
    open_files: int


class _Watch:
    """Listener of a run that takes a sample now and then.

    Args:
        every: Rounds between two samples.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._folder = Path()
        self.rounds: list[int] = []
        self.samples: list[_Sample] = []

    def on_event(self, event: Event) -> None:
        """Take a sample after each so many rounds."""
        if isinstance(event, RunStarted):
            self._folder = Path(event.directory)
        if isinstance(event, RoundFinished) and event.round % self._every == 0:
            self.rounds.append(event.round)
            self.samples.append(_sample(self._folder))


def _sample(folder: Path) -> _Sample:
    sizes = {p: p.stat().st_size for p in folder.rglob("*") if p.is_file()}
    events = sizes.get(folder / "events.jsonl", 0)
    checkpoints = [s for p, s in sizes.items() if "main-round-" in p.name]
    return _Sample(
        memory=int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE,
        events=events,
        others=sum(sizes.values()) - events,
        checkpoint=max(checkpoints, default=0),
        files=len(sizes),
        open_files=sum(1 for _ in Path("/proc/self/fd").iterdir()),
    )


def measured(rounds: int, seed: int) -> Raw:
    """Run so many rounds.

    Returns:
        The slopes in bytes a round, and first and last of what must not grow.
    """
    with tempfile.TemporaryDirectory(prefix="fedprune-") as folder:
        watch = _Watch(max(1, rounds // _SAMPLES))
        settings = _settings(rounds, seed, folder)
        result = simulate(small_net, _data(seed), settings, progress=watch)
        half = len(watch.samples) // 2
        kept = watch.samples[half:]
        slopes = {
            name: _slope(watch.rounds[half:], [getattr(s, name) for s in kept])
            for name in _SLOPES
        }
        return {
            "rounds": int(str(result.summary["rounds"])),
            "slopes": slopes,
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            **{
                name: [getattr(kept[0], name), getattr(kept[-1], name)]
                for name in ("memory", "checkpoint", "files", "open_files")
            },
        }


def _settings(rounds: int, seed: int, folder: str) -> dict[str, object]:
    return {
        "task.clients": _CLIENTS,
        "rounds.cohort": _CLIENTS,
        "rounds.minimum": _CLIENTS,
        "rounds.warmup": 4,
        "rounds.sparsify": 2,
        "rounds.finetune": 4,
        "rounds.cuts": 1,
        "rounds.final": rounds - _FIRST,
        "prune.budget.channel_density": 0.75,
        "client.epochs": 1,
        "run.controls": [],
        "run.engine": "inprocess",
        "run.seed": seed,
        "run.dir": folder,
    }


def _slope(rounds: Sequence[int], sizes: Sequence[int]) -> float:
    """Return the bytes a round of the least-squares line."""
    return float(np.polyfit(rounds, sizes, 1)[0])


def _pieces(rounds: int, seeds: Sequence[int]) -> list[Piece]:
    # Its figures do not depend on the seed: one run is enough.
    return [
        Piece(
            name="run",
            settings={"rounds": rounds, "seed": seeds[0]},
            work=lambda: measured(rounds, seeds[0]),
        )
    ]


def _figures(found: Found) -> list[Figure]:
    raw = found.get("run")
    if not isinstance(raw, dict):
        return []
    detail = f"{raw['rounds']} rounds, {_CLIENTS} clients, slope of the second half"
    figures = [
        Figure(
            name=f"soak: growth a round, {name}",
            value=raw["slopes"][name] / _KB,
            unit=unit,
            goal=goal,
            detail=f"{what}; {detail}",
        )
        for name, (unit, goal, what) in _SLOPES.items()
    ]
    figures.append(
        Figure(
            name="soak: memory of the end, over that of the last round",
            value=(raw["peak"] - raw["memory"][1]) / _KB / _KB,
            unit="MB",
            detail="all events are read once more for the report",
        )
    )
    for name in ("checkpoint", "files", "open_files"):
        first, last = raw[name]
        text = name.replace("_", " ")
        figures.append(
            Figure(
                name=f"soak: growth over the second half, {text}",
                value=float(last - first),
                unit="bytes" if name == "checkpoint" else "",
                goal="<= 0",
                detail=f"{first} after half of the rounds, {last} in the end",
            )
        )
    return figures


def row(rounds: int = ROUNDS) -> Row:
    """Return the row, with so many rounds."""
    return Row(
        name="soak",
        budget="half an hour",
        pieces=lambda seeds: _pieces(rounds, seeds),
        figures=_figures,
    )
