"""Runs small enough for tests: four clients, few rounds, a network with batch norm."""

import json
import math
from pathlib import Path

from torch import nn

from fedprune.server.runs.events import of_kind, read_events
from fedprune.simulations.runs.api import simulate
from fedprune.simulations.runs.notebook.result import RunResult

HERE = Path(__file__).resolve()

SMALL = {
    "task.model": f"{HERE}:small_net",
    "task.clients": 4,
    "rounds.cohort": 4,
    "rounds.minimum": 2,
    "rounds.warmup": 1,
    "rounds.sparsify": 1,
    "rounds.finetune": 1,
    "rounds.cuts": 2,
    "rounds.final": 1,
    "client.epochs": 1,
    "distill.weight": 0.5,
    "prune.budget.params": 0.5,
    "prune.width_multiple": 1,
    "run.controls": [],
    "run.engine": "inprocess",
}
# Three of four clients a round: of those that fine-tune, some hold the teacher and some
# are sent it.
PARTIAL = {
    "rounds.warmup": 4,
    "rounds.cohort": 3,
    "rounds.finetune": 3,
    "rounds.cuts": 1,
    "rounds.final": 2,
}
# What depends on the clock or on the engine, or on a resumption.
_TIMES = (
    *("seconds", "latency_ms_dense", "latency_ms_final", "bytes_simulation"),
    "warnings",
)


def small_net(num_outputs, input_shape):
    """Return two convolutions with batch norm and a linear layer: 3 000 weights."""
    return nn.Sequential(
        nn.Conv2d(input_shape[0], 12, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 24, 3, padding=1, bias=False),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, num_outputs),
    )


def small_settings(folder, changes=()):
    """Return the settings of a small run that leaves its folder under ``folder``."""
    return SMALL | {"run.dir": str(folder)} | dict(changes)


def run_small(folder, changes=()) -> RunResult:
    """Run in this process."""
    return simulate(config=small_settings(folder, changes))


def as_options(settings) -> list[str]:
    """Return settings as ``--set`` options of the command line."""
    return [word for item in as_assignments(settings) for word in ("--set", item)]


def as_assignments(settings) -> list[str]:
    """Return settings as ``key=value`` with values as TOML has them."""
    return [
        f"{key}={json.dumps(value) if isinstance(value, bool | list) else value}"
        for key, value in settings.items()
    ]


def events(directory, kind):
    """Return the events of one kind, in order."""
    return list(of_kind(read_events(Path(directory) / "events.jsonl"), kind))


def figures(summary):
    """Return the figures of a summary that every run with this seed must reach."""
    return {
        key: None if isinstance(value, float) and math.isnan(value) else value
        for key, value in summary.items()
        if key not in _TIMES
    }


def read_summary(directory):
    """Return ``summary.json`` of a run."""
    return json.loads((Path(directory) / "summary.json").read_bytes())


def only_run(folder) -> Path:
    """Return the one run folder under ``folder``."""
    (found,) = (p for p in Path(folder).iterdir() if (p / "manifest.json").is_file())
    return found
