"""``fedprune.simulate``: a federation from Python, with the caller's own objects."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from numpy.typing import ArrayLike

from fedprune.common.config import Config, load_config
from fedprune.common.errors import ConfigError
from fedprune.common.models.factory import Factory, as_factory
from fedprune.common.system.paths import as_path
from fedprune.common.tasks.task import Task
from fedprune.common.user_code import PYTHON, is_loading
from fedprune.simulations.engines.ray_address import reachable
from fedprune.simulations.runs.handed_data import stored
from fedprune.simulations.runs.notebook.result import RunResult
from fedprune.simulations.runs.progress import Progress, usual_display
from fedprune.simulations.runs.run import resume, run

Data: TypeAlias = tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike]
Settings: TypeAlias = Config | Path | str | Mapping[str, object]


# Quoted types: help() then shows their names and not what is inside them.
def simulate(  # noqa: PLR0913 - the front door, by keyword
    model: "Task | Factory | None" = None,
    data: "Data | Settings | None" = None,
    config: "Settings | None" = None,
    *,
    resume_from: Path | str | None = None,
    ray_address: str = "",
    progress: "Progress | bool | None" = True,
    trust_code: bool = False,
) -> RunResult:
    """Run a federation: train, prune and fine-tune over simulated clients.

    ``simulate(MyTask(), config)``, or ``simulate(make_network, data, config)``.

    Args:
        model: A task of your own; or a function that returns the uncut network, without
            arguments; None = ``task.model``.
        data: ``(x_train, y_train, x_test, y_test)``: inputs [n, ...] as float or
            uint8, integer classes or float targets [n]; None = ``task.data``.
        config: A configuration, the path of a TOML file, or settings such as
            ``{"task.clients": 4, "prune": {"budget": {"params": 0.4}}}``; None = the
            defaults.
        resume_from: Folder of a stopped run to resume; its data and configuration
            are the run's own, so ``data`` and ``config`` are left out.
        ray_address: An existing Ray cluster, ``HOST:PORT``, or "" for a local one.
        progress: True = a bar in a terminal, else one line a round; False = nothing; or
            an object with a method ``on_event`` that receives every event.
        trust_code: With ``resume_from``: run the code that the folder names even if no
            command of this user started the run here.

    Returns:
        Folder and figures of the run.

    Raises:
        ConfigError: If configuration, model and data do not fit together.
        DataError: If the data is not usable.
        FedPruneError: If the run fails; its folder can be resumed.
    """
    if is_loading():
        message = "fedprune.simulate is called while this file is loaded for its code; "
        message += "want the call under: if __name__ == '__main__':"
        raise ConfigError(message)
    given = model if isinstance(model, Task) else None
    if given is not None and config is None and _is_settings(data):
        data, config = None, data  # simulate(MyTask(), config)
    factory = None if given is not None else as_factory(model, "model")
    address = reachable(ray_address)
    with _display(progress) as display:
        start = partial(
            run, ray_address=address, progress=display, factory=factory, given=given
        )
        if resume_from is None:
            return _new_run(start, _config(config), data, factory, given)
        if data is not None or config is not None:
            message = (
                "resume_from uses the run's own data and configuration; want "
                "no data and no config beside it"
            )
            raise ConfigError(message)
        return resume(
            as_path(resume_from, "a run folder"),
            ray_address=address,
            progress=display,
            factory=factory,
            given=given,
            trust_code=trust_code,
        )


def _new_run(
    start: Callable[[Config], RunResult],
    config: Config,
    data: object,
    factory: Factory | None,
    given: Task | None,
) -> RunResult:
    """Run with what the caller hands over, which the configuration must not set too."""
    _check_once(
        config,
        model=factory is not None,
        data=data is not None,
        use=given is not None,
    )
    if given is not None:
        if data is not None and given.has_own_data:
            message = f"data: found data beside {type(given).__name__}, which has "
            message += "training data of its own; want one of the two"
            raise ConfigError(message)
        config = _with_task(config, use=PYTHON)
    if factory is not None:
        config = _with_task(config, model=PYTHON)
    if data is None:
        return start(config)
    with stored(data, Path(config.run.dir)) as path:
        return start(_with_task(config, data=f"npz:{path}"))


@contextmanager
def _display(progress: object) -> Iterator[Progress | None]:
    """Yield the listener of a run; a display of our own is closed in the end.

    Raises:
        ConfigError: If it is no listener.
    """
    if progress is True:
        with usual_display() as display:
            yield display
        return
    if progress is None or progress is False:
        yield None
        return
    if not callable(getattr(progress, "on_event", None)):
        message = f"progress: found {type(progress).__name__}, want True, False or an "
        message += "object with a method on_event"
        raise ConfigError(message)
    listener: Any = progress
    yield listener


def _is_settings(given: object) -> bool:
    return isinstance(given, Config | Path | str | Mapping)


def _config(config: object) -> Config:
    if config is None or isinstance(config, Config):
        return config or load_config()
    if isinstance(config, Mapping):
        return load_config(None, config)
    return load_config(
        as_path(config, "a configuration (or a Config, or a mapping of settings)")
    )


def _check_once(config: Config, **handed: bool) -> None:
    """Refuse a network or data that is handed over and set too: one would be ignored.

    Raises:
        ConfigError: With the key.
    """
    for key, given in handed.items():
        found = getattr(config.task, key)
        # A file with every key sets task.use to "", which names no task.
        named = key in config.task.model_fields_set and found not in ("", PYTHON)
        if given and named:
            what = "a task" if key == "use" else key
            message = f"{what} is handed over and task.{key} is '{found}'; want one of"
            message += " the two"
            raise ConfigError(message)


def _with_task(config: Config, **changes: Any) -> Config:  # noqa: ANN401 - of any key
    task = config.task.model_copy(update=changes)
    return config.model_copy(update={"task": task})
