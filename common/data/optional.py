"""Optional packages of data sources; an edge install does not have them."""

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from fedprune.common.errors import ConfigError
from fedprune.common.text import not_installed


def optional_module(name: str, package: str, extra: str = "simulation") -> Any:  # noqa: ANN401 - a module
    """Import an optional module.

    Args:
        name: The module, for example ``"pyarrow.parquet"``.
        package: Its name for pip.
        extra: The extra of this package that brings it.

    Raises:
        ConfigError: If it is not installed; the message says how to install it.
    """
    try:
        module: ModuleType = import_module(name)
    except ImportError as error:
        raise ConfigError(_missing(package, extra)) from error
    return module


def check_optional(name: str, package: str, extra: str = "simulation") -> None:
    """Check that an optional package is installed, without importing it.

    Args:
        name: Its top-level module.
        package: Its name for pip.
        extra: The extra of this package that brings it.

    Raises:
        ConfigError: If it is not installed; the message says how to install it.
    """
    if find_spec(name) is None:
        raise ConfigError(_missing(package, extra))


def _missing(package: str, extra: str) -> str:
    return not_installed("this data source", package, extra)
