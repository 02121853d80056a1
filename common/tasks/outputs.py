"""Check that outputs of a network are those that a built-in loss compares."""

from torch import Tensor

from fedprune.common.data.examples import IGNORED, Batch
from fedprune.common.errors import ConfigError, DataError
from fedprune.common.models.shown import type_of
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.common.tasks.losses import POSITIONS

VALUES = ("mse", "bce")  # losses with a number for each output


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
        found = f"{type_of(batch.targets)}[{count}]"
        msg = f"the targets are {found} and task.loss is '{loss}'"
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


def _classes(task: LoadedTask, batch: Batch) -> int:
    """Return the number of classes that the data say or show."""
    found = [batch.targets.cpu().numpy()]
    if not task.num_outputs:  # a server that declares them may have no data
        found.append(task.sample.targets)
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
        msg = f"{shape}, and the targets are {type_of(batch.targets)}{list(wanted)}; "
        msg += f"task.loss = '{loss}' wants outputs {form} and an integer for each "
        msg += "position"
        raise ConfigError(msg)
    counted = batch.targets[batch.targets != IGNORED]
    if counted.numel() and (counted.min() < 0 or int(counted.max()) >= classes):
        msg = f"the targets run from {int(counted.min())} to {int(counted.max())}, and "
        msg += f"the network gives {classes} classes for each position; want targets "
        msg += f"from 0 to {classes - 1}, or a network with more classes"
        raise ConfigError(msg)
