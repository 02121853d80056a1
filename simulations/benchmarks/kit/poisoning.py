"""Accuracy lost to one hostile client of ten, on a small convolutional network."""

import tempfile

from torch import nn

from fedprune.common.config import load_config
from fedprune.common.errors import FedPruneError
from fedprune.simulations.benchmarks.kit.rows import Raw
from fedprune.simulations.engines.hostile import ATTACKS, by, hostile
from fedprune.simulations.runs.run import run

HOSTILE = "client-000"
MODEL = f"{__name__}:small_net"
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


def small_net(num_outputs: int, input_shape: tuple[int, ...]) -> nn.Sequential:
    """Return two convolutions with batch norm and a linear layer, for 8 x 8 images."""
    return nn.Sequential(
        nn.Conv2d(input_shape[0], 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4, num_outputs),
    )


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
        changes = {"run.seed": seed, "run.dir": folder}
        config = load_config(None, {**SETTINGS, **changes})
        try:
            if not attack:
                summary = run(config).summary
            else:
                with hostile(by({HOSTILE}, ATTACKS[attack])):
                    summary = run(config).summary
        except FedPruneError as error:
            return {"accuracy_final": 0.0, "failed": str(error)}
    kept = ("accuracy_final", "rounds", "rollbacks", "refused")
    return {key: summary[key] for key in kept}
