"""The description of a task: a user's own one is checked before a run starts."""

from typing import TYPE_CHECKING

from fedprune.common.description import LONGEST_LABEL, Description, checked
from fedprune.common.errors import ConfigError
from fedprune.common.tasks.task import Task
from fedprune.common.text import printable

if TYPE_CHECKING:
    from fedprune.common.tasks.loaded import LoadedTask


def checked_description(found: object, task: Task, outputs: int) -> Description:
    """Return the description that a task's method returned.

    Labels are made printable, numbers floats.

    Args:
        found: The result.
        task: The task, for messages.
        outputs: Entries of the network's output; 0 = not known.

    Raises:
        ConfigError: If it is none, or has more labels than the network has outputs.
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
        return checked(labels, float(found.offset), float(found.scale), found.stored)
    except (TypeError, ValueError) as error:
        msg = f"{name}.describe: {error}"
        raise ConfigError(msg) from error


def declared_description(task: "LoadedTask") -> Description:
    """Return what a server knows: an own description, or the names of the classes.

    It sees no data of devices, so it does not know how they store theirs.
    """
    own = task.task
    if type(own).describe is not Task.describe:
        return task.describe()
    return checked_description(Description(labels=own.class_names), own, 0)
