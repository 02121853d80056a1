"""The record of a search, ``trials.json``: what was asked, each trial, the choice.

It is written after every step, so that a search that was stopped goes on from it.
"""

from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedprune.common.errors import ConfigError, IntegrityError
from fedprune.common.system.atomic import write_json_atomic
from fedprune.common.system.json_file import read_json
from fedprune.common.system.paths import check_folder

FORMAT: Final = "fedprune-tune/1"
TRIALS: Final = "trials.json"
MOST: Final = 10_000  # trials of one search

Status: TypeAlias = Literal["running", "done", "stopped", "failed"]
# A run folder lies in that of the search, and nowhere else.
FolderName: TypeAlias = Annotated[
    str, Field(pattern=r"^([A-Za-z0-9_-][A-Za-z0-9._-]{0,199})?$")
]
Finite: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    """Base of all parts: strict, frozen, without unknown keys."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class Figures(_Part):
    """The figures of a trial that has ended, against the dense reference.

    Attributes:
        accuracy: Headline metric on the clients' validation parts.
        drop: How much worse it is than the reference's, in points of 0.01.
        error: Standard error of ``drop``; None where too few clients measured both.
        clients: Clients that were compared.
        params: Share of the parameters; so are the next ones of their figures.
        flops: Of the FLOPs of one example.
        size: Of the bytes of the final network's tensors and statistics.
        latency: Of the latency by its table; None without one in the budget.
        bytes: Of the bytes up and down of the whole run.
    """

    accuracy: Finite
    drop: Finite
    error: Finite | None
    clients: int
    params: Finite
    flops: Finite
    size: Finite
    latency: Finite | None
    bytes: Finite

    @property
    def by_name(self) -> dict[str, float | None]:
        """The figures by the names that a target has."""
        return {
            "accuracy_drop": self.drop,
            "params": self.params,
            "flops": self.flops,
            "latency": self.latency,
            "size": self.size,
            "bytes": self.bytes,
        }


class Trial(_Part):
    """One trial.

    Attributes:
        number: From 1.
        point: The values that were tried, by key.
        status: "stopped" = clearly worse than others; "failed" = ended by an error.
        reason: Why it was stopped or failed, one line.
        run: Name of its run folder; "" = it has none.
        rungs: Round and mean validation metric of each comparison on its way.
        figures: Of one that is done.
    """

    number: Annotated[int, Field(ge=1, le=MOST)]
    point: dict[str, str | Finite]
    status: Status = "running"
    reason: str = ""
    run: FolderName = ""
    rungs: tuple[tuple[int, Finite], ...] = ()
    figures: Figures | None = None


class Reference(_Part):
    """The dense run that all trials are compared with.

    Attributes:
        run: Name of its run folder; "" = it has none yet.
        finished: Whether it has ended.
        accuracy: Its headline metric on the clients' validation parts; None before.
    """

    run: FolderName = ""
    finished: bool = False
    accuracy: Finite | None = None


class Record(_Part):
    """A search.

    Attributes:
        format: Version of this file.
        search: Name of the search, that of its folder when it was made.
        target: As ``--target``.
        config_digest: Digest of the configuration that trials change.
        trials_wanted: Number of its trials.
        reference: The dense run.
        trials: The trials so far, in order.
        pareto: Numbers of the trials that no other one beats in size, accuracy and
            bytes at once, smallest first.
        recommended: Number of the recommended trial; None without one that is done.
        meets_target: Whether that trial meets the target.
        advice: What to do, in sentences.
    """

    format: Literal["fedprune-tune/1"] = FORMAT
    search: FolderName
    target: str
    config_digest: str = ""
    trials_wanted: Annotated[int, Field(ge=1, le=MOST)]
    reference: Reference = Reference()
    trials: tuple[Trial, ...] = ()
    pareto: tuple[int, ...] = ()
    recommended: int | None = None
    meets_target: bool = False
    advice: str = ""

    @property
    def ended(self) -> tuple[Trial, ...]:
        """The trials that nothing is left to do of."""
        return tuple(trial for trial in self.trials if trial.status != "running")

    def with_trial(self, trial: Trial) -> "Record":
        """Return the record with a trial, in place of the one of its number."""
        others = [one for one in self.trials if one.number != trial.number]
        return self.model_copy(update={"trials": (*others, trial)})


def write_record(folder: Path, record: Record) -> None:
    """Write the record of a search into its folder."""
    write_json_atomic(folder / TRIALS, record.model_dump(mode="json"))


def read_record(folder: Path) -> Record:
    """Return the record in the folder of a search.

    Raises:
        ConfigError: If it is not the folder of a search.
        IntegrityError: If its record is damaged, or of another version.
    """
    path = folder / TRIALS
    if not path.is_file():
        check_folder(folder, "the folder of a search")
        msg = f"{folder} is not the folder of a search: it has no {TRIALS}"
        raise ConfigError(msg)
    value = read_json(path)
    try:
        return Record.model_validate(_as_tuples(value))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        msg = (
            f"{path}: {place}: {first['msg']}; put the file back, or start a new search"
        )
        raise IntegrityError(msg) from error


def _as_tuples(value: object) -> object:
    """Return JSON values with its lists as tuples, which strict fields want."""
    if isinstance(value, list):
        return tuple(map(_as_tuples, value))
    if isinstance(value, dict):
        return {key: _as_tuples(item) for key, item in value.items()}
    return value
