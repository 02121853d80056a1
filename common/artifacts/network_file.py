"""A network that a run ended with, as a file: what it is, and how to rebuild it."""

import json
from pathlib import Path

import numpy as np
from fedprune.common.artifacts import write_model_file
from fedprune.common.artifacts.load import (
    KEEP_KEY,
    PYTHON_FACTORY,
    RUN_KEY,
    STRUCTURE_KEY,
    is_counter,
)
from fedprune.common.messages import PrunePlan
from fedprune.common.structure.structure import Structure
from fedprune.common.task import Task
from fedprune.common.trust import code_of_model
from torch import nn


def write_network(  # noqa: PLR0913 - what a file holds, by name
    path: Path,
    model: nn.Module,
    task: Task,
    *,
    structure: Structure,
    plan: PrunePlan,
    run_id: str,
    alone: bool = False,
) -> None:
    """Write a cut network: weights, moments, and every other buffer of its state.

    Law: ``load_model`` gives the same ``state_dict`` bit for bit, but for the batches
    that batch norms have counted.

    Args:
        path: The file, conventionally ``*.safetensors``.
        model: The network, already cut.
        task: What it was trained for.
        structure: The original network.
        plan: What it was cut by.
        run_id: Name of the run; it is written only where the network is code, so
            that equal networks are equal files.
        alone: Whether the file holds plan and structure too, as a device needs it;
            in a run folder they lie beside it.

    Raises:
        FedPruneError: If it cannot be written.
    """
    factory = task.factory is not None
    metadata = {
        "plan": plan.digest.hex(),
        "structure": structure.digest.hex(),
        "model": PYTHON_FACTORY if factory else task.config.task.model,
        "input_shape": json.dumps(list(task.input_shape)),
        "num_outputs": str(task.num_outputs),
    }
    if not factory and code_of_model(task.config.task.model):
        metadata[RUN_KEY] = run_id
    if alone:
        metadata[KEEP_KEY] = np.packbits(plan.keep).tobytes().hex()
        metadata[STRUCTURE_KEY] = structure.to_json().decode()
    tensors = {
        name: value.numpy()
        for name, value in model.state_dict().items()
        if not is_counter(name)
    }
    write_model_file(path, tensors, metadata)
