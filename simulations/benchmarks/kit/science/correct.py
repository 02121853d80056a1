"""Test examples that a saved network gets right."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedprune.client.rounds.measure import batches
from fedprune.common.artifacts.load import load_model
from fedprune.common.tasks.loaded import LoadedTask, run_network
from fedprune.simulations.benchmarks.kit.science.intervals import pack


def packed_correct(path: Path, task: LoadedTask) -> dict[str, object]:
    """Return which test examples the network of a file gets right, packed.

    Args:
        path: A ``model/NAME.safetensors`` of a run.
        task: The task of the run.
    """
    return pack(correct(load_model(path, factory=task.build_model), task))


def correct(model: nn.Module, task: LoadedTask) -> NDArray[np.bool_]:
    """Return which test examples are right, bool[examples]."""
    model.eval()
    return correct_by(partial(run_network, model), task)


def correct_by(outputs: Callable[[Any], Any], task: LoadedTask) -> NDArray[np.bool_]:
    """Return it by the outputs of any function of a batch's inputs."""
    parts = []
    with torch.no_grad():
        for places in batches(len(task.test), 256):
            batch = task.test.batch(places)
            metrics = task.metrics(outputs(batch.inputs), batch)
            parts.append(next(iter(metrics.values())).numpy() > 0.0)
    return np.concatenate(parts)
