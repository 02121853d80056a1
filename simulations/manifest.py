"""What a run was made of: versions, machine, data."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from common.config import config_digest
from common.task import Task

_PACKAGES = ("fedprune", "torch", "numpy", "flwr", "ray", "msgpack", "safetensors")


def describe_run(task: Task, command: Sequence[str]) -> dict[str, object]:
    """Return versions, command, seeds and the fingerprint of the data."""
    return {
        "command": list(command),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "config_digest": config_digest(task.config),
        "seed": task.config.run.seed,
        "data": task.dataset.name,
        "data_fingerprint": task.dataset.fingerprint(),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
