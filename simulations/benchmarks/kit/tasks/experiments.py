"""An experiment of ``fedprune.simulations.experiments`` as rows of a table."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import mean
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fedprune.client.rounds.measure import evaluate
from fedprune.common.artifacts.load import load_model
from fedprune.common.config import load_config
from fedprune.common.errors import FedPruneError
from fedprune.common.tasks.loaded import LoadedTask, run_network
from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.rows import (
    Raw,
    RowStore,
    origin,
    over_seeds,
    spread_text,
)
from fedprune.simulations.benchmarks.kit.runs import describe
from fedprune.simulations.experiments import FOLDER
from fedprune.simulations.runs.notebook.result import RunResult
from fedprune.simulations.runs.run import run

KEPT = (
    *("metric", "accuracy_final", "accuracy_control", "params_dense", "params_final"),
    *("flops_dense", "flops_final", "budget_used", "rounds", "clients", "cuts"),
    *("rollbacks", "refused", "failed", "bytes_up", "bytes_up_control", "seconds"),
    *("warnings", "model_sha256"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A configuration and what is measured on its runs.

    Attributes:
        name: Name of its row.
        file: Name of its TOML file; "" = that of the row.
        settings: Settings beside the file's.
        seeds: Seeds of its runs.
        blocks: Name of the modules whose FLOPs are counted; "" = not.
        goal: Goal of final - control in points, or "": of its whole interval.
        detail: Data and network, for the table.
    """

    name: str
    file: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)
    seeds: Sequence[int] = (0,)
    blocks: str = ""
    goal: str = ""
    detail: str = ""


def figures(store: RowStore, experiment: Experiment) -> list[Figure]:
    """Return the figures of an experiment."""
    found = results(store, experiment)
    return [*scores(experiment, found), *_laws(experiment, found)]


def results(store: RowStore, experiment: Experiment) -> list[Raw]:
    """Run an experiment for each seed, or take what is stored."""
    return [
        store.get(f"{experiment.name}-{seed}", partial(_run, experiment, seed))
        for seed in experiment.seeds
    ]


def _run(experiment: Experiment, seed: int) -> Raw:
    with tempfile.TemporaryDirectory(prefix="fedprune-") as folder:
        places = {"run.dir": folder, "run.seed": seed, "run.engine": "inprocess"}
        file = FOLDER / f"{experiment.file or experiment.name}.toml"
        config = load_config(file, {**experiment.settings, **places})
        task = LoadedTask(config)
        first = evaluate(task.build_model(), task.test, task)
        result = run(config)
        print(describe(result.summary), flush=True)
        kept = {key: result.summary[key] for key in KEPT}
        if experiment.blocks:
            kept["blocks"] = _share_of_blocks(experiment.blocks, task, result)
    return kept | {"before": first.headline}


def _share_of_blocks(name: str, task: LoadedTask, result: RunResult) -> float:
    """Return the FLOPs of modules in the final network over those in the dense one."""
    final = load_model(result.directory / "model" / "final.safetensors")
    return _flops(final, name, task) / _flops(task.build_model(), name, task)


def _flops(model: nn.Module, name: str, task: LoadedTask) -> float:
    # Fused attention is not counted, the same attention in single operations is.
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        run_network(model.eval(), task.example())
    counts = counter.get_flop_counts()
    inside = [
        sum(found.values())
        for module, found in counts.items()
        if module.split(".")[1:2] == [name] and len(module.split(".")) == 3  # noqa: PLR2004 - children
    ]
    if not inside:
        msg = f"no FLOPs were counted in the modules '{name}'"
        raise FedPruneError(msg)
    return float(sum(inside))


def scores(experiment: Experiment, found: Sequence[Raw]) -> list[Figure]:
    """Return the test metric before, after, of the control, and the difference."""
    name, metric = experiment.name, str(found[0]["metric"])
    gaps = [100 * (r["accuracy_final"] - r["accuracy_control"]) for r in found]
    one, gap = found[0], over_seeds(gaps)
    each = f"n = 1; {experiment.detail}" if len(found) == 1 else experiment.detail
    return [
        Figure(
            name=f"{name}: test {metric} of the first network",
            value=100 * mean(r["before"] for r in found),
            unit="%",
            detail=each,
        ),
        Figure(
            name=f"{name}: test {metric}, final",
            value=100 * mean(r["accuracy_final"] for r in found),
            unit="%",
            detail=_each(found, "accuracy_final"),
        ),
        Figure(
            name=f"{name}: test {metric}, dense FedAvg control",
            value=100 * mean(r["accuracy_control"] for r in found),
            unit="%",
            detail=f"{_each(found, 'accuracy_control')}; the same {one['rounds']} "
            "rounds",
        ),
        Figure(
            name=f"{name}: final - control",
            value=gap.mean,
            low=gap.low,
            high=gap.high,
            unit="points",
            goal=experiment.goal,
            detail=spread_text(gaps) + origin(found),
        ),
    ]


def _laws(experiment: Experiment, found: Sequence[Raw]) -> list[Figure]:
    """Return the figures of the budget and of the answers that were lost."""
    name = experiment.name
    used = [dict[str, float](r["budget_used"]) for r in found]
    sizes = [f"{r['params_final']} of {r['params_dense']}" for r in found]
    figures = [
        Figure(
            name=f"{name}: budget used",
            value=max(max(one.values()) for one in used),
            goal="<= 1",
            detail=f"of {', '.join(used[0])}; parameters {', '.join(sizes)}; FLOPs "
            + ", ".join(f"{r['flops_final'] / r['flops_dense']:.3f}" for r in found),
        ),
        Figure(
            name=f"{name}: answers refused or failed",
            value=sum(r["refused"] + r["failed"] for r in found),
            goal="== 0",
            detail=f"{found[0]['clients']} clients, rounds {_rounds(found)}, "
            f"{sum(r['rollbacks'] for r in found)} rollbacks",
        ),
    ]
    if experiment.blocks:
        figures.append(
            Figure(
                name=f"{name}: FLOPs of the blocks, final / dense",
                value=max(r["blocks"] for r in found),
                goal="<= 0.5",
                detail="attention, its scores too, and MLP at the training length, "
                "counted on the networks that run",
            )
        )
    return figures


def _each(found: Sequence[Raw], key: str) -> str:
    values = ", ".join(f"{100 * float(raw[key]):.2f}" for raw in found)
    return f"n = {len(found)}: {values}"


def _rounds(found: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(str(raw["rounds"]) for raw in found)
