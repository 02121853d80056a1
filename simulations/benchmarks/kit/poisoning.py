"""Accuracy lost to one hostile client of ten, on a small convolutional network."""

import tempfile
from collections.abc import Mapping

from fedprune.common.config import load_config
from fedprune.common.errors import FedPruneError
from fedprune.simulations.benchmarks.kit.rows import Raw
from fedprune.simulations.benchmarks.kit.trust import networks
from fedprune.simulations.runs.run import run

# Name of each -> keys of its configuration.
ATTACKS: Mapping[str, Mapping[str, object]] = {
    "most examples, sign flipped": {"attack.kind": "examples"},
    "delta x 100": {"attack.kind": "scale", "attack.scale": 100.0},
    "delta x 100, sign flipped": {"attack.kind": "sign-flip", "attack.scale": 100.0},
    "moments, most examples": {"attack.kind": "moments"},
    "validation bad after cuts": {"attack.kind": "validation-bad"},
    "validation always good": {"attack.kind": "validation-good"},
}
MODEL = f"{networks.__name__}:norm_net"
SETTINGS = {
    "task.model": MODEL,
    "task.partition.kind": "iid",
    "rounds.warmup": 5,
    "rounds.sparsify": 2,
    "rounds.finetune": 2,
    "rounds.cuts": 1,
    "rounds.final": 3,
    "prune.budget.channel_density": 0.5,
    "prune.step_cap": 0.75,
    "run.controls": [],
    "run.engine": "inprocess",
}


def measure_attack(attack: str, seed: int) -> Raw:
    """Run the small federation with one hostile client, or with none.

    Args:
        attack: A name of ``ATTACKS``, or "" for honest clients only.
        seed: Seed and fold of the run.

    Returns:
        Final test accuracy, rounds, rollbacks and refusals.  A run that ends without
        a network has accuracy 0 and its reason under ``failed``.
    """
    with tempfile.TemporaryDirectory(prefix="fedprune-") as folder:
        changes = {"run.seed": seed, "run.dir": folder, **ATTACKS.get(attack, {})}
        config = load_config(None, {**SETTINGS, **changes})
        try:
            summary = run(config).summary
        except FedPruneError as error:
            return {"accuracy_final": 0.0, "failed": str(error)}
    kept = ("accuracy_final", "rounds", "rollbacks", "refused")
    return {key: summary[key] for key in kept}
