"""Whole runs as measurements, shared by several benchmarks."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from fedprune.common.config import Config, load_config
from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.runs.run import run

Summary = Mapping[str, Any]


def summaries(
    seeds: Iterable[int], settings: Sequence[str] = (), file: Path | None = None
) -> list[Summary]:
    """Run a configuration once for each seed and return the summaries.

    Args:
        seeds: Seed s also chooses test fold s of 5 where the data has no test split.
        settings: "key=value" as for ``--set``.
        file: A TOML file, or None for the defaults.
    """
    found: list[Summary] = []
    with tempfile.TemporaryDirectory(prefix="fedprune-") as folder:
        for seed in seeds:
            places = [f"run.seed={seed}", f'run.dir="{folder}"']
            config: Config = load_config(file, [*settings, *places])
            found.append(run(config).summary)
            print(describe(found[-1]), flush=True)
    return found


def describe(summary: Summary) -> str:
    """Return one line about a run, printed while a benchmark runs."""
    control = summary["accuracy_control"]
    beside = "" if control is None else f", control {control:.4f}"
    return (
        f"seed {summary['seed']}: accuracy {summary['accuracy_final']:.4f}{beside}, "
        f"parameters {summary['params_final'] / summary['params_dense']:.3f}, "
        f"{summary['rounds']} rounds, {summary['seconds']:.0f} s"
    )


def mean(runs: Sequence[Summary], key: str) -> float:
    """Return the mean of one figure over runs."""
    return sum(float(run[key]) for run in runs) / len(runs)


def ratio(runs: Sequence[Summary], over: str, under: str) -> float:
    """Return the ratio of two figures, both summed over runs."""
    return sum(float(r[over]) for r in runs) / sum(float(r[under]) for r in runs)


def listed(runs: Sequence[Summary], key: str, digits: int = 4) -> str:
    """Return one figure of every run, for the detail of a table row."""
    return ", ".join(f"{float(run[key]):.{digits}f}" for run in runs)


def equal_bytes(runs: Sequence[Summary]) -> Iterator[Figure]:
    """Yield the ratios of bytes where dense FedAvg was as good as the run ends."""
    reached = [run for run in runs if run["equal_accuracy"] is not None]
    for way in ("up", "down"):
        key = f"bytes_{way}"
        ratios = [run["equal_accuracy"][key] / run[key] for run in reached]
        if ratios:
            yield Figure(
                name=f"bytes {way} at equal validation accuracy, control / run",
                value=float(median(ratios)),
                unit="x",
                reference="dense float32 messages, until the control was as good",
                detail=f"median of {len(ratios)} of {len(runs)} runs: "
                + ", ".join(f"{ratio:.1f}" for ratio in ratios),
            )
