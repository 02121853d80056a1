"""Data of a run on Ray: by reference, mapped by every process of this machine.

A message to a worker names the run's folder and no example.  A worker of another
machine, which does not see the folder, loads ``task.data`` for itself.
"""

import shutil
from dataclasses import replace
from pathlib import Path

from fedprune.common.data.examples import ArrayExamples
from fedprune.common.data.pages import forget_all_pages
from fedprune.common.data.shared import is_mapped, write_shared
from fedprune.common.tasks.loaded import LoadedTask

_FOLDER = ".data"


def share_data(task: LoadedTask, root: Path, engine: str) -> LoadedTask:
    """Return a task whose data lie in files; a task with data of its own stays.

    What the task has loaded is dropped, wherever it is used: the new one maps the
    files, as the workers do.  Of files that are mapped already the driver, which has
    checked them and trains on none, gives the pages back.

    Args:
        task: The task of the run.
        root: Folder of the clients' states.
        engine: As ``run.engine``; only Ray has other processes.
    """
    if engine != "ray" or task.task.has_own_data:
        return task
    if is_mapped(task.dataset):
        if isinstance(task.dataset.train, ArrayExamples):
            forget_all_pages(task.dataset.train.inputs)
        return task
    folder = (root / _FOLDER).resolve()
    write_shared(task.dataset, folder)
    task.unload()
    return replace(task, shared_data=folder)


def remove_shared(root: Path) -> None:
    """Remove the files of a run that has ended."""
    shutil.rmtree(root / _FOLDER, ignore_errors=True)
