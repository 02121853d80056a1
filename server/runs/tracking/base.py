"""The interface of a tracker, and what it is told of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol, TypeAlias

from fedprune.server.runs.events import RunName

Scalar: TypeAlias = str | int | float | bool
Rounds: TypeAlias = Mapping[RunName, int]


class Ended(StrEnum):
    """The end of a run, for its tracker."""

    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRun:
    """A run, as its trackers see it; nothing here names a client.

    Attributes:
        run_id: Its name.
        folder: Its folder.
        place: The folder for files of this tracker, inside the run's; it exists.
        config: Its configuration, key -> value, such as "task.clients" -> 10; folders
            of this machine are left out, and paths are cut down to the file's name.
        token: What the tracker returned when the run was first started; "" then.
        rounds: Federation -> its last round that the tracker already has.
    """

    run_id: str
    folder: Path
    place: Path
    config: Mapping[str, Scalar]
    token: str
    rounds: Rounds


class Tracker(Protocol):
    """One tracker of one run; all calls come from one thread, in the order below.

    Any error that it raises ends the tracker, and not the run.
    """

    def start(self, run: TrackedRun) -> str:
        """Begin, or go on with the tracker's run that ``run.token`` names.

        Returns:
            The name by which a resumed run finds it again.
        """

    def log_round(self, run: RunName, round_: int, values: Mapping[str, float]) -> None:
        """Write the figures of a round, through to where they survive this process.

        Args:
            run: The federation, or one of its controls.
            round_: Number of the round, from 1; each comes once, rising.
            values: Finite figures, name -> value.
        """

    def log_result(self, values: Mapping[str, float]) -> None:
        """Write the figures that the run has ended with."""

    def sends(self) -> bool:
        """Return whether what it is given may leave this machine."""

    def log_file(self, path: Path) -> None:
        """Keep a file of the run's folder."""

    def end(self, ended: Ended) -> None:
        """Finish; nothing follows."""
