"""The folder of a search.

::

    runs/<time>-tune-<id>/
        base.toml           the configuration that trials change
        trials.json         the record: target, trials, Pareto set, choice
        recommended.toml    the whole configuration of the recommended trial
        tune.html           trials as points and as a table
        latency.json        a latency table, where the target has a latency
        <run folders>       the dense reference and the trials
"""

import secrets
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Final

from fedprune.common.config import (
    Config,
    config_digest,
    config_to_toml,
    load_config,
)
from fedprune.common.errors import ConfigError, IntegrityError
from fedprune.common.system.atomic import write_bytes_atomic
from fedprune.common.system.paths import why_no_folder
from fedprune.common.trust import check_code, named_code, record_code
from fedprune.simulations.tuning.record import (
    TRIALS,
    Figures,
    Record,
    Trial,
    read_record,
    write_record,
)
from fedprune.simulations.tuning.space import Space
from fedprune.simulations.tuning.target import Target, parse_target

BASE: Final = "base.toml"
RECOMMENDED: Final = "recommended.toml"
LATENCY: Final = "latency.json"


def check_base(config: Config) -> None:
    """Refuse a configuration that cannot be searched.

    Raises:
        ConfigError: With the key.
    """
    msg = ""
    if config.rounds.cuts == 0:
        msg = "rounds.cuts is 0; want >= 1: a search tries cuts"
    elif config.client.validation == 0.0:
        msg = "client.validation is 0; want > 0: a search goes by the validation parts"
    elif config.privacy.hides_clients:
        msg = "privacy.epsilon or local_noise is set; want none: each trial would spend"
        msg += " it again"
    if msg:
        raise ConfigError(msg)


def new_folder(
    config: Config, target: Target, trials: int, output: Path | None
) -> tuple[Path, Record]:
    """Make the folder of a new search.

    Args:
        config: What the trials change.
        target: What is wanted.
        trials: Their number.
        output: The folder, which must not hold anything; None = one in ``run.dir``.

    Raises:
        ConfigError: If the folder cannot be made, or is in use.
    """
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S")
    name = f"{stamp}-tune-{secrets.token_hex(2)}"
    folder = output if output is not None else Path(config.run.dir) / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        used = any(folder.iterdir())
    except OSError as error:
        msg = f"cannot make the folder {folder}: {why_no_folder(folder, error)}"
        raise ConfigError(msg) from error
    if used:
        resumed = quote(str(folder))
        msg = f"{folder} is not empty; want a new folder, or --resume {resumed}"
        raise ConfigError(msg)
    config = _with_table(config, target, folder)
    record = Record(
        search=name,
        target=str(target),
        config_digest=config_digest(config),
        trials_wanted=trials,
    )
    write_bytes_atomic(folder / BASE, config_to_toml(config).encode())
    record_code(name, named_code(config))
    write_record(folder, record)
    return folder, record


def open_folder(folder: Path, trials: int | None, *, trust_code: bool) -> Record:
    """Return the record of a search that was stopped, its code checked.

    Args:
        folder: Its folder, from any source.
        trials: Another number of trials; None = as it was.
        trust_code: Run the code that it names even if no command here started it.

    Raises:
        ConfigError: If it is no search, or names untrusted code.
        IntegrityError: If its record is damaged, its configuration was changed, or a
            trial has settings that no trial of it can have.
    """
    record = read_record(folder)
    config = load_config(folder / BASE)
    if config_digest(config) != record.config_digest:
        msg = f"{folder / BASE} was changed since the search started, and its trials "
        msg += "would not compare; put it back, or start a new search"
        raise IntegrityError(msg)
    _check_points(folder, config, record)
    check_code(folder, record.search, named_code(config), trust_code=trust_code)
    if trials is None:
        return record
    if trials < len(record.ended):
        msg = f"--trials {trials}: {folder} has {len(record.ended)} already"
        raise ConfigError(msg)
    return record.model_copy(update={"trials_wanted": trials})


def _check_points(folder: Path, config: Config, record: Record) -> None:
    """Refuse trials outside the space: their keys could name code, files and folders.

    Raises:
        IntegrityError: With the number of the first one.
    """
    space = Space(base=config, target=parse_target(record.target))
    wrong = next((one for one in record.trials if not space.holds(one.point)), None)
    if wrong is not None:
        msg = f"{folder / TRIALS}: the settings of trial {wrong.number} are none of "
        msg += "this search; put the file back, or start a new search"
        raise IntegrityError(msg)


def write_recommended(folder: Path, space: Space, record: Record) -> None:
    """Write the configuration of the recommended trial, if there is one.

    Its run has the settings of the trial, and folder, name, controls and evaluation of
    the user's own file.
    """
    trial = next((t for t in record.trials if t.number == record.recommended), None)
    if trial is None or trial.figures is None:
        return
    config = load_config(folder / BASE, space.settings(trial.point))
    head = _head(record, trial, trial.figures)
    text = f"{head}\n{config_to_toml(config)}"
    write_bytes_atomic(folder / RECOMMENDED, text.encode())


def _head(record: Record, trial: Trial, figures: Figures) -> str:
    """Return the comment at the top: where the settings come from, what they reach."""
    met = "is met" if record.meets_target else "is NOT met"
    error = "unknown" if figures.error is None else f"{figures.error:.2f}"
    lines = [
        f"Recommended by fedprune tune: trial {trial.number} of {len(record.trials)}.",
        f"Target {record.target}: {met} on the clients' validation parts.",
        f"accuracy_drop {figures.drop:.2f} points (standard error {error}),",
        f"params {figures.params:.3g}, flops {figures.flops:.3g},",
        f"size {figures.size:.3g}, bytes {figures.bytes:.3g} of the dense network.",
    ]
    return "".join(f"# {line}\n" for line in lines)


def _with_table(config: Config, target: Target, folder: Path) -> Config:
    """Return the configuration with a latency table, measured here if needed."""
    if "latency" not in target.bounds or config.prune.latency_table:
        return config
    from fedprune.simulations.export.latency_table import (  # noqa: PLC0415 - torch
        profile_task,
    )

    path = folder.resolve() / LATENCY
    profile_task(config, path, "torch")
    prune = config.prune.model_copy(update={"latency_table": str(path)})
    return config.model_copy(update={"prune": prune})
