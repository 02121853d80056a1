"""The front door: the public names of FedPrune, and the command line.

``import fedprune`` and ``fedprune --help`` are light: torch, Flower and Ray are
imported by what needs them.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

_PACKAGES = ("common", "client", "server", "simulations")


def _shadowed(home: Path) -> str:
    """Return one line about a package that another project shadows, or nothing.

    The four packages have generic names, so whatever comes earlier on ``sys.path``
    may answer in their place.
    """
    for name in _PACKAGES:
        spec = find_spec(name)
        found = Path(spec.origin).parent if spec and spec.origin else None
        if found is None or found.resolve() != home / name:
            return (
                f'fedprune: the package "{name}" comes from {found or "nowhere"}, want '
                f"{home / name}; install FedPrune in an environment of its own"
            )
    return ""


_problem = _shadowed(Path(__file__).resolve().parent)
if _problem and (__name__ == "__main__" or Path(sys.argv[0]).stem == "fedprune"):
    sys.stderr.write(_problem + "\n")
    sys.exit(2)
if _problem:
    raise ImportError(_problem)

# Only now is it sure that these are ours.
from common.config import Config, load_config  # noqa: E402
from common.errors import (  # noqa: E402
    ConfigError,
    DataError,
    FedPruneError,
    IntegrityError,
    PayloadError,
    RoundError,
    StaleUpdate,
    StructureError,
)
from common.version import VERSION  # noqa: E402

if TYPE_CHECKING:
    from common.load import load_model
    from simulations.api import simulate

__version__ = VERSION

__all__ = [
    "Config",
    "ConfigError",
    "DataError",
    "FedPruneError",
    "IntegrityError",
    "PayloadError",
    "RoundError",
    "StaleUpdate",
    "StructureError",
    "__version__",
    "load_config",
    "load_model",
    "main",
    "simulate",
]


def __getattr__(name: str) -> object:
    """Import what needs torch or Ray when it is first asked for."""
    if name == "simulate":
        from simulations import api  # noqa: PLC0415 - imports torch

        return api.simulate
    if name == "load_model":
        from common import load  # noqa: PLC0415 - imports torch

        return load.load_model
    message = f"module 'fedprune' has no attribute '{name}'"
    raise AttributeError(message)


def __dir__() -> list[str]:
    """Name what is public, also what is not imported yet."""
    return sorted(__all__)


def main() -> None:
    """Run the command line and end the process with its exit code."""
    from simulations.cli import run_command_line  # noqa: PLC0415 - typer, not for users

    sys.exit(run_command_line(sys.argv[1:], version=__version__))


if __name__ == "__main__":
    main()
