"""Data-driven importance of channels, measured on the broadcast before training."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from client.measure import batches
from common.data.examples import Examples
from common.messages import Indices, Mask, Vector
from common.pruning.importance import gates, unit_sum
from common.pruning.structure import Structure
from common.task import Task

CRITERIA = ("taylor", "activation-mean", "activation-variance")


def balanced(
    targets: NDArray[np.generic], limit: int, rng: np.random.Generator
) -> Indices:
    """Choose up to ``limit`` positions, as even over the classes as they allow.

    A channel that serves one rare class must be seen by the score.  Regression
    targets (floats) are drawn without classes.
    """
    order = rng.permutation(len(targets))
    if targets.dtype.kind == "f":
        return np.sort(order[:limit])
    rank = np.zeros(len(targets), dtype=np.int64)
    for value in np.unique(targets):
        places = order[targets[order] == value]
        rank[places] = np.arange(len(places))
    chosen = order[np.argsort(rank[order], kind="stable")][:limit]
    return np.sort(chosen)


def score(
    model: nn.Module,
    examples: Examples,
    task: Task,
    structure: Structure,
    keep: Mask,
    *,
    criterion: str,
) -> Vector:
    """Return the importance of each kept unit, float32[kept units], >= 0.

    "taylor": first-order change of the loss when a channel is removed,
    ``sum over batches of |sum over examples of (dL/dgamma gamma + dL/dbeta beta)|``
    at the batch-norm output (Molchanov et al. 2019, arXiv:1906.10771, with a gate per
    channel); without batch norm at the producer, ``|sum (dL/dw w) + dL/db b|``.
    "activation-mean" and "activation-variance": mean magnitude and variance of the
    channel's output over examples and positions.
    """
    model.eval()
    run = _taylor if criterion == "taylor" else _activation(criterion)
    per_tensor: dict[str, NDArray[np.float64]] = {}
    for batch in batches(len(examples), task.config.client.batch):
        for name, value in run(model, examples, batch, task, structure).items():
            per_tensor[name] = per_tensor.get(name, 0.0) + value
    model.zero_grad(set_to_none=True)
    per_unit = unit_sum(structure, keep, per_tensor)[keep]
    return np.nan_to_num(per_unit, nan=0.0, posinf=3e38).astype(np.float32)


def _taylor(
    model: nn.Module,
    examples: Examples,
    batch: Indices,
    task: Task,
    structure: Structure,
) -> dict[str, NDArray[np.float64]]:
    """Return |sum of gradient * value| of each gate's channels on one batch."""
    model.zero_grad(set_to_none=True)
    inputs, targets = examples.batch(batch)
    task.loss(model(inputs), targets).sum().backward()  # type: ignore[no-untyped-call]
    out = {}
    for gate in gates(structure):
        module = model.get_submodule(gate.module)
        total = _products(module.weight)
        if isinstance(getattr(module, "bias", None), Tensor):
            total = total + _products(module.bias)
        out[f"{gate.module}.weight"] = total.abs().numpy()
    return out


def _products(parameter: object) -> Tensor:
    """Return the sum of gradient * value along each entry of dim 0, float64."""
    assert isinstance(parameter, Tensor)  # noqa: S101 - gates are trained tensors
    if parameter.grad is None:
        return torch.zeros(parameter.shape[0], dtype=torch.float64)
    product = parameter.grad.double() * parameter.detach().double()
    return product.reshape(len(product), -1).sum(dim=1)


def _activation(
    criterion: str,
) -> Callable[..., dict[str, NDArray[np.float64]]]:
    """Return a criterion over the outputs of the gates."""

    def run(
        model: nn.Module,
        examples: Examples,
        batch: Indices,
        _task: Task,
        structure: Structure,
    ) -> dict[str, NDArray[np.float64]]:
        names = [gate.module for gate in gates(structure)]
        with torch.no_grad(), _outputs(model, names) as seen:
            inputs, _ = examples.batch(batch)
            model(inputs)
        return {
            f"{name}.weight": _summary(value, criterion, _axis(model, name))
            * len(batch)
            for name, value in seen.items()
        }

    return run


def _axis(model: nn.Module, name: str) -> int:
    """Return the dimension of a module's output that holds its channels."""
    return -1 if isinstance(model.get_submodule(name), nn.Linear) else 1


def _summary(value: Tensor, criterion: str, axis: int) -> NDArray[np.float64]:
    """Return mean magnitude or variance of each channel (dim ``axis``), float64."""
    dims = [d for d in range(value.dim()) if d != axis % value.dim()]
    if criterion == "activation-mean":
        return value.double().abs().mean(dim=dims).numpy()
    return value.double().var(dim=dims, correction=0).numpy()


@contextmanager
def _outputs(model: nn.Module, names: list[str]) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of modules while the block runs."""
    seen: dict[str, Tensor] = {}

    def recorder(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def record(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            seen[name] = output

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
