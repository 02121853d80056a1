"""The folder of a finished run, made without running one."""

import json

import numpy as np
import torch

from fedprune.common.artifacts import (
    description_metadata,
    write_model_file,
    write_plan_file,
)
from fedprune.common.description import Description
from fedprune.common.models.registry import build_model
from fedprune.common.pruning.plan import apply_plan, child_plan, full_plan
from fedprune.common.structure.tracing.find import find_structure
from fedprune.server.runs.folder import RunFolder

SHAPE = (1, 8, 8)


def dense(name):
    return build_model(name, num_outputs=10, input_shape=SHAPE, seed=3)


def a_run(base, name="small-resnet", label=None, description=None):
    """Return the folder of a finished run and the network that it ended with.

    Args:
        base: Where the folder goes.
        name: The network.
        label: Another name of it in the files.
        description: Label names and preprocessing in the files.
    """
    model = dense(name)
    structure = find_structure(model, torch.zeros(2, *SHAPE))
    generator = torch.Generator().manual_seed(1)
    # Every scale and statistic unlike 0 and 1, so that all of them take part.
    for key, value in model.state_dict().items():
        drawn = torch.rand(value.shape, generator=generator)
        if key.endswith("running_mean"):
            value.copy_(0.2 * (drawn - 0.5))
        elif key.endswith("running_var") or (value.dim() == 1 and "weight" in key):
            value.copy_(drawn + 0.5)
    keep = structure.full()
    for group in structure.groups:
        keep[group.units[1::2]] = False
    plan = child_plan(structure, full_plan(structure), keep)
    folder = RunFolder.create(base, "a")
    folder.structure.write_bytes(structure.to_json())
    write_plan_file(folder.plan, plan, structure)
    for file, state, digest in (
        ("dense", model.state_dict(), full_plan(structure).digest),
        ("final", apply_plan(model, structure, keep).state_dict(), plan.digest),
    ):
        meta = {
            "plan": digest.hex(),
            "structure": structure.digest.hex(),
            "model": label or name,
            "input_shape": json.dumps(SHAPE),
            "num_outputs": "10",
            **description_metadata(description or Description()),
        }
        tensors = {key: value.numpy() for key, value in state.items()}
        write_model_file(folder.model / f"{file}.safetensors", tensors, meta)
    return folder, model.eval()


def answer(model, size=5):
    rng = np.random.default_rng(0)
    batch = rng.standard_normal((size, *SHAPE), dtype=np.float32)
    with torch.no_grad():
        return model(torch.from_numpy(batch)).numpy()
