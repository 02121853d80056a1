"""Progress of a run in a notebook: a bar for each federation, and its last lines.

Needs the package ``ipywidgets``, which Jupyter, VS Code and Colab bring.
"""

from collections import deque
from html import escape
from typing import Any

from typing_extensions import override

from fedprune.server.runs.events import Event, RoundFinished, RunName
from fedprune.server.runs.events.render import figures, run_label
from fedprune.simulations.runs.progress import Display

_LINES = 6  # below the bars, the last ones


class WidgetProgress(Display):
    """A bar for each federation with its figures, and the last notable lines."""

    def __init__(self) -> None:
        super().__init__()
        import ipywidgets  # noqa: PLC0415 - optional
        from IPython.display import display  # noqa: PLC0415 - optional

        self._widgets: Any = ipywidgets
        self._bars: dict[RunName, tuple[Any, Any]] = {}
        self._last: deque[str] = deque(maxlen=_LINES)
        self._lines = ipywidgets.HTML()
        self._box = ipywidgets.VBox([self._lines])
        show: Any = display
        show(self._box)

    @override
    def show(self, event: Event) -> None:
        """Move the bar of the event's run, or add a line."""
        for line in self.notes(event):
            self._last.append(escape(line))
            self._lines.value = "<br>".join(self._last)
        if isinstance(event, RoundFinished):
            self._move(event)

    def _move(self, event: RoundFinished) -> None:
        bar, label = self._bars.get(event.run) or self._added(event)
        bar.max, bar.value = event.rounds, event.round
        place = f"{event.round}/{event.rounds}"
        label.value = f"{place} &nbsp; {escape(figures(event))}"

    def _added(self, event: RoundFinished) -> tuple[Any, Any]:
        """Return a new bar and the text beside it."""
        bar = self._widgets.IntProgress(
            min=0, max=event.rounds, description=run_label(event.run)
        )
        label = self._widgets.HTML()
        self._bars[event.run] = bar, label
        row = self._widgets.HBox([bar, label])
        self._box.children = (*self._box.children[:-1], row, self._lines)
        return bar, label

    @override
    def close(self) -> None:
        """Mark the bars that did not come to their end."""
        for bar, _ in self._bars.values():
            bar.bar_style = "success" if bar.value == bar.max else "warning"
