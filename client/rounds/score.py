"""Data-driven importance of channels, measured on the broadcast before training."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedprune.client.rounds.measure import batches
from fedprune.common.data.examples import Examples
from fedprune.common.errors import ConfigError
from fedprune.common.messages import TrainSettings
from fedprune.common.pruning.importance import MeasurePoint, measure_points, unit_sum
from fedprune.common.spec import Mask, Vector
from fedprune.common.structure.structure import Structure
from fedprune.common.task import Task

SUMMARIES = ("activation-mean", "activation-variance", "apoz")


def summary(
    model: nn.Module, name: str, seen: Mapping[str, Tensor], criterion: str
) -> NDArray[np.float64]:
    """Return one of ``SUMMARIES`` of each channel of a module's output, float64.

    Args:
        model: The network.
        name: The module.
        seen: Outputs by module, as ``outputs`` records them.
        criterion: Mean magnitude, variance, or share of positive entries.
    """
    value = seen[name].double()
    last = isinstance(model.get_submodule(name), nn.Linear | nn.Embedding)
    axis = value.dim() - 1 if last else 1
    dims = [dim for dim in range(value.dim()) if dim != axis]
    if criterion == "activation-mean":
        return value.abs().mean(dim=dims).numpy()
    if criterion == "apoz":
        return (value > 0.0).double().mean(dim=dims).numpy()
    return value.var(dim=dims, correction=0).numpy()


@contextmanager
def outputs(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of modules while the block runs."""
    seen: dict[str, Tensor] = {}

    def recorder(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def record(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            # A copy: an activation behind it may work in place.
            seen[name] = output.clone()

        return record

    handles = [
        model.get_submodule(name).register_forward_hook(recorder(name))
        for name in names
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


CRITERIA = ("taylor", *SUMMARIES, "fisher", "sensitivity")
Scores = dict[str, NDArray[np.float64]]


def score(
    model: nn.Module,
    examples: Examples,
    task: Task,
    structure: Structure,
    keep: Mask,
    settings: TrainSettings,
) -> Vector:
    """Return the importance of each kept unit, float32[kept units], >= 0.

    ``settings.importance`` says which:

    * "taylor": first-order change of the loss when a channel is removed,
      ``sum over batches of |sum over examples of (dL/dgamma gamma + dL/dbeta beta)|``
      at the batch-norm output (Molchanov et al. 2019, arXiv:1906.10771, with a gate
      per channel); without batch norm at the producer, ``|sum (dL/dw w) + dL/db b|``.
    * "fisher": the same product of each example, squared, and summed over examples
      (Theis et al. 2018, arXiv:1801.05787).
    * "activation-mean", "activation-variance": mean magnitude and variance of the
      channel's output over examples and positions; "apoz": share of its outputs that
      a ReLU lets through (Hu et al. 2016, arXiv:1607.03250, one minus their APoZ).
    * "sensitivity": change of the loss when the channel is set to zero, measured: one
      run over the examples for each unit.

    Raises:
        ConfigError: If the criterion needs outputs that no module of the network has.
    """
    model.eval()
    structure, criterion = structure.living(keep), settings.importance
    if criterion == "sensitivity":
        return _sensitivity(model, examples, task, structure, keep, settings.batch)
    # One example at a time: the square is taken of each example's own product.
    size = 1 if criterion == "fisher" else settings.batch
    places = measure_points(structure)
    per_tensor: Scores = {}
    for batch in batches(len(examples), size):
        inputs, targets = examples.batch(batch)
        if criterion in SUMMARIES:
            found = _summaries(model, inputs, places, criterion)
        else:
            model.zero_grad(set_to_none=True)
            loss = task.loss(model(inputs), targets).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            found = _gradients(model, places, 2 if criterion == "fisher" else 1)
        for name, value in found.items():
            per_tensor[name] = per_tensor.get(name, 0.0) + value
    model.zero_grad(set_to_none=True)
    per_unit = unit_sum(structure, keep, per_tensor)[keep]
    return np.nan_to_num(per_unit, nan=0.0, posinf=3e38).astype(np.float32)


def _gradients(
    model: nn.Module, places: tuple[MeasurePoint, ...], power: int
) -> Scores:
    """Return |sum of gradient * value| ** power of each gate's channels."""
    tensors = dict(model.named_parameters())
    out = {}
    for gate in places:
        total = _products(tensors[gate.tensor], gate.dim)
        bias = _bias(gate.tensor, tensors)
        if bias is not None and len(bias) == len(total):
            total = total + _products(bias, 0)
        out[gate.tensor] = (total.abs() ** power).numpy()
    return out


def _bias(tensor: str, tensors: dict[str, nn.Parameter]) -> nn.Parameter | None:
    """Return the shift or bias that goes with a weight."""
    return tensors.get(tensor.removesuffix("weight") + "bias")


def _products(parameter: nn.Parameter, dim: int) -> Tensor:
    """Return the sum of gradient * value along each entry of ``dim``, float64."""
    if parameter.grad is None:
        return torch.zeros(parameter.shape[dim], dtype=torch.float64)
    product = parameter.grad.double() * parameter.detach().double()
    return (
        product.movedim(dim, 0).flatten(1).sum(dim=1) if product.dim() > 1 else product
    )


def _summaries(
    model: nn.Module, inputs: Tensor, places: tuple[MeasurePoint, ...], criterion: str
) -> Scores:
    """Return a summary of the outputs of the gates on one batch, times its size."""
    hidden = [gate.tensor for gate in places if not gate.module]
    if hidden:
        msg = f"importance '{criterion}' needs outputs, which '{hidden[0]}' does not"
        msg += " show; want taylor, fisher or sensitivity"
        raise ConfigError(msg)
    with torch.no_grad(), outputs(model, [gate.module for gate in places]) as seen:
        model(inputs)
    return {
        gate.tensor: len(inputs) * summary(model, gate.module, seen, criterion)
        for gate in places
        if gate.module in seen
    }


def _sensitivity(
    model: nn.Module,
    examples: Examples,
    task: Task,
    structure: Structure,
    keep: Mask,
    size: int,
) -> Vector:
    """Return |change of the mean loss| without each kept unit, float32[kept]."""
    tensors = dict(model.named_parameters())
    places = measure_points(structure)
    before = _mean_loss(model, examples, task, size)
    found = np.zeros(structure.units)
    for unit in np.flatnonzero(keep).tolist():
        taken: list[tuple[Tensor, Tensor]] = []
        with torch.no_grad():
            for gate in places:
                kept = structure.kept_index(gate.tensor, gate.dim, keep)
                index = torch.from_numpy(np.flatnonzero(gate.units[kept] == unit))
                weight = tensors[gate.tensor]
                bias = _bias(gate.tensor, tensors)
                pairs: list[tuple[Tensor, int]] = [(weight, gate.dim)]
                if bias is not None and len(bias) == weight.shape[gate.dim]:
                    pairs.append((bias, 0))
                for tensor, dim in pairs if len(index) else ():
                    taken.append((tensor, tensor.detach().clone()))
                    tensor.index_fill_(dim, index, 0.0)
            found[unit] = abs(_mean_loss(model, examples, task, size) - before)
            for tensor, value in reversed(taken):
                tensor.copy_(value)
    return np.nan_to_num(found[keep], nan=0.0, posinf=3e38).astype(np.float32)


def _mean_loss(model: nn.Module, examples: Examples, task: Task, size: int) -> float:
    total = 0.0
    with torch.no_grad():
        for batch in batches(len(examples), size):
            inputs, targets = examples.batch(batch)
            total += float(task.loss(model(inputs), targets).double().sum())
    return total / max(len(examples), 1)
