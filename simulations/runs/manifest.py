"""Manifest of a run: versions, machine, seeds, digests of data and network."""

import hashlib
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fedprune.common.config import config_digest
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.common.tasks.own import code_digest

_PACKAGES = ("fedprune", "torch", "numpy", "flwr", "ray", "msgpack", "safetensors")


def describe_run(
    task: LoadedTask, graph: str, command: Sequence[str]
) -> dict[str, object]:
    """Return versions, command, seeds, and the digests of data and network."""
    return {
        "command": list(command),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "config_digest": config_digest(task.config),
        "seed": task.config.run.seed,
        "data": task.name,
        **identity(task, graph),
    }


def identity(task: LoadedTask, graph: str) -> dict[str, object]:
    """Return the digests that a resume compares with those of the start.

    Args:
        task: The task.
        graph: Digest of its network (``fedprune.common.structure.tracing.graph``).
    """
    weights = task.config.task.weights
    return {
        "data_fingerprint": task.fingerprint(),
        "graph": graph,
        "task_code": code_digest(task.task),
        "weights_sha256": _sha256(Path(weights).expanduser()) if weights else "",
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
