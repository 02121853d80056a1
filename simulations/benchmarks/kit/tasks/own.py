"""A task with everything of the user's own: ``examples/own_task.py``."""

import tempfile
from pathlib import Path

from fedprune.common.config import load_config
from fedprune.common.errors import ConfigError
from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.rows import Raw, RowStore
from fedprune.simulations.benchmarks.kit.tasks.experiments import KEPT
from fedprune.simulations.runs.run import run

EXAMPLE = Path(__file__).resolve().parents[4] / "examples" / "own_task.py"
SETTINGS: dict[str, object] = {
    "task.use": f"{EXAMPLE}:Shops",
    "task.clients": 0,
    "rounds": {"cohort": 4, "minimum": 2, "warmup": 1, "cuts": 1, "final": 0},
    "rounds.sparsify": 1,
    "rounds.finetune": 0,
    "client": {"lr": 0.005, "penalty": "group", "epochs": 2},
    "prune": {"budget": {"params": 0.6}, "width_multiple": 1},
    "run.engine": "inprocess",
}


def own_everything(store: RowStore) -> list[Figure]:
    """Return the length of the example, and the figures of a short run of it."""
    one = store.get("own-everything", _run)
    gap = 100 * (one["accuracy_final"] - one["accuracy_control"])
    return [
        Figure(
            name="own-everything: lines of the example",
            value=_lines(),
            goal="<= 40",
            detail="from the first class on, empty lines apart",
        ),
        Figure(
            name="own-everything: budget used",
            value=one["budget_used"]["params"],
            goal="<= 1",
            detail=f"parameters {one['params_final']} of {one['params_dense']}",
        ),
        Figure(
            name="own-everything: answers refused or failed",
            value=one["refused"] + one["failed"],
            goal="== 0",
            detail=f"{one['clients']} clients, {one['rounds']} rounds, 1 cut",
        ),
        Figure(
            name=f"own-everything: test metric '{one['metric']}', final",
            value=100 * one["accuracy_final"],
            unit="%",
            detail=f"n = 1; control {100 * one['accuracy_control']:.2f} %, "
            f"{gap:+.2f} points: the run is too short to say more",
        ),
    ]


def _run() -> Raw:
    if not EXAMPLE.is_file():
        msg = f"there is no {EXAMPLE}; run this row in a checkout"
        raise ConfigError(msg)
    with tempfile.TemporaryDirectory(prefix="fedprune-") as folder:
        summary = run(load_config(None, {**SETTINGS, "run.dir": folder})).summary
    return {key: summary[key] for key in KEPT}


def _lines() -> int:
    text = EXAMPLE.read_text(encoding="utf-8")
    return sum(bool(line) for line in text[text.index("class ") :].splitlines())
