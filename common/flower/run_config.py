"""The configuration of a Flower app: a TOML file, and overrides of single keys.

Flower passes both halves of the app one table of texts and numbers (``run_config``),
whose keys are listed under ``[tool.flwr.app.config]`` in pyproject.toml.
"""

from collections.abc import Mapping
from pathlib import Path

from fedprune.common.config import Config, load_config
from fedprune.common.errors import ConfigError
from fedprune.common.trust import named_code
from fedprune.common.version import __version__

APP_FOLDER = Path(__file__).resolve().parents[2]


def read_app_config(table: Mapping[str, object]) -> Config:
    """Return the configuration of a run of the app.

    Args:
        table: ``config`` is the path of a TOML file, a relative one inside the app's
            folder; empty = the defaults.  ``set`` has ``key=value`` texts between
            semicolons, which replace single keys.  ``version`` is that of the FedPrune
            that the app was made with.

    The table comes from the user who starts the run, maybe remotely, so only the TOML
    files of the app's own folder may name code.

    Raises:
        ConfigError: If version, file or keys are wrong, or would run code or fetch
            something that the app's own file does not name.
    """
    _check_version(str(table.get("version", __version__)))
    path = str(table.get("config") or "")
    settings = str(table.get("set") or "")
    overrides = [part.strip() for part in settings.split(";") if part.strip()]
    file = APP_FOLDER / path if path else None
    config = load_config(file, overrides)
    own = file if file is not None and _is_own(file.resolve()) else None
    refuse_code(config, own, "the run configuration of a Flower app")
    return config


def _check_version(found: str) -> None:
    """Refuse a run of another version: the app has names and no code."""
    if found != __version__:
        msg = (
            f"the run is one of fedprune {found}; this machine has {__version__}; "
            "install the same version on every machine"
        )
        raise ConfigError(msg)


def _is_own(file: Path) -> bool:
    """Return whether a file belongs to the app, and not to a run folder in it."""
    inside = [folder for folder in file.parents if folder.is_relative_to(APP_FOLDER)]
    return bool(inside) and not any((f / "manifest.json").exists() for f in inside)


def refuse_code(config: Config, own: Path | None, where: str) -> None:
    """Refuse keys that would run code or fetch something.

    Args:
        config: The whole configuration.
        own: The machine's own file; code that it names is allowed.
        where: The other source of keys, for the message.

    Raises:
        ConfigError: If ``config`` names anything else.
    """
    named = named_code(config)
    allowed = named_code(load_config(own)) if named and own is not None else {}
    for key, reference in named.items():
        if allowed.get(key) != reference:
            msg = (
                f"{where} cannot set {key} to '{reference}', which runs code or "
                "fetches a network here; want it in a TOML file of this machine"
            )
            raise ConfigError(msg)
