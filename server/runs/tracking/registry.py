"""The trackers of this version: name -> its package and its code."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from fedprune.common.config import TrackerName
from fedprune.common.errors import ConfigError
from fedprune.common.text import not_installed
from fedprune.server.runs.tracking.base import Tracker


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of tracker.

    Attributes:
        modules: Top-level modules that it needs; the extra of its name brings them.
        code: Module of this package with ``open_tracker()``, and maybe ``refusal()``,
            one line about what is wrong on this machine, "" if nothing is.
    """

    modules: tuple[str, ...]
    code: str


TRACKERS: Final[Mapping[TrackerName, Kind]] = {
    "tensorboard": Kind(modules=("tensorboard",), code="to_tensorboard"),
    "mlflow": Kind(modules=("mlflow", "sqlalchemy", "alembic"), code="to_mlflow"),
    "wandb": Kind(modules=("wandb",), code="to_wandb"),
}


def check_trackers(names: Iterable[TrackerName]) -> None:
    """Refuse a tracker that cannot follow a run on this machine, before it starts.

    No package of a tracker is imported.

    Raises:
        ConfigError: In one line, with the command that mends it.
    """
    for name in names:
        missing = [m for m in TRACKERS[name].modules if find_spec(m) is None]
        if missing:
            raise ConfigError(not_installed(f"run.track: {name}", missing[0], name))
        refusal = _code(name).refusal()
        if refusal:
            msg = f"run.track: {refusal}"
            raise ConfigError(msg)


def open_tracker(name: TrackerName) -> Tracker:
    """Return a tracker; its package is imported when it is started."""
    tracker: Tracker = _code(name).open_tracker()
    return tracker


def _code(name: TrackerName) -> Any:  # noqa: ANN401 - a module
    return import_module(f"{__package__}.{TRACKERS[name].code}")
