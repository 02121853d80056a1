"""Packing of a run's final network as a ``.fpz`` file, and its quantisation error."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fedprune.common import codec
from fedprune.common.artifacts import (
    read_description,
    read_input_shape,
    read_model_file,
)
from fedprune.common.artifacts.load import (
    RUN_KEY,
    is_counter,
    read_keep,
    read_structure,
)
from fedprune.common.artifacts.packed_file import (
    ENDING,
    pack,
    quantise_network,
    read_packed,
    write_packed,
)
from fedprune.common.codec import PackedModel
from fedprune.common.errors import ConfigError, DataError
from fedprune.common.models.flat import get_state, get_weights, model_spec
from fedprune.common.spec import PrunePlan
from fedprune.common.tasks.loaded import LoadedTask, run_network
from fedprune.simulations.export.check import headline
from fedprune.simulations.export.codebook_tuning import tune_centroids

Load = Callable[[Path], nn.Module]


def write_fpz(
    source: Path,
    target: Path,
    *,
    values: str,
    task: LoadedTask | None,
    finetune: int,
    load: Load,
) -> dict[str, object]:
    """Write the network of a model file as ``.fpz`` and read it back.

    Args:
        source: ``final.safetensors`` of a run.
        target: The file, ``*.fpz``.
        values: Value format of the weights (``quantise_network``).
        task: The task of the run, for fine-tuning; else None does.
        finetune: Epochs that the values of a codebook are fine-tuned for, >= 0.
        load: ``load_model``, with the caller's factory and trust.

    Returns:
        ``values`` and ``max_change``, the largest change of a weight; after fine-tuning
        also ``loss_codebook`` and ``loss_finetuned``, the mean training losses.

    Raises:
        ConfigError: If the network has a buffer that such a file cannot store.
    """
    model = load(source)
    weights = get_weights(model)
    blob, measured = _coded(model, values, task, finetune)
    write_packed(target, _pack(source, model, blob))
    again = load(target)
    found = get_weights(again)
    if not np.array_equal(found, read_packed(target).weights):
        msg = f"{target}: its network does not have the weights that were written"
        raise DataError(msg)
    _check_rest(model, again)
    change = float(np.abs(found - weights).max())
    return {"values": values, "max_change": change, **measured}


def accuracies(
    source: Path, target: Path, *, task: LoadedTask, load: Load
) -> dict[str, object]:
    """Return the headline metric on the test split before and after quantising."""
    before, after = (partial(run_network, load(path)) for path in (source, target))
    test = task.test
    return {
        "accuracy_float32": headline(before, task, test),
        "accuracy_fpz": headline(after, task, test),
    }


def _coded(
    model: nn.Module, values: str, task: LoadedTask | None, finetune: int
) -> tuple[bytes, dict[str, object]]:
    """Return the weights of a network as one message, and the losses of fine-tuning."""
    spec = model_spec(model, units=0)
    blob = quantise_network(get_weights(model), spec, values)
    if task is None or not finetune:
        return blob, {}
    tuned = tune_centroids(model, codec.decode_weights(blob, spec), task, finetune)
    return quantise_network(tuned.weights, spec, values), {
        "loss_codebook": round(tuned.loss_before, 6),
        "loss_finetuned": round(tuned.loss_after, 6),
    }


def _pack(source: Path, model: nn.Module, blob: bytes) -> PackedModel:
    _, metadata = read_model_file(source)
    structure = read_structure(source, metadata)
    keep = read_keep(source, metadata, structure)
    plan = PrunePlan(structure=structure.digest, keep=keep)
    return pack(
        name=metadata["model"],
        input_shape=read_input_shape(source, metadata),
        num_outputs=int(metadata["num_outputs"]),
        structure=structure,
        plan=plan,
        blob=blob,
        statistics=get_state(model, structure.living(keep).running),
        run=metadata.get(RUN_KEY, ""),
        description=read_description(source, metadata),
    )


def _check_rest(model: nn.Module, again: nn.Module) -> None:
    """Refuse a network whose buffers differ from those of its freshly built copy."""
    weights = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    found = again.state_dict()
    for name, value in model.state_dict().items():
        if name in weights or is_counter(name):
            continue
        if not torch.equal(value, found[name]):
            msg = f"buffer '{name}' is not a weight or moment, and the network's code"
            msg += f" builds it with other values: {ENDING} cannot store it; want"
            msg += " --format safetensors, or a buffer that is always the same"
            raise ConfigError(msg)
