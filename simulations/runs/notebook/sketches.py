"""Small plots of a run by its rounds, as SVG inside HTML: no script, no request."""

import math
from collections.abc import Callable, Sequence
from html import escape
from itertools import accumulate
from typing import Final, NamedTuple, TypeAlias

from fedprune.common.text import printable
from fedprune.server.runs.events import (
    DENSE,
    MAIN,
    Event,
    RoundFinished,
    RunName,
    human_bytes,
    of_kind,
    of_run,
)
from fedprune.server.runs.events.render import run_label

Figure: TypeAlias = Callable[[RoundFinished], float | None]
Shown: TypeAlias = Callable[[float], str]

_WIDTH, _HEIGHT = 240, 120
_LEFT, _RIGHT, _TOP, _BOTTOM = 8, 76, 24, 18
_LONGEST = 30  # characters of the name of a metric
# Okabe and Ito: distinct to all readers, on white and on black.
_COLOURS: Final[dict[RunName, str]] = {MAIN: "#0072B2", DENSE: "#D55E00"}


class Line(NamedTuple):
    """One line of a plot.

    Attributes:
        run: The federation.
        rounds: Rounds with a value, rising.
        values: Their values.
    """

    run: RunName
    rounds: Sequence[int]
    values: Sequence[float]


def sketches(events: Sequence[Event], metric: str) -> str:
    """Return plots of accuracy, size and bytes of a run and of dense FedAvg beside it.

    Args:
        events: The events of the run; without rounds there are no plots.
        metric: Name of its headline metric.
    """
    # One line has figures of one kind: test data, or the clients' validation.
    tested = any(e.accuracy is not None for e in of_kind(events, RoundFinished))
    accuracy = _lines(events, _tested if tested else _validated, tuple(_COLOURS))
    title = printable(metric, _LONGEST) + ("" if tested else ", validation")
    density = _lines(events, lambda event: event.density, (MAIN,))
    sent = [
        line._replace(values=list(accumulate(line.values)))
        for line in _lines(events, lambda event: event.bytes_up, tuple(_COLOURS))
    ]
    return "".join(
        (
            _plot(title, accuracy, lambda v: f"{v:.4f}"),
            _plot("parameters left", density, lambda v: f"{v:.1%}"),
            _plot("bytes up so far", sent, human_bytes, scale=math.log10),
        )
    )


def _tested(event: RoundFinished) -> float | None:
    return event.accuracy


def _validated(event: RoundFinished) -> float | None:
    return event.validation_accuracy


def _lines(
    events: Sequence[Event], figure: Figure, runs: Sequence[RunName]
) -> list[Line]:
    """Return the line of each federation that has values."""
    found = []
    for run in runs:
        values = [(e.round, figure(e)) for e in of_run(events, RoundFinished, run)]
        known = [(round_, value) for round_, value in values if value is not None]
        if known:
            found.append(Line(run, [r for r, _ in known], [v for _, v in known]))
    return found


def _plot(
    title: str,
    lines: Sequence[Line],
    shown: Shown,
    scale: Callable[[float], float] = float,
) -> str:
    """Return one plot; each line ends with its last value and its name.

    Args:
        title: Its title.
        lines: Its lines; none = no plot.
        shown: Returns a value in words.
        scale: Scale of the values; a logarithm leaves out what is not positive.
    """
    shapes = [(_scaled(line, scale), shown(line.values[-1])) for line in lines]
    shapes = [(line, end) for line, end in shapes if line.values]
    kept = [line for line, _ in shapes]
    if not kept:
        return ""
    last = max(line.rounds[-1] for line in kept)
    values = [value for line in kept for value in line.values]
    low, high = min(values), max(values)
    parts = [
        _text(_LEFT, 12, title, weight="bold"),
        _text(_LEFT, _HEIGHT - 4, f"rounds 1 to {last}"),
    ]
    used: list[float] = []
    for line, end in shapes:
        points = [
            (_across(round_, last), _down(value, low, high))
            for round_, value in zip(line.rounds, line.values, strict=True)
        ]
        parts.append(_path(points, _COLOURS[line.run]))
        place = _free(points[-1][1], used)
        label = f"{end} {run_label(line.run)}"
        parts.append(_text(_across(last, last) + 4, place, label))
    name = escape(f"{title} by round", quote=True)
    return (
        f'<svg role="img" aria-label="{name}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" xmlns="http://www.w3.org/2000/svg">'
        f"{''.join(parts)}</svg>"
    )


def _scaled(line: Line, scale: Callable[[float], float]) -> Line:
    fit = [
        (round_, scale(value))
        for round_, value in zip(line.rounds, line.values, strict=True)
        if scale is float or value > 0
    ]
    return Line(line.run, [r for r, _ in fit], [v for _, v in fit])


def _across(round_: int, last: int) -> float:
    share = (round_ - 1) / max(last - 1, 1)
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _down(value: float, low: float, high: float) -> float:
    share = (value - low) / (high - low) if high > low else 0.5
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _free(place: float, used: list[float]) -> float:
    """Return a height for a label, below those that stand there already."""
    found = place + 3
    while any(abs(found - other) < 10 for other in used):  # noqa: PLR2004 - its height
        found += 1
    used.append(found)
    return found


def _path(points: Sequence[tuple[float, float]], colour: str) -> str:
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (
        f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    )


def _text(x: float, y: float, text: str, *, weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="currentColor" font-size="10" '
        f'font-family="sans-serif" font-weight="{weight}">{escape(text)}</text>'
    )
