"""What a run shows while it goes on: a bar, lines, or nothing.

A display receives the events of ``events.jsonl`` as they are written; a key that an
event lacks is shown as "-".
"""

import sys
from collections.abc import Callable, Mapping
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

from fedprune.common.text import printable

Event = Mapping[str, object]

_KILO = 1000
_LONGEST = 2000  # characters of a line
_WIDE = 130  # columns that a bar with all figures and times needs
_NAMES = {"main": "pruned", "control": "dense"}


class Progress(Protocol):
    """Somebody who wants to know how a run goes on."""

    def on_event(self, event: Event) -> None:
        """Receive one event of ``events.jsonl``."""


class Display:
    """A progress display that can be opened and closed; by itself it is silent.

    Attributes:
        directory: Folder of the run, as soon as it is known; empty before.
    """

    def __init__(self) -> None:
        self.directory = ""

    def on_event(self, event: Event) -> None:
        """Receive one event."""
        if event.get("event") in {"run_started", "resumed"}:
            self.directory = str(event.get("directory", self.directory))
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
        if event.get("event") != "round":
            line = describe(event)
            if line:
                self._bars.start()
                self._bars.console.print(line, markup=False, highlight=False)
            return
        self._bars.start()
        run = str(event.get("run", "main"))
        if run not in self._tasks:
            self._tasks[run] = self._bars.add_task(
                _run_name(event), total=None, figures=""
            )
        self._bars.update(
            self._tasks[run],
            total=_whole(event.get("rounds")),
            completed=_whole(event.get("round")),
            figures=_figures(event) if self._wide else _short_figures(event),
        )

    @override
    def close(self) -> None:
        """Stop redrawing, so that the terminal is whole again."""
        self._bars.stop()


def describe(event: Event) -> str:
    """Return one printable line about an event, or "" when it is not worth one."""
    kind = str(event.get("event"))
    if kind == "client" and event.get("status") in {"refused", "failed"}:
        kind = "refused"
    line = _LINES.get(kind)
    return printable(line(event), _LONGEST) if line else ""


def human_bytes(count: object) -> str:
    """Return a number of bytes in words, for example "1.5 MB".

    >>> human_bytes(900), human_bytes(1500), human_bytes(None)
    ('900 B', '1.5 kB', '-')
    """
    if isinstance(count, bool) or not isinstance(count, int | float):
        return "-"
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < _KILO:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= _KILO
    return f"{size:.1f} TB"


def _started_line(event: Event) -> str:
    return f"run {event.get('directory', '')}".rstrip()


def _round_line(event: Event) -> str:
    place = f"{event.get('round', '-')}/{event.get('rounds', '-')}"
    return f"{_run_name(event):6} round {place:7} {_figures(event)}"


def _cut_line(event: Event) -> str:
    before = _number(event.get("accuracy_before"), ".4f")
    density = _number(event.get("density"), ".3f")
    return (
        f"cut after round {event.get('round', '-')}: density {density}, "
        f"accuracy before it {before}"
    )


def _rollback_line(event: Event) -> str:
    before = _number(event.get("loss_before"), ".4f")
    after = _number(event.get("loss_after"), ".4f")
    return (
        f"cut taken back in round {event.get('round', '-')}: "
        f"validation loss {before} -> {after}"
    )


def _refused_line(event: Event) -> str:
    who, reason = f"client {event.get('client', '-')}", str(event.get("reason", "-"))
    if who not in reason:
        reason = f"{who} {event.get('status', 'refused')}: {reason}"
    return f"round {event.get('round', '-')}: {reason}"


def _resumed_line(event: Event) -> str:
    return f"resumed {event.get('directory', '')}".rstrip()


def _warning_line(event: Event) -> str:
    return f"warning: {event.get('text', '')}"


_LINES: dict[str, Callable[[Event], str]] = {
    "run_started": _started_line,
    "round": _round_line,
    "cut": _cut_line,
    "rollback": _rollback_line,
    "refused": _refused_line,
    "resumed": _resumed_line,
    "warning": _warning_line,
}


def _run_name(event: Event) -> str:
    run = str(event.get("run", "main"))
    return _NAMES.get(run, run)


def _short_figures(event: Event) -> str:
    """Return the figures of a round for a terminal of 80 columns."""
    accuracy = _number(event.get("accuracy"), ".4f")
    density = _number(event.get("density"), ".3f")
    up, down = human_bytes(event.get("bytes_up")), human_bytes(event.get("bytes_down"))
    return (
        f"{event.get('cycle', '-')} {event.get('phase', '-')!s:8} acc {accuracy} "
        f"density {density} {up} / {down}"
    )


def _figures(event: Event) -> str:
    """Return cycle, phase, accuracy, loss, density and bytes of a round."""
    parts = [f"cycle {event.get('cycle', '-')} {event.get('phase', '-')!s:8}"]
    accuracy = event.get("accuracy")
    if accuracy is not None:
        parts.append(f"accuracy {_number(accuracy, '.4f')}")
    parts.append(f"loss {_number(event.get('loss'), '.4f')}")
    parts.append(f"density {_number(event.get('density'), '.3f')}")
    up, down = human_bytes(event.get("bytes_up")), human_bytes(event.get("bytes_down"))
    parts.append(f"up {up} down {down}")
    return "  ".join(parts)


def _number(value: object, form: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-" if value is None else str(value)
    return str(value) if isinstance(value, int) else format(value, form)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None
