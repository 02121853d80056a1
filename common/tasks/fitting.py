"""Checks of inputs, outputs and targets of a batch against each other, with advice."""

from collections.abc import Mapping

import torch
from torch import Tensor

from fedprune.common.data.examples import IGNORED, Batch
from fedprune.common.errors import ConfigError, DataError
from fedprune.common.models.inputs import tensors_in
from fedprune.common.tasks.loaded import LoadedTask

POSITIONS = ("per-pixel", "next-token")  # losses with a target for each position
VALUES = ("mse", "bce")  # losses with a number for each output


def shapes_of(inputs: object) -> str:
    """Return types and shapes of inputs, for a message."""
    if isinstance(inputs, Tensor):
        kind = "" if inputs.is_floating_point() else f" of {_type(inputs)}"
        return f"a batch{kind} of shape {list(inputs.shape)}"
    if isinstance(inputs, Mapping):
        parts = [f"'{key}' {_type(x)}{_shape(x)}" for key, x in inputs.items()]
    else:
        parts = [f"{_type(x)}{_shape(x)}" for x in tensors_in(inputs)]
    return f"a batch of {', '.join(parts)}"


def hint_for(inputs: object, error: BaseException) -> str:
    """Return advice about inputs that are easily meant otherwise."""
    if not isinstance(inputs, Tensor):
        return "; want a network that takes them, in this order"
    if isinstance(error, IndexError) and not inputs.is_floating_point():
        lowest, highest = int(inputs.min()), int(inputs.max())
        text = f"; the ids run from {lowest} to {highest}: want ids from 0, and "
        return f"{text}embeddings of {highest + 1} rows"
    if not inputs.is_floating_point():
        return "; integers are ids of tokens or categories: give floats for quantities"
    if inputs.dim() == 3:  # noqa: PLR2004 - [n, channels, length]
        return "; [n, a, b] are series of a channels: give grey images as [n, 1, h, w]"
    if "indices" in str(error):
        return "; floats are quantities: give ids of tokens or categories as integers"
    return f"; want a network of float32 for inputs [n, {_sizes(inputs)}]"


def check_outputs(task: LoadedTask, outputs: Tensor, batch: Batch, when: str) -> None:
    """Refuse outputs that a built-in loss cannot compare with the targets."""
    if not isinstance(batch.targets, Tensor):
        kind = type(batch.targets).__name__
        msg = f"the targets are a {kind}; want one tensor, or override Task.loss"
        raise DataError(msg)
    count = batch.size
    whole = outputs.dim() > 0 and len(outputs) == count
    shape = f"the network gives {list(outputs.shape)} for {count} examples{when}"
    loss = task.config.task.loss
    if loss in VALUES:
        _check_values(loss, outputs, batch, shape, whole=whole)
        return
    if loss in POSITIONS:
        _check_positions(loss, outputs, batch, shape)
        return
    if batch.targets.is_floating_point() and batch.targets.dim() == 1:
        msg = (
            f"the targets are {_type(batch.targets)}[{count}] and task.loss is '{loss}'"
        )
        msg += "; give integer classes, or set task.loss = 'mse'"
        raise DataError(msg)
    classes = _classes(task, batch)
    width = outputs.shape[1] if outputs.dim() > 1 else 1
    if not whole or outputs.dim() > 2:  # noqa: PLR2004 - [batch, classes]
        msg = f"{shape}; want [{count}, {classes}]: an output for each class"
        raise ConfigError(msg)
    if outputs.dim() == 1 or width < classes:
        outs = "1 output" if width == 1 else f"{width} outputs"
        msg = (
            f"the network gives {outs} for each example{when}, and the classes are 0 "
            f"to {classes - 1}: want {classes}, an output for each class"
        )
        raise ConfigError(msg)


def check_finite_inputs(batch: Batch, when: str) -> None:
    """Refuse inputs that are not finite: training on them ends every client."""
    for part in tensors_in(batch.inputs):
        if part.is_floating_point() and not bool(torch.isfinite(part).all()):
            msg = f"a batch of the inputs{when} has a value that is not finite; replace"
            msg += " such values, or leave their examples out"
            raise DataError(msg)


def _classes(task: LoadedTask, batch: Batch) -> int:
    """Return the number of classes that the configuration says, or the data show."""
    found = [batch.targets.cpu().numpy()]
    if not task.config.task.outputs:  # with it a server may have no data to look at
        found += [task.sample.targets]
    shown = [x for x in found if x is not None and x.dtype.kind in "iu" and x.size]
    return max(task.num_outputs, *(int(x.max()) + 1 for x in shown), 0)


def _check_values(
    loss: str, outputs: Tensor, batch: Batch, shape: str, *, whole: bool
) -> None:
    """Refuse outputs that are not as many as the values of the targets."""
    count = batch.size
    wanted = batch.targets[0].numel()
    if loss == "bce" and outputs.shape == batch.targets.shape:
        return
    if loss == "mse" and whole and outputs[0].numel() == wanted:
        return
    if loss == "mse" and not batch.targets.is_floating_point():
        msg = (
            f"{shape}, and the targets are integers: task.loss is 'mse'; want "
            "'cross-entropy' for classes, or floating targets [n, k]"
        )
        raise DataError(msg)
    msg = f"{shape}; the targets have {wanted} for each: want [{count}, {wanted}]"
    raise ConfigError(msg)


def _check_positions(loss: str, outputs: Tensor, batch: Batch, shape: str) -> None:
    """Refuse outputs that are not the classes of each position of the targets."""
    wanted = tuple(batch.targets.shape)
    last = loss == "next-token"
    found = tuple(outputs.shape)
    places = found[:-1] if last else (found[:1] + found[2:])
    classes = found[-1] if last else found[1] if len(found) > 1 else 0
    if batch.targets.is_floating_point() or places != wanted or len(wanted) < 2:  # noqa: PLR2004
        form = "[n, length, classes]" if last else "[n, classes, height, width]"
        msg = f"{shape}, and the targets are {_type(batch.targets)}{list(wanted)}; "
        msg += f"task.loss = '{loss}' wants outputs {form} and an integer for each "
        msg += "position"
        raise ConfigError(msg)
    counted = batch.targets[batch.targets != IGNORED]
    if counted.numel() and (counted.min() < 0 or int(counted.max()) >= classes):
        msg = f"the targets run from {int(counted.min())} to {int(counted.max())}, and "
        msg += f"the network gives {classes} classes for each position; want targets "
        msg += f"from 0 to {classes - 1}, or a network with more classes"
        raise ConfigError(msg)


def _type(value: object) -> str:
    return str(getattr(value, "dtype", type(value).__name__)).removeprefix("torch.")


def _shape(value: object) -> str:
    return str(list(getattr(value, "shape", ())))


def _sizes(inputs: Tensor) -> str:
    return ", ".join(map(str, inputs.shape[1:]))
