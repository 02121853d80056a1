"""Candidates for the defaults, scored on the clients' validation parts alone.

Runs of the digits defaults and of changes to them, in process, without a control, on
seeds that no other benchmark uses; the score is the final network's on the validation
parts of all clients of a run.  The test part is not used.
``python -m fedprune.simulations.benchmarks.variants``
"""

import math
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from fedprune.common.config import load_config
from fedprune.server.runs.events import RoundFinished, of_run, read_events
from fedprune.simulations.benchmarks.kit.harness import Figure, benchmark
from fedprune.simulations.runs.run import run

SEEDS = range(10, 20)
PROCESSES = 2
_BYTES = ("bytes_up", "bytes_down")
VARIANTS = {
    "defaults": [],
    "int8 levels of each row": ["update.values=int8"],
    "the largest entries": ["update.choice=magnitude"],
    "finer steps": ["update.step_error=0.01"],
    "8 final rounds": ["rounds.final=8"],
    "teacher before the last cut": ["distill.weight=0.5"],
    "teacher before the first cut": ["distill.weight=0.5", "distill.teacher=dense"],
}


def measure() -> list[Figure]:
    """Run every variant on every seed."""
    tasks = [(settings, seed) for settings in VARIANTS.values() for seed in SEEDS]
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(_ended, *zip(*tasks, strict=True)))
    figures: list[Figure] = []
    for place, name in enumerate(VARIANTS):
        figures += _row(name, found[place * len(SEEDS) : (place + 1) * len(SEEDS)])
    return figures


def _ended(settings: Sequence[str], seed: int) -> dict[str, Any]:
    """Return the last round's figures of one run, the test accuracy left out."""
    with tempfile.TemporaryDirectory(prefix="fedprune-") as folder:
        places = [f"run.seed={seed}", f'run.dir="{folder}"', "run.controls=[]"]
        config = load_config(None, [*settings, *places, "run.engine=inprocess"])
        summary = run(config).summary
        events = read_events(next(Path(folder).glob("*/events.jsonl")))
    last = of_run(events, RoundFinished)[-1]
    kept = {
        "validation_accuracy": last.validation_accuracy,
        "validation_loss": last.validation_loss,
    }
    return kept | {key: summary[key] for key in _BYTES}


def _row(name: str, runs: Sequence[dict[str, Any]]) -> list[Figure]:
    accuracies = [float(r["validation_accuracy"]) for r in runs]
    mean = sum(accuracies) / len(runs)
    spread = sum((a - mean) ** 2 for a in accuracies) / (len(runs) - 1)
    up, down = (sum(r[key] for r in runs) / len(runs) / 1000 for key in _BYTES)
    return [
        Figure(
            name=f"{name}: validation accuracy",
            value=100 * mean,
            unit="%",
            detail=f"standard error {100 * math.sqrt(spread / len(runs)):.2f} points",
        ),
        Figure(
            name=f"{name}: validation loss",
            value=sum(float(r["validation_loss"]) for r in runs) / len(runs),
            detail=f"{up:.0f} kB up, {down:.0f} kB down",
        ),
    ]


main = benchmark("variants", measure)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
