"""``fedprune.simulate``: a federation from Python, with the caller's own objects."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import nn

from common.config import Config, load_config, toml_value
from common.errors import ConfigError
from common.messages import digest_of
from simulations.progress import Progress
from simulations.run import RunResult, resume, run

Data = tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike]
_NAMES = ("x_train", "y_train", "x_test", "y_test")


def simulate(  # noqa: PLR0913 - the front door, by keyword
    model: Callable[[], nn.Module] | None = None,
    data: Data | None = None,
    config: Config | Path | str | Mapping[str, object] | None = None,
    *,
    resume_from: Path | None = None,
    ray_address: str = "",
    progress: Progress | None = None,
    trust_code: bool = False,
) -> RunResult:
    """Run a federation: train, prune and fine-tune over simulated clients.

    Args:
        model: Returns the uncut network, without arguments; None = ``task.model``.
        data: ``(x_train, y_train, x_test, y_test)``: inputs [n, ...] as float or
            uint8, integer classes or float targets [n]; None = ``task.data``.
        config: A configuration, the path of a TOML file, or settings such as
            ``{"task.clients": 4, "run.engine": "inprocess"}``; None = the defaults.
        resume_from: Folder of a stopped run to go on with; ``data`` and ``config``
            are the run's own then.
        ray_address: An existing Ray cluster, or "" for a local one.
        progress: Has a method ``on_event`` that is told every event.
        trust_code: With ``resume_from``: run the code that the folder names even if no
            command of this user started the run here.

    Returns:
        Folder and figures of the run.

    Raises:
        ConfigError: If configuration, model and data do not fit together.
        FedPruneError: If the run fails; its folder can be resumed.
    """
    if resume_from is not None:
        return resume(
            resume_from,
            ray_address=ray_address,
            progress=progress,
            factory=model,
            trust_code=trust_code,
        )
    chosen = _config(config)
    changes: dict[str, Any] = {}
    if data is not None:
        changes["data"] = f"npz:{_store(data, Path(chosen.run.dir))}"
    if model is not None:
        changes["model"] = "python"
    if changes:
        task = chosen.task.model_copy(update=changes)
        chosen = chosen.model_copy(update={"task": task})
    return run(chosen, ray_address=ray_address, progress=progress, factory=model)


def _config(config: Config | Path | str | Mapping[str, object] | None) -> Config:
    if isinstance(config, Config):
        return config
    if isinstance(config, Mapping):
        return load_config(None, [f"{k}={toml_value(v)}" for k, v in config.items()])
    return load_config(None if config is None else Path(config))


def _store(data: Sequence[ArrayLike], folder: Path) -> Path:
    """Write the arrays beside the runs, so that workers and a resume find them."""
    if len(data) != len(_NAMES):
        msg = f"data holds {len(data)} arrays; want {', '.join(_NAMES)}"
        raise ConfigError(msg)
    arrays = {name: np.asarray(array) for name, array in zip(_NAMES, data, strict=True)}
    parts = [a.tobytes() + str((a.shape, a.dtype)).encode() for a in arrays.values()]
    path = folder.resolve() / f"data-{digest_of(*parts).hex()}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(path, **arrays)  # type: ignore[arg-type]
    return path
