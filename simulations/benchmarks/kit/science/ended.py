"""A finished run of a row, and its networks, while its folder exists."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fedprune.common.artifacts.load import load_model
from fedprune.common.config import load_config
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.server.runs.events import Event, read_events
from fedprune.simulations.benchmarks.kit.rows import Raw
from fedprune.simulations.export.export import export_run
from fedprune.simulations.runs.run import run

QUIET: Mapping[str, object] = {
    "run.engine": "inprocess",
    "run.evaluate_every": 1000,
    "run.controls": [],
}


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A finished run.

    Attributes:
        folder: Its folder, which exists until ``ended`` is left.
        summary: The figures of its ``summary.json``.
        task: Its task.
    """

    folder: Path
    summary: Mapping[str, Any]
    task: LoadedTask

    @cached_property
    def events(self) -> Sequence[Event]:
        """Its events, those of its controls too."""
        return read_events(self.folder / "events.jsonl")

    def network(self, name: str = "final") -> nn.Module:
        """Return a network of ``model/``: "final", "before_cut" or a control's."""
        path = self.folder / "model" / f"{name}.safetensors"
        return load_model(path, factory=self.task.build_model)

    def codebook(self, bits: int) -> tuple[Path, nn.Module]:
        """Return the ``.fpz`` of the final network by a codebook, and what it holds.

        Args:
            bits: Of each weight, 1 to 6.
        """
        path, values = self.folder / "network.fpz", f"codebook{bits}"
        export_run(
            self.folder, format_="fpz", values=values, output=path, trust_code=True
        )
        return path, load_model(path, factory=self.task.build_model)

    def figures(self, *keys: str) -> Raw:
        """Return some figures of the summary."""
        return {key: self.summary[key] for key in keys}


@contextmanager
def ended(
    settings: Mapping[str, object], seed: int, file: Path | None = None
) -> Iterator[Ended]:
    """Run a configuration in this process, on one thread, and yield the finished run.

    Args:
        settings: Keys with dots, as of ``load_config``; they win over ``QUIET``.
        seed: As ``run.seed``.
        file: A TOML file, or None for the defaults.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="fedprune-") as folder:
        own = {"run.dir": folder, "run.seed": seed}
        config = load_config(file, {**QUIET, **settings, **own})
        result = run(config)
        yield Ended(
            folder=result.directory, summary=result.summary, task=LoadedTask(config)
        )
