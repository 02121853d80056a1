"""Networks as flat vectors: weights, batch-norm moments and running values.

The order is the network's own: ``named_parameters`` for weights, ``named_modules``
for moments, ``named_buffers`` for running values.  Nothing here builds a network or
keeps a reference to its memory.
"""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedprune.common.errors import ConfigError
from fedprune.common.messages import Statistics
from fedprune.common.spec import ModelSpec, TensorSpec, Vector

NormModule = _BatchNorm


def norm_modules(model: nn.Module) -> list[tuple[str, NormModule]]:
    """Return (name, module) of every batch norm with running statistics, in order."""
    return [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, NormModule) and module.running_mean is not None
    ]


def get_weights(model: nn.Module) -> Vector:
    """Return a copy of all trained weights in model order, float32[size]."""
    return _gather([weight.detach() for weight in model.parameters()])


def set_weights(model: nn.Module, weights: Vector) -> None:
    """Write flat weights into a network, in place.

    Law: after ``set_weights(model, w)``, ``get_weights(model) == w`` bit for bit for
    a float32 network.

    Args:
        model: The network.
        weights: float32[size] in model order; may be read-only.

    Raises:
        ConfigError: If the length is not the network's.
    """
    _scatter([weight.detach() for weight in model.parameters()], weights, "weights")


def get_statistics(model: nn.Module) -> tuple[Vector, Vector]:
    """Return (running means, running variances), each float32[moments], copied."""
    means, variances = _running(model)
    return _gather(means), _gather(variances)


def set_statistics(model: nn.Module, mean: Vector, variance: Vector) -> None:
    """Write running statistics into a network, in place.

    Args:
        model: The network.
        mean: float32[moments] in module order.
        variance: float32[moments] in module order, >= 0.

    Raises:
        ConfigError: If a length is not the network's; nothing is written then.
    """
    means, variances = _running(model)
    _check_length(means, mean, "means")
    _scatter(variances, variance, "variances")
    _scatter(means, mean, "means")


def get_running(model: nn.Module, running: Iterable[str]) -> Vector:
    """Return a copy of the values of the named buffers, float32[running_size]."""
    return _gather([item for _, item in _buffers(model, running)])


def get_state(model: nn.Module, running: Iterable[str]) -> Statistics | None:
    """Return moments and the values of the named buffers; None if there is neither."""
    mean, variance = get_statistics(model)
    values = get_running(model, running)
    if not len(mean) and not len(values):
        return None
    return Statistics(num_examples=1, mean=mean, variance=variance, running=values)


def set_state(
    model: nn.Module, statistics: Statistics | None, running: Iterable[str]
) -> None:
    """Write moments and running values into a network, in place; empty parts stay.

    Args:
        model: The network.
        statistics: Moments and running values, or None.
        running: Names of the buffers that the values belong to, in model order.

    Raises:
        ConfigError: If a length is not the network's.
    """
    if statistics is None:
        return
    if statistics.measured:
        set_statistics(model, statistics.mean, statistics.variance)
    if len(statistics.running):
        found = [item for _, item in _buffers(model, running)]
        _scatter(found, statistics.running, "running values")


def model_spec(model: nn.Module, units: int, running: Iterable[str] = ()) -> ModelSpec:
    """Return the names and shapes of a network: the schema of its messages.

    Args:
        model: The network as it is now, cut or not.
        units: Number of its kept units, >= 0.
        running: Names of the buffers that are averaged, in model order.
    """
    tensors = tuple(
        TensorSpec(name=name, shape=tuple(weight.shape))
        for name, weight in model.named_parameters()
    )
    moments = sum(mean.numel() for mean in _running(model)[0])
    return ModelSpec(
        tensors=tensors,
        moments=moments,
        units=units,
        running=tuple(
            TensorSpec(name=name, shape=tuple(item.shape))
            for name, item in _buffers(model, running)
        ),
    )


def _buffers(model: nn.Module, names: Iterable[str]) -> list[tuple[str, torch.Tensor]]:
    known = dict(model.named_buffers())
    wanted = list(names)
    absent = [name for name in wanted if name not in known]
    if absent:
        msg = f"the network has no buffer '{absent[0]}'"
        raise ConfigError(msg)
    return [(name, known[name].detach()) for name in wanted]


def _running(model: nn.Module) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return the running means and the running variances of a network."""
    modules = [module for _, module in norm_modules(model)]
    means = [m.running_mean for m in modules if m.running_mean is not None]
    variances = [m.running_var for m in modules if m.running_var is not None]
    return means, variances


def _gather(tensors: list[torch.Tensor]) -> Vector:
    # Memory of numpy: it asks the system for large pages, which are ready sooner.
    vector = np.empty(sum(tensor.numel() for tensor in tensors), dtype=np.float32)
    flat = torch.from_numpy(vector)
    start = 0
    for tensor in tensors:
        end = start + tensor.numel()
        flat[start:end].view(tensor.shape).copy_(tensor)
        start = end
    return vector


def _check_length(tensors: list[torch.Tensor], vector: Vector, what: str) -> None:
    wanted = sum(tensor.numel() for tensor in tensors)
    if vector.shape != (wanted,):
        msg = f"{what} have shape {vector.shape}; the network takes ({wanted},)"
        raise ConfigError(msg)


def _scatter(tensors: list[torch.Tensor], vector: Vector, what: str) -> None:
    _check_length(tensors, vector, what)
    start = 0
    with torch.no_grad():
        for tensor in tensors:
            end = start + tensor.numel()
            _write(tensor, vector[start:end].reshape(tensor.shape))
            start = end


def _write(tensor: torch.Tensor, values: NDArray[np.float32]) -> None:
    """Write values into a tensor of their shape, of any device and type."""
    # Tensors of other classes may hold their values elsewhere.
    plain = type(tensor) is torch.Tensor and tensor.dtype is torch.float32
    if plain and tensor.is_contiguous() and tensor.device.type == "cpu":
        np.copyto(tensor.numpy(), values)
        # As torch's own writes do: a backward pass that needs the old values refuses.
        torch.autograd.graph.increment_version(tensor)
        return
    # A copy: torch warns about memory that may not be written to.
    tensor.copy_(torch.from_numpy(np.array(values, dtype=np.float32)))
