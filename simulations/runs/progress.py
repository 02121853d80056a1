"""Progress display of a run: a bar, lines, widgets of a notebook, or nothing.

A display receives the events of ``events.jsonl`` as they are written
(``fedprune.server.runs.events``).
"""

import sys
from collections.abc import Mapping
from importlib.util import find_spec
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
    MAIN,
    CutRolledBack,
    Event,
    RoundFinished,
    RunName,
    RunResumed,
    RunStarted,
    describe,
)
from fedprune.server.runs.events.render import figures, run_label, short_figures

_MEASURED = 3  # rounds after which the time of the run is told
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
        self._totals: dict[RunName, int] = {}
        self._undone: dict[RunName, int] = {}
        self._controls = 0
        self._seconds: list[float] = []

    def on_event(self, event: Event) -> None:
        """Receive one event."""
        if isinstance(event, RunStarted | RunResumed):
            self.directory = event.directory
        if isinstance(event, RunStarted):
            self._controls = _controls(event)
        if isinstance(event, CutRolledBack):
            self._undone[event.run] = event.round
        self.show(event)

    def changed(self, event: RoundFinished) -> str:
        """Return a line if a run has another number of rounds from now on, else ""."""
        before = self._totals.get(event.run, event.rounds)
        self._totals[event.run] = event.rounds
        if before == event.rounds:
            return ""
        label, why = run_label(event.run), self._why(event, before)
        return f"{label}: {why}: {event.rounds} rounds in all, not {before}"

    def _why(self, event: RoundFinished, before: int) -> str:
        """Return why a run has another number of rounds than before."""
        if self._undone.get(event.run) == event.round:
            return "a cut is taken back"
        if event.rounds < before:
            return "no more is cut"
        return "the budget is not met yet, one more cut is made"

    def expected(self, event: RoundFinished) -> str:
        """Return a line, once, about the time that the run will take; else "".

        It is said after a few rounds, of which the first, a slow one, does not count.
        """
        if event.run != MAIN or len(self._seconds) >= _MEASURED:
            return ""
        self._seconds.append(event.seconds)
        if len(self._seconds) < _MEASURED or event.rounds <= 2 * _MEASURED:
            return ""
        each = sum(self._seconds[1:]) / (_MEASURED - 1)
        own = event.rounds - event.round
        minutes = each * (own + self._controls * event.rounds) / 60
        text = f"about {max(minutes, 1):.0f} min from here: {own} rounds"
        if self._controls:
            text += f", and as many as before for each control ({self._controls})"
        return text

    def notes(self, event: Event) -> list[str]:
        """Return the lines of an event, beside those of its figures."""
        if not isinstance(event, RoundFinished):
            return [line for line in (describe(event),) if line]
        return [line for line in (self.changed(event), self.expected(event)) if line]

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


def _controls(event: RunStarted) -> int:
    """Return the number of controls of a run."""
    section = event.config.get("run")
    names = section.get("controls") if isinstance(section, Mapping) else ()
    return len(names) if isinstance(names, list | tuple) else 0


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
        lines = self.notes(event)
        if isinstance(event, RoundFinished):
            lines.insert(0, describe(event))
        for line in lines:
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
        self._bars.start()
        for line in self.notes(event):
            self._bars.console.print(line, markup=False, highlight=False)
        if isinstance(event, RoundFinished):
            self._move(event)

    def _move(self, event: RoundFinished) -> None:
        """Move the bar of a run, which is made with its first round."""
        shown = figures(event) if self._wide else short_figures(event)
        task = self._tasks.get(event.run)
        if task is None:
            label = run_label(event.run)
            task = self._bars.add_task(label, total=event.rounds, figures=shown)
            self._tasks[event.run] = task
        self._bars.update(
            task, total=event.rounds, completed=event.round, figures=shown
        )

    @override
    def close(self) -> None:
        """Stop redrawing, so that the terminal is whole again."""
        self._bars.stop()


def usual_display() -> Display:
    """Return widgets in a notebook, a bar in a terminal, and lines elsewhere.

    A notebook without the package ``ipywidgets`` has lines.
    """
    if in_notebook():
        from fedprune.simulations.runs.notebook.widgets import (  # noqa: PLC0415 - optional
            WidgetProgress,
        )

        return WidgetProgress()
    return BarProgress() if sys.stdout.isatty() else LineProgress()


def in_notebook() -> bool:
    """Return whether this is the kernel of a notebook that can show widgets."""
    python = sys.modules.get("IPython")
    shell = python.get_ipython() if python is not None else None
    return shell is not None and hasattr(shell, "kernel") and _has("ipywidgets")


def _has(package: str) -> bool:
    return find_spec(package) is not None
