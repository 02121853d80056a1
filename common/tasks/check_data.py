"""Check that arrays and the configuration agree, before a network is built."""

import numpy as np

from fedprune.common.data.examples import IGNORED, ArrayExamples, Examples
from fedprune.common.errors import DataError
from fedprune.common.tasks.loaded import LoadedTask

_LABELS = 2  # dimensions of the targets of several labels, [n, labels]


def check_data(task: LoadedTask) -> tuple[str, ...]:
    """Check that the data agree with the configuration.

    Returns:
        One line for each valid but unusual property.

    Raises:
        DataError: If there is no example, inputs have another shape than declared, or
            targets are not of the type that the loss needs.
    """
    if len(task.sample) == 0 or len(task.test) == 0:
        part = "test" if len(task.sample) else "training"
        msg = f"{task.name} has no {part} example; want some in training and test"
        raise DataError(msg)
    remarks = data_remarks(task)
    if task.task.has_own_data:
        remarks += _own_remarks(task)
    else:
        remarks += task.dataset.check()
    if isinstance(task.sample, ArrayExamples):
        _check_shape(task, task.sample)
    if task.task.has_own_loss:
        return remarks
    return (*remarks, *_CHECKS[task.config.task.loss](task))


def _own_remarks(task: LoadedTask) -> tuple[str, ...]:
    """Check that a task's own data are the same at every call: each process calls.

    Returns:
        A line if the test examples are the training examples.

    Raises:
        DataError: If two calls give different examples.
    """
    first, second = task.digests(), task.digests()
    for name, one, two in zip(("train_data", "test_data"), first, second, strict=True):
        if one != two:
            msg = f"two calls of {task.name}.{name} give different examples, and every "
            msg += (
                "process makes its own: want random numbers from torch, numpy.random "
            )
            msg += "or random, which are seeded, and nothing that is kept between calls"
            raise DataError(msg)
    if first[0] == first[1]:
        return ("the test examples are training examples: no figure is a test",)
    return ()


def data_remarks(task: LoadedTask) -> tuple[str, ...]:
    """Return a line for each thing that loading changed, left out or guessed."""
    return () if task.task.has_own_data else task.dataset.remarks


def _check_shape(task: LoadedTask, examples: ArrayExamples) -> None:
    declared, found = task.config.task.input_shape, examples.inputs.shape[1:]
    if declared and tuple(declared) != tuple(found):
        msg = (
            f"the data's inputs have shape {list(found)}; task.input_shape is "
            f"{list(declared)}: leave it out, or give that of the data"
        )
        raise DataError(msg)


def _classes(task: LoadedTask) -> tuple[str, ...]:
    """Check the targets of cross-entropy."""
    targets = task.sample.targets
    if targets is None:
        return ()
    if targets.dtype.kind == "f":
        raise DataError(_not_classes(task.sample))
    if targets.ndim > 1:
        raise DataError(_wrong(task, targets, "integer classes [n]"))
    _check_first_class(task)
    if targets.size and targets.min() == targets.max():
        return (f"all training examples are of class {targets[0]}",)
    return ()


def _labels(task: LoadedTask) -> tuple[str, ...]:
    """Check the targets of several labels."""
    targets = task.sample.targets
    if targets is None:
        return ()
    if targets.ndim != _LABELS or not np.isin(targets, (0, 1)).all():
        raise DataError(_wrong(task, targets, "0 or 1 for each label [n, labels]"))
    rare = [str(k) for k in np.flatnonzero(~targets.any(axis=0))]
    if not rare:
        return ()
    return (f"{len(rare)} labels occur in no training example: {', '.join(rare[:5])}",)


def _values(task: LoadedTask) -> tuple[str, ...]:
    return ()


def _positions(task: LoadedTask) -> tuple[str, ...]:
    """Check the targets of losses with a class for each position."""
    targets = task.sample.targets
    if targets is None:
        return ()
    if targets.dtype.kind == "f" or targets.ndim < _LABELS:
        wanted = "an integer for each position [n, ...]"
        raise DataError(_wrong(task, targets, wanted))
    counted = targets[targets != IGNORED]
    if counted.size and counted.min() < 0:
        msg = f"a target is {counted.min()}; want 0 and above, or {IGNORED} for a "
        msg += "position that does not count"
        raise DataError(msg)
    return ()


_CHECKS = {
    "cross-entropy": _classes,
    "bce": _labels,
    "mse": _values,
    "per-pixel": _positions,
    "next-token": _positions,
}


def _wrong(task: LoadedTask, targets: np.ndarray, wanted: str) -> str:
    loss = task.config.task.loss
    found = f"{targets.dtype}{list(targets.shape)}"
    msg = f"the targets are {found}; task.loss = '{loss}' wants {wanted}"
    if loss == "cross-entropy" and np.isin(targets, (0, 1)).all():
        msg += "; of one-hot rows the classes are targets.argmax(axis=1), several "
        msg += "labels an example want task.loss = 'bce'"
    return msg


def _not_classes(examples: Examples) -> str:
    """Return the message about floating targets under cross-entropy."""
    found = examples.targets
    targets = np.zeros((0, 1)) if found is None else found.reshape(len(examples), -1)
    width = targets.shape[1]
    one_hot = width > 1 and bool(np.isin(targets, (0, 1)).all())
    if one_hot and bool((targets.sum(axis=1) == 1).all()):
        return (
            f"the targets are one-hot rows of {width}; give integer classes "
            "(targets.argmax(axis=1)), or set task.loss = 'mse'"
        )
    return (
        "the targets are floats and task.loss is 'cross-entropy'; give integer "
        "classes, or set task.loss = 'mse'"
    )


def _check_first_class(task: LoadedTask) -> None:
    """Refuse classes that are counted from 1, unless their number is declared."""
    found = [part.targets for part in (task.sample, task.test)]
    parts = [part for part in found if part is not None and part.size]
    lowest = min(int(part.min()) for part in parts)
    highest = max(int(part.max()) for part in parts)
    if lowest < 0:
        msg = f"the classes run from {lowest} to {highest}; count them from 0"
        raise DataError(msg)
    outputs = task.config.task.outputs
    if 0 < outputs <= highest:
        msg = f"the classes run from {lowest} to {highest}; task.outputs is {outputs}: "
        msg += f"want {highest + 1}, or classes below"
        raise DataError(msg)
    if lowest > 0 and not outputs:
        msg = (
            f"the classes run from {lowest} to {highest}; count them from 0, or set "
            f"task.outputs = {highest + 1} if no example has those below"
        )
        raise DataError(msg)
