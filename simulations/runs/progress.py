"""Progress display of a run: a bar, lines, or nothing.

A display receives the events of ``events.jsonl`` as they are written
(``fedprune.server.runs.events``).
"""

import sys
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from typing_extensions import override

from fedprune.server.runs.events import (
    Event,
    RoundFinished,
    RunResumed,
    RunStarted,
    describe,
)
from fedprune.server.runs.events.render import figures, run_label, short_figures

_WIDE = 130  # columns that a bar with all figures and times needs


class Progress(Protocol):
    """Listener to the events of a run."""

    def on_event(self, event: Event) -> None:
        """Receive one event of the run."""


class Display:
    """A progress display that can be opened and closed; by itself it is silent.

    Attributes:
        directory: Folder of the run, as soon as it is known; empty before.
    """

    def __init__(self) -> None:
        self.directory = ""

    def on_event(self, event: Event) -> None:
        """Receive one event."""
        if isinstance(event, RunStarted | RunResumed):
            self.directory = event.directory
        self.show(event)

    def show(self, event: Event) -> None:
        """Display one event."""

    def close(self) -> None:
        """End the display."""

    def __enter__(self) -> Self:
        """Return the display itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """End the display."""
        self.close()


class SilentProgress(Display):
    """Shows nothing."""


class LineProgress(Display):
    """Writes one plain line a round, cut, roll-back and refusal.

    Args:
        stream: Where to; None = standard output.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = stream or sys.stdout

    @override
    def show(self, event: Event) -> None:
        """Write the line of one event, if it has one."""
        line = describe(event)
        if line:
            self._stream.write(line + "\n")
            self._stream.flush()


class BarProgress(Display):
    """A progress bar for each of the two runs, with the notable events above it.

    Args:
        console: Where to; None = standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        console = console or Console()
        self._wide = console.width >= _WIDE
        columns: list[ProgressColumn] = [
            TextColumn("{task.description:6}"),
            BarColumn(bar_width=20 if self._wide else 6),
            TextColumn("{task.completed}/{task.total} {task.fields[figures]}"),
        ]
        if self._wide:
            columns += [TimeElapsedColumn(), TimeRemainingColumn()]
        self._bars = RichProgress(*columns, console=console)
        self._tasks: dict[str, TaskID] = {}

    @override
    def show(self, event: Event) -> None:
        """Move the bar of the event's run, or print a line above the bars."""
        if not isinstance(event, RoundFinished):
            line = describe(event)
            if line:
                self._bars.start()
                self._bars.console.print(line, markup=False, highlight=False)
            return
        self._bars.start()
        run = event.run
        if run not in self._tasks:
            label = run_label(run)
            self._tasks[run] = self._bars.add_task(label, total=None, figures="")
        self._bars.update(
            self._tasks[run],
            total=event.rounds,
            completed=event.round,
            figures=figures(event) if self._wide else short_figures(event),
        )

    @override
    def close(self) -> None:
        """Stop redrawing, so that the terminal is whole again."""
        self._bars.stop()


def usual_display() -> Display:
    """Return a bar where standard output is a terminal, else lines (notebooks too)."""
    return BarProgress() if sys.stdout.isatty() else LineProgress()
