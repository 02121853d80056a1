"""Checks that a stopped run is resumed with its own configuration, data, network."""

from fedprune.common.config import Config, config_digest
from fedprune.common.errors import ConfigError, IntegrityError
from fedprune.common.structure.structure import Structure
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.common.tasks.own import python_task
from fedprune.common.user_code import PYTHON
from fedprune.server.runs import finished
from fedprune.server.runs.folder import RunFolder
from fedprune.server.runs.start import refuse_changes
from fedprune.simulations.runs.manifest import identity

_WHAT = {
    "data_fingerprint": "the data (inputs, labels or their order)",
    "graph": "the network (its operations, settings or shapes)",
    "task_code": "the code of the task (task.use)",
    "weights_sha256": "the file of task.weights",
}


def finished_summary(folder: RunFolder) -> dict[str, object] | None:
    """Return the figures of a simulation that has ended; None of one that has not."""
    summary = finished.finished_summary(folder)
    return summary if folder.report.is_file() else None


def check_config(
    folder: RunFolder, config: Config, *, factory: bool, task: bool = False
) -> None:
    """Refuse a configuration that is not the one that the run started with.

    Raises:
        IntegrityError: With the keys that differ, where the events have them; or if
            the digest that it started with is missing.
        ConfigError: If the network was made by Python code that is not passed now.
    """
    if config.task.model == PYTHON and not factory:
        msg = f"Python code made the network of {folder.path}; name the function: --use"
        msg += " FILE.py:NAME (in Python simulate(make_network, resume_from=...))"
        raise ConfigError(msg)
    if config.task.use == PYTHON and not task:
        raise ConfigError(
            python_task(folder.path, "simulate(MyTask(), resume_from=...)")
        )
    manifest = folder.read_manifest()
    folder.check_noted(manifest, ("config_digest",), folder.manifest)
    if manifest["config_digest"] == config_digest(config):
        return
    refuse_changes(folder, config)
    msg = f"{folder.config} was changed since the run started, in keys that are not "
    msg += "known any more; put it back, or start a new run with it"
    raise IntegrityError(msg)


def check_same(
    folder: RunFolder, task: LoadedTask, structure: Structure, graph: str
) -> None:
    """Refuse to resume with other data or another network than at the start.

    Raises:
        IntegrityError: With the inputs that differ or are missing.
    """
    manifest = folder.read_manifest()
    folder.check_noted(manifest, _WHAT, folder.manifest)
    now = identity(task, graph)
    changed = [what for key, what in _WHAT.items() if manifest[key] != now[key]]
    same = folder.structure.read_bytes() == structure.to_json()
    if not same and _WHAT["graph"] not in changed:
        changed.append(f"the file {folder.structure.name} (damaged or edited)")
    if changed:
        msg = f"{folder.path} cannot continue: {' and '.join(changed)} changed since it"
        msg += " started; put back what it was, or start a new run"
        raise IntegrityError(msg)
