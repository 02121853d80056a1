"""Names of the classes that a device and the server of a run have agreed on.

The server tells its names before it admits a device.  They are written to the device's
state folder, with the run: a process that is started again in a run knows them too.
"""

import json
from pathlib import Path

from fedprune.client.device.node import LABELS
from fedprune.client.rounds.model_cache import ModelCache
from fedprune.common.errors import DataError
from fedprune.common.flower.payload import read_labels
from fedprune.common.parsing import parse_json
from fedprune.common.system.atomic import write_bytes_atomic
from fedprune.common.tasks.labels import describe_labels

_RUN = "run"
_NAMES = "labels"


def agree(root: Path, run: int, cache: ModelCache, names: tuple[str, ...]) -> str:
    """Take over the server's names of classes, and note them.

    Args:
        root: Folder of the device's state.
        run: Flower's number of the run.
        cache: Cache of the device; its data get the server's numbers.
        names: The server's names; () = it names none.

    Returns:
        A line about the numbers of the classes, or "".

    Raises:
        DataError: If the device has a class that the server does not have.
    """
    cache.agree(names)
    task = cache.task
    own = tuple(task.config.task.labels)
    if task.task.has_own_data:
        if own and names and own != names:
            msg = f"task.labels of this device is {list(own)}; the server's classes are"
            msg += f" {list(names)}: {task.name} is not renumbered, want the same"
            raise DataError(msg)
    else:
        # Both are loaded here: what does not fit is refused before any round.
        own, _ = task.task.own_source.label_names, task.dataset
    root.mkdir(parents=True, exist_ok=True)
    noted = json.dumps({_RUN: run, _NAMES: names}).encode()
    write_bytes_atomic(root / LABELS, noted)
    return describe_labels(own, names)


def follow(root: Path, run: int, cache: ModelCache) -> None:
    """Use the names that were agreed on for a run.

    Raises:
        DataError: If the device names its classes and has not been told those of this
            run: their numbers would have no meaning.
    """
    names = _noted(root / LABELS, run)
    if names is not None:
        cache.agree(names)
        return
    if not cache.task.task.has_own_data and cache.task.dataset.label_names:
        msg = f"{root / LABELS} has no class names of this run, which the server sends "
        msg += "when a client enrols; resume the run, so that it enrols again"
        raise DataError(msg)


def _noted(path: Path, run: int) -> tuple[str, ...] | None:
    """Return the names that were noted for a run, or None."""
    try:
        found = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or found.get(_RUN) != run:
        return None
    return read_labels(found)
