"""The configuration of a Flower app: a TOML file, and single keys over it.

Flower hands both halves of the app one table of texts and numbers (``run_config``),
whose keys stand under ``[tool.flwr.app.config]`` in pyproject.toml.
"""

from collections.abc import Mapping
from pathlib import Path

from common.config import Config, load_config

APP_FOLDER = Path(__file__).resolve().parents[1]


def read_app_config(table: Mapping[str, object]) -> Config:
    """Return the configuration that a run of the app was started with.

    Args:
        table: ``config`` is the path of a TOML file, a relative one inside the app's
            folder; empty = the defaults.  ``set`` holds ``key=value`` texts between
            semicolons, which replace single keys.

    Raises:
        ConfigError: If file or keys are wrong.
    """
    path = str(table.get("config") or "")
    settings = str(table.get("set") or "")
    overrides = [part.strip() for part in settings.split(";") if part.strip()]
    return load_config(APP_FOLDER / path if path else None, overrides)
