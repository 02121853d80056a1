"""Mistakes with the folders of runs."""

from fedprune.simulations.benchmarks.kit.mistakes.mistake import (
    BROKEN,
    HERE,
    USAGE,
    mistake,
    works,
)
from fedprune.simulations.benchmarks.kit.mistakes.places import (
    edited_run,
    finished_run,
    older_run,
    stopped_run,
    torn_run,
    used_run,
)

_RESUME = ("simulate", "--resume", HERE)

OF_RUNS = (
    mistake(
        "+ a run that is in use",
        _RESUME,
        USAGE,
        f"{HERE} is in use by process ",
        "wait for it, stop it, or start another run",
        place=used_run,
    ),
    mistake(
        "+ half of each checkpoint",
        _RESUME,
        BROKEN,
        f"no checkpoint in {HERE}/checkpoints can be used",
        "truncated or changed",
        "restore the folder, or start a new run",
        place=torn_run,
    ),
    mistake(
        "+ checkpoints of another version",
        _RESUME,
        BROKEN,
        "is not a checkpoint of this version",
        "manifest.json names the version that can resume it",
        "or start a new run",
        place=older_run,
    ),
    mistake(
        "+ a configuration that was edited",
        _RESUME,
        BROKEN,
        f"{HERE}/config.toml was changed since the run started: run.seed",
        "put it back, or start a new run with it",
        place=edited_run,
    ),
    works(
        "+ to resume what has finished",
        _RESUME,
        f"{HERE} has finished already; nothing was changed",
        place=finished_run,
    ),
    mistake(
        "+ a run in place of its configuration",
        ("simulate", HERE),
        USAGE,
        f"it is a run: want {HERE}/config.toml, or --resume {HERE}",
        place=finished_run,
    ),
    works(
        "+ to serve what has finished",
        ("serve", "--resume", HERE),
        f"{HERE} has finished already; nothing was changed",
        place=finished_run,
    ),
    mistake(
        "+ the export of an unfinished run",
        ("export", HERE, "--format", "safetensors"),
        USAGE,
        f"{HERE} has no final network yet; finish it: fedprune simulate --resume",
        place=stopped_run,
    ),
)
