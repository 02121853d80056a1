"""The description of a task: a user's own one is checked before a run starts."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fedprune.common.description import (
    LONGEST_LABEL,
    Description,
    Numbers,
    by_channel,
    checked,
)
from fedprune.common.errors import ConfigError, DataError
from fedprune.common.tasks.task import Task
from fedprune.common.text import printable

if TYPE_CHECKING:
    from fedprune.common.tasks.loaded import LoadedTask


def checked_description(
    found: object, task: Task, outputs: int, shape: Callable[[], Sequence[int]] = tuple
) -> Description:
    """Return the description that a task's method returned.

    Labels are made printable, numbers floats.

    Args:
        found: The result.
        task: The task, for messages.
        outputs: Entries of the network's output; 0 = not known.
        shape: Returns the shape of one input, () = not known; called where it matters.

    Raises:
        ConfigError: If it is none, has more labels than the network has outputs, or
            numbers of other channels than an input has.
    """
    name = type(task).__name__
    if not isinstance(found, Description):
        msg = f"{name}.describe returns a {type(found).__name__}; want a "
        raise ConfigError(msg + "fedprune.Description")
    count = len(found.labels)
    if count > outputs > 0:
        msg = f"there are {count} label names, and the network has {outputs} "
        raise ConfigError(msg + "outputs; want at most one for each")
    labels = [printable(label, LONGEST_LABEL) for label in found.labels]
    try:
        numbers = (_floats(found.offset), _floats(found.scale))
        result = checked(labels, *numbers, found.stored)
        sizes = shape() if any(isinstance(x, tuple) for x in numbers) else ()
        if sizes:
            for each in numbers:
                by_channel(each, (1, *sizes))
    except (DataError, TypeError, ValueError) as error:
        msg = f"{name}.describe: {error}"
        raise ConfigError(msg) from error
    return result


def _floats(found: Any) -> Numbers:  # noqa: ANN401 - of a user
    """Return a number, or the numbers of a list, an array or a tensor, as floats."""
    values = np.asarray(found, dtype=np.float64)
    if values.ndim > 1:
        values = values.reshape(-1)
    return tuple(values.tolist()) if values.ndim else float(values)


def declared_description(task: "LoadedTask") -> Description:
    """Return what a server knows: an own description, or the names of the classes.

    It sees no data of devices, so it does not know how they store theirs.
    """
    own = task.task
    if type(own).describe is not Task.describe:
        return task.describe()
    return checked_description(Description(labels=own.class_names), own, 0)
