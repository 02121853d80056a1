"""Runs from pretrained weights: pretrain on half of the classes, prune on all.

``python -m fedprune.simulations.benchmarks.pretrained``
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fedprune.common.config import Config, load_config
from fedprune.common.models.weights_file import save_weights
from fedprune.common.seeding import Use, generator
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.server.runs.events import RoundFinished, of_kind, read_events
from fedprune.simulations.benchmarks.kit.harness import Figure, benchmark
from fedprune.simulations.runs.run import run

EPOCHS = 12
CLASSES = 5  # digits 0-4; a federated round 1 never saw the others


def measure() -> list[Figure]:
    """Run the defaults with and without the pretrained weights, seed 0."""
    with tempfile.TemporaryDirectory(prefix="fedprune-") as folder:
        path = Path(folder) / "half.safetensors"
        settings = ["run.controls=[]", f'run.dir="{folder}"']
        pretrain(load_config(None, settings), path)
        fresh = _run(settings)
        started = _run([*settings, f'task.weights="{path}"'])
    return [
        Figure(
            name="test accuracy of the first broadcast, from weights - fresh",
            value=100 * (started[0] - fresh[0]),
            unit="points",
            goal=">= 20",
            detail=f"{started[0]:.4f}, {fresh[0]:.4f}",
        ),
        Figure(
            name="test accuracy after two rounds, from weights - fresh",
            value=100 * (started[2] - fresh[2]),
            unit="points",
            detail=f"{started[2]:.4f}, {fresh[2]:.4f}",
        ),
        Figure(
            name="final test accuracy, from weights - fresh",
            value=100 * (started[-1] - fresh[-1]),
            unit="points",
            detail=f"{started[-1]:.4f}, {fresh[-1]:.4f}",
        ),
    ]


def pretrain(config: Config, path: Path) -> None:
    """Train the default network centrally on the first half of the classes."""
    task = LoadedTask(config)
    model = task.build_model()
    examples = task.dataset.train
    chosen = np.flatnonzero(np.asarray(examples.targets) < CLASSES)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    torch.set_num_threads(1)
    model.train()
    for epoch in range(EPOCHS):
        rng = generator(config.run.seed, epoch, "pretrain", Use.SHUFFLE)
        for batch in np.array_split(rng.permutation(chosen), len(chosen) // 32):
            inputs, targets = examples.batch(batch)
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), targets)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    save_weights(path, model, {"classes": f"0-{CLASSES - 1}"})


def _run(settings: list[str]) -> list[float]:
    """Return the test accuracy of every broadcast and of the final network."""
    result = run(load_config(None, settings))
    events = read_events(result.directory / "events.jsonl")
    rounds = of_kind(events, RoundFinished)
    found = [event.accuracy for event in rounds if event.accuracy is not None]
    return [*found, float(str(result.summary["accuracy_final"]))]


main = benchmark("pretrained", measure)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
