"""Images a second on a GPU: local training of FedPrune over a plain torch loop."""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from fedprune.client.rounds.train import LocalTraining, train
from fedprune.common.config import load_config
from fedprune.common.messages import TrainSettings
from fedprune.common.seeding import Use, generator
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.rows import Raw, RowStore

IMAGES = 10_000
BATCH = 128

_RATE, _MOMENTUM, _CLIP = 0.05, 0.9, 5.0
_REPEATS = 3
_TASK: dict[str, object] = {"task.model": "resnet18", "task.data": "cifar10"}


def gpu(store: RowStore) -> list[Figure]:
    """Return images a second of ResNet-18 over those of a plain loop."""
    name = "gpu: images a second, FedPrune / plain torch loop"
    if not torch.cuda.is_available():
        return [Figure(name=name, value=0, detail="not run: torch has no CUDA here")]
    found = store.get("gpu", lambda: measure("cuda", IMAGES))
    return [
        Figure(
            name=name,
            value=found["ours"] / found["plain"],
            goal=">= 0.9",
            reference=f"plain {found['plain']:.0f}",
            detail=f"{found['ours']:.0f} images/s, {found['device']}, ResNet-18, "
            f"CIFAR-10, batch {BATCH}, best of {_REPEATS} epochs each",
        )
    ]


def measure(device: str, count: int) -> Raw:
    """Train an epoch several times each way, in turn.

    Args:
        device: As ``run.device``.
        count: Number of images, >= 1.
    """
    task = LoadedTask(load_config(None, {**_TASK, "run.device": device}))
    examples = task.train.take(np.arange(count))
    ours = LocalTraining(
        examples=examples,
        task=task,
        settings=_settings(),
        penalty=None,
        teacher=None,
        augment=torch.Generator(),
    )
    models = [task.build_model().to(task.device) for _ in range(2)]
    inputs, targets = examples.batch(np.arange(count))
    rng = generator(0, 0, "gpu", Use.SHUFFLE)

    def plain() -> None:
        _plain(models[1], inputs, targets, task.device)

    def trained() -> None:
        train(models[0], ours, rng)

    speeds: dict[str, list[float]] = {"ours": [], "plain": []}
    for number in range(_REPEATS + 1):
        for name, work in (("ours", trained), ("plain", plain)):
            taken = _seconds(work, task.device)
            if number:  # the first epoch warms up
                speeds[name].append(count / taken)
    name = torch.cuda.get_device_name() if task.device.type == "cuda" else "CPU"
    return {key: max(found) for key, found in speeds.items()} | {"device": name}


def _plain(
    model: nn.Module,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    device: torch.device,
) -> None:
    optimiser = torch.optim.SGD(model.parameters(), lr=_RATE, momentum=_MOMENTUM)
    model.train()
    for rows in torch.split(torch.randperm(len(inputs)), BATCH):
        found, wanted = inputs[rows].to(device), targets[rows].to(device)
        optimiser.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(model(found), wanted)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
        optimiser.step()


def _seconds(work: Callable[[], None], device: torch.device) -> float:
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _settings() -> TrainSettings:
    return TrainSettings(
        epochs=1,
        batch=BATCH,
        lr=_RATE,
        momentum=_MOMENTUM,
        penalty="none",
        strength=0.0,
        update_density=1.0,
        choice="magnitude",
        values="float32",
        step_error=0.01,
        error_feedback=False,
        decay=1.0,
        distill_weight=0.0,
        temperature=2.0,
        importance="",
        measure=False,
        freeze=False,
        clip=_CLIP,
        validation=0.0,
        score_examples=1,
        seed=0,
    )
