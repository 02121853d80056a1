"""The front door: the public names of FedPrune, and the command line.

``import fedprune`` and ``fedprune --help`` are fast: every name is imported on first
use, and torch, Flower and Ray only by the modules that need them.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedprune.common.artifacts.load import describe_model, load_model
    from fedprune.common.config import Config, load_config
    from fedprune.common.data.examples import Batch
    from fedprune.common.description import Description
    from fedprune.common.errors import (
        ConfigError,
        DataError,
        FedPruneError,
        IntegrityError,
        PayloadError,
        RoundError,
        StaleUpdate,
        StructureError,
    )
    from fedprune.common.pruning.nearest import reach_of
    from fedprune.common.pruning.verify import check_exact
    from fedprune.common.structure.blocks import find_blocks
    from fedprune.common.structure.tracing.find import examine
    from fedprune.common.tasks.task import Task
    from fedprune.common.version import __version__
    from fedprune.simulations.runs.api import simulate

__all__ = [
    "Batch",
    "Config",
    "ConfigError",
    "DataError",
    "Description",
    "FedPruneError",
    "IntegrityError",
    "PayloadError",
    "RoundError",
    "StaleUpdate",
    "StructureError",
    "Task",
    "__version__",
    "check_exact",
    "describe_model",
    "examine",
    "find_blocks",
    "load_config",
    "load_model",
    "main",
    "reach_of",
    "simulate",
]

_PACKAGES = ("common", "client", "server", "simulations")
_HOME = Path(__file__).parent
_MODULES = {
    "Batch": "common.data.examples",
    "Description": "common.description",
    "Task": "common.tasks.task",
    "Config": "common.config",
    "load_config": "common.config",
    "describe_model": "common.artifacts.load",
    "load_model": "common.artifacts.load",
    "simulate": "simulations.runs.api",
    "examine": "common.structure.tracing.find",
    "find_blocks": "common.structure.blocks",
    "check_exact": "common.pruning.verify",
    "reach_of": "common.pruning.nearest",
    "__version__": "common.version",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use."""
    if name not in __all__:
        message = f"module 'fedprune' has no attribute '{name}'"
        raise AttributeError(message)
    if problem := _lost_links():
        raise ImportError(problem)
    module = import_module(f"fedprune.{_MODULES.get(name, 'common.errors')}")
    return getattr(module, name)


def __dir__() -> list[str]:
    """Return the public names, also of what is not imported yet."""
    return sorted(__all__)


def _lost_links() -> str:
    """Return one line about a checkout without its symbolic links, or "".

    The four packages are links in a checkout; some file systems and archives turn
    them into small text files.
    """
    lost = [name for name in _PACKAGES if not (_HOME / name / "__init__.py").is_file()]
    if not lost:
        return ""
    return (
        f"fedprune: {_HOME / lost[0]} is not a folder: this checkout has lost its "
        "symbolic links; clone it again with `git clone -c core.symlinks=true`, or "
        "install the wheel"
    )


def main() -> None:
    """Run the command line and end the process with its exit code."""
    if problem := _lost_links():
        sys.stderr.write(problem + "\n")
        sys.exit(2)
    cli = import_module("fedprune.simulations.cli")  # typer, which is not for users
    sys.exit(cli.run_command_line(sys.argv[1:]))
