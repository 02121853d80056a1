"""Labels of the clients' data, counted by a simulation, which has all of them."""

import numpy as np

from fedprune.client.rounds.measure import classes_of
from fedprune.common.data.examples import Examples
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.server.runs.events import LabelsCounted

_MOST_CLIENTS, _MOST_CLASSES = 256, 256


def count_labels(task: LoadedTask) -> LabelsCounted | None:
    """Count the examples of each class that the clients have.

    Returns:
        The event; None where noise hides clients, of more than 256 clients or classes,
        and where examples have not one class each.
    """
    count, private = task.num_outputs, task.config.privacy.hides_clients
    if private or len(task.clients) > _MOST_CLIENTS or not 0 < count <= _MOST_CLASSES:
        return None
    counts: dict[str, tuple[int, ...]] = {}
    for client in task.clients:
        data = task.client_data(client)
        parts = [_counted(part, count) for part in (data.train, data.validation)]
        if None in parts:
            return None
        whole = zip(*(part for part in parts if part is not None), strict=True)
        counts[client] = tuple(map(sum, whole))
    names = task.describe().labels
    known = names if len(names) == count else tuple(map(str, range(count)))
    return LabelsCounted(classes=known, counts=counts)


def _counted(examples: Examples, count: int) -> tuple[int, ...] | None:
    """Return the examples of each class; None where they have none, or another."""
    classes = classes_of(examples)
    if classes is None:
        return None
    if len(classes) and not 0 <= classes.min() <= classes.max() < count:
        return None
    return tuple(np.bincount(classes, minlength=count).tolist())
