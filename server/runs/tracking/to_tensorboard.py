"""TensorBoard: event files in the run's folder, one subfolder a federation.

The same figure of the run and of its controls is in one chart.  A resumed run begins a
new file that takes back (``purge_step``) what an earlier one has of later rounds.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typing_extensions import override

from fedprune.server.runs.events import MAIN, RunName
from fedprune.server.runs.tracking.base import Ended, TrackedRun, Tracker
from fedprune.server.runs.tracking.figures import plain_name


def refusal() -> str:
    """Return what is wrong on this machine: nothing."""
    return ""


def open_tracker() -> Tracker:
    """Return a tracker that writes event files."""
    return TensorBoard()


class TensorBoard(Tracker):
    """Writes event files."""

    def __init__(self) -> None:
        self._run: TrackedRun | None = None
        self._writers: dict[RunName, Any] = {}
        self._last = 0

    @override
    def start(self, run: TrackedRun) -> str:
        self._run = run
        self._last = run.rounds.get(MAIN, 0)
        writer = self._writer(MAIN)
        if not run.token:
            writer.add_text("config", _table(run.config), 0)
            writer.flush()
        return run.run_id

    @override
    def log_round(self, run: RunName, round_: int, values: Mapping[str, float]) -> None:
        writer = self._writer(run)
        for name, value in values.items():
            writer.add_scalar(name, value, round_)
        writer.flush()
        if run == MAIN:
            self._last = round_

    @override
    def log_result(self, values: Mapping[str, float]) -> None:
        writer = self._writer(MAIN)
        for name, value in values.items():
            # After the last round: a resume that repeats it takes it back.
            writer.add_scalar(f"result/{name}", value, self._last + 1)
        writer.flush()

    @override
    def sends(self) -> bool:
        return False

    @override
    def log_file(self, path: Path) -> None:
        """Write where the file lies: event files hold no files."""
        if self._run is not None:
            place = path.resolve().relative_to(self._run.folder)
            self._writer(MAIN).add_text(f"file/{path.stem}", str(place), self._last + 1)

    @override
    def end(self, ended: Ended) -> None:
        for writer in self._writers.values():
            writer.close()

    def _writer(self, run: RunName) -> Any:  # noqa: ANN401 - of an optional package
        """Return the writer of a federation; it begins after the rounds it has."""
        if run not in self._writers and self._run is not None:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - optional

            has = self._run.rounds.get(run, 0)
            self._writers[run] = SummaryWriter(
                str(self._run.place / plain_name(run)),
                purge_step=has + 1 if has else None,
            )
        return self._writers[run]


def _table(config: Mapping[str, object]) -> str:
    """Return a configuration as a table of markdown."""
    rows = (f"| {key} | {value} |" for key, value in sorted(config.items()))
    return "\n".join(["| key | value |", "|---|---|", *rows])
