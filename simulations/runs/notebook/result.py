"""The result of a run, as Python code and notebooks get it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedprune.common.errors import IntegrityError
from fedprune.server.runs.events import read_events
from fedprune.server.runs.folder import RunFolder
from fedprune.simulations.profiling.record import RunProfile
from fedprune.simulations.runs.notebook.frame import rounds_frame
from fedprune.simulations.runs.notebook.sketches import sketches
from fedprune.simulations.runs.outcome import outcome_html


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """Result of a run.

    Attributes:
        directory: Its folder.
        summary: The figures of ``summary.json``.
        was_finished: Whether it had ended before, so that nothing was run.
        profile: Where its time went, with ``run.profile``, else None.
    """

    directory: Path
    summary: dict[str, object]
    was_finished: bool = False
    profile: RunProfile | None = None

    def frame(self) -> Any:  # noqa: ANN401 - of an optional package
        """Return the rounds of the run and of its controls, as a pandas DataFrame.

        Raises:
            ConfigError: If pandas is not installed.
        """
        return rounds_frame(self.directory)

    def _repr_html_(self) -> str:
        """Return table and plots of the figures, which a notebook shows."""
        try:
            events = read_events(RunFolder(self.directory).events)
        except IntegrityError:
            events = []  # of another version; the table stands without them
        plots = sketches(events, str(self.summary.get("metric", "accuracy")))
        return outcome_html(self.summary, str(self.directory), plots)
