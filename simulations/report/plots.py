"""Curves: accuracy by round and by bytes, widths and size over the rounds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import inf

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fedprune.server.runs.events import (
    DENSE,
    CutRolledBack,
    NetworkCut,
    OfRound,
    RoundFinished,
    of_run,
)
from fedprune.simulations.report.data import Point, RunData
from fedprune.simulations.report.style import CONTROL as CONTROL_COLOUR
from fedprune.simulations.report.style import (
    CUT,
    FAINT,
    MUTED,
    PAPER,
    PHASES,
    PRUNED,
    ROLLBACK,
)
from fedprune.simulations.report.svg import draw
from fedprune.simulations.report.text import (
    SHARES,
    Html,
    axis_size,
    metric_name,
    percent,
)

_HALF = (5.6, 3.5)
_MAX_POINTS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One curve.

    Attributes:
        label: Its name in the legend.
        colour: Its colour.
        points: What it shows.
        dashed: Whether it is a control.
        metric: What its "accuracy" is, such as "r2".
    """

    label: str
    colour: str
    points: Sequence[Point]
    dashed: bool = False
    metric: str = "accuracy"


def lines_of(run: RunData) -> list[Line]:
    """Return our curve and, when the run has one, that of its control."""
    metric = run.metric
    ours = Line(label="FedPrune", colour=PRUNED, points=run.curve(), metric=metric)
    lines = [ours]
    control = run.curve(DENSE)
    if control:
        lines.append(
            Line(
                label="FedAvg, dense",
                colour=CONTROL_COLOUR,
                points=control,
                dashed=True,
                metric=metric,
            )
        )
    return [line for line in lines if line.points]


def accuracy_by_round(lines: Sequence[Line], run: RunData | None = None) -> Html:
    """Draw accuracy by rounds; of a single run also its cuts, rollbacks, phases.

    Without a single run there is no legend: the page explains the colours.
    """

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        _curves(axes, lines, "rounds")
        axes.set_xlabel("rounds completed")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if run is not None:
            _mark_cuts(axes, run)
            _phase_strip(axes, run)
            _legend(figure, axes)

    return draw("rounds", "Accuracy by round", _HALF, paint)


def accuracy_by_bytes(lines: Sequence[Line], *, legend: bool = True) -> Html:
    """Draw accuracy by the bytes that all clients had sent, log scale."""

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        _curves(axes, lines, "bytes_up")
        axes.set_xlabel("bytes sent up by all clients together, log scale")
        if any(point.bytes_up > 0 for line in lines for point in line.points):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: axis_size(x)))
            axes.xaxis.set_minor_formatter("")
        else:
            _nothing(axes)
        if legend:
            _legend(figure, axes)

    return draw("bytes", "Accuracy by bytes sent", _HALF, paint)


def size_by_round(run: RunData) -> Html:
    """Draw the shares of parameters, FLOPs and exact zeros by round."""
    dense = run.started.flops_dense if run.started else 0

    def flops(event: RoundFinished) -> float | None:
        return event.flops / dense if dense else None

    shown: tuple[tuple[Callable[[RoundFinished], float | None], str, str, str], ...] = (
        (lambda event: event.density, "parameters", PRUNED, "-"),
        (flops, "FLOPs", CUT, "-"),
        (lambda event: event.zero_share, "exact zeros in the broadcast", MUTED, ":"),
    )

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for share, label, colour, style in shown:
            known = _series(run.rounds(), share)
            axes.step(
                [x for x, _ in known],
                [y for _, y in known],
                style,
                where="mid",
                color=colour,
                label=label if known else None,
                lw=1.9,
            )
        axes.set_ylim(0, 1.04)
        axes.yaxis.set_major_formatter(_percents())
        axes.set_xlabel("round")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y")
        _legend(figure, axes)

    return draw("size", "Size of the network by round", _HALF, paint)


def reach(lines: Sequence[Line]) -> tuple[float, float, float] | None:
    """Return (accuracy, our bytes, the control's bytes) at which both first reach it.

    The accuracy is 98 % of the lower of the two best ones.  An own metric has no such
    share: a lower one may be better.
    """
    if len(lines) != 2:  # noqa: PLR2004 - ours and the control
        return None
    if lines[0].metric not in SHARES | {"r2"}:
        return None
    best = [max(point.accuracy for point in line.points) for line in lines]
    target = 0.98 * min(best)
    if target <= 0:
        return None  # R2 of networks that have learnt nothing
    ours, theirs = (
        next(point.bytes_up for point in line.points if point.accuracy >= target)
        for line in lines
    )
    return (target, ours, theirs) if ours and theirs else None


def _percents() -> FuncFormatter:
    return FuncFormatter(lambda value, _: f"{100 * value:.3g} %")


def _series(
    events: Sequence[RoundFinished], share: Callable[[RoundFinished], float | None]
) -> list[tuple[int, float]]:
    found = [(event.round, share(event)) for event in events]
    return [(x, y) for x, y in found if y is not None]


def _curves(axes: Axes, lines: Sequence[Line], key: str) -> None:
    for line in lines:
        shown = [p for p in line.points if key == "rounds" or p.bytes_up > 0]
        # On a log scale, and when there are many, points merge into a band.
        many = len(shown) > _MAX_POINTS or key != "rounds"
        axes.plot(
            [getattr(point, key) for point in shown],
            [point.accuracy for point in shown],
            linestyle=(0, (4, 2.2)) if line.dashed else "-",
            color=line.colour,
            label=line.label,
            linewidth=1.6 if line.dashed else 2.1,
            marker=None if many or line.dashed else "o",
            markersize=3.2,
            zorder=2 if line.dashed else 3,
        )
    metric = lines[0].metric if lines else "accuracy"
    if metric in SHARES:
        axes.yaxis.set_major_formatter(_percents())
    # A dollar would begin a formula.
    axes.set_ylabel(metric_name(metric).replace("$", r"\$"))
    axes.grid(axis="y")
    low, high = axes.get_ylim()
    # R2 of an untrained network may lie far below 0 and hide all the rest.
    floor = 0.0 if all(p.accuracy >= 0 for line in lines for p in line.points) else -0.5
    most = 1.02 if metric in SHARES | {"r2"} else inf
    axes.set_ylim(max(low, floor), min(high + 0.02 * (high - low), most))


def _mark_cuts(axes: Axes, run: RunData) -> None:
    """Mark cuts and rollbacks with a line and a sign on the upper edge."""
    standing = [cut.event for cut in run.cuts if cut.stands]
    undone = [cut.event for cut in run.cuts if cut.undone]
    _signs(axes, undone, CUT, "v", "cut, undone")
    _signs(axes, standing, CUT, "v", "cut, % kept")
    _signs(axes, of_run(run.events, CutRolledBack), ROLLBACK, "X", "rolled back")
    _label_cuts(axes, standing)


def _signs(
    axes: Axes, events: Sequence[OfRound], colour: str, sign: str, label: str
) -> None:
    xs = [event.round for event in events]
    if not xs:
        return
    for x in xs:
        axes.axvline(x, color=colour, lw=1, ls=(0, (1, 2)), zorder=1)
    axes.plot(
        xs,
        [1.0] * len(xs),
        sign,
        color=colour,
        markerfacecolor=PAPER if label.endswith("undone") else colour,
        markersize=6,
        transform=axes.get_xaxis_transform(),
        clip_on=False,
        label=label,
        zorder=4,
    )


def _label_cuts(axes: Axes, cuts: Sequence[NetworkCut]) -> None:
    """Write the share of parameters kept above each cut that has room for it."""
    left, right = axes.get_xlim()
    free = left
    for event in cuts:
        if event.round < free:
            continue
        free = event.round + 0.07 * (right - left)
        axes.annotate(
            percent(event.density, 0),
            (event.round, 1.0),
            xycoords=axes.get_xaxis_transform(),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8,
            color=CUT,
            annotation_clip=False,
        )


def _phase_strip(axes: Axes, run: RunData) -> None:
    """Colour the lower edge by the phase of each round."""
    labelled: set[str] = set()
    for phase, group in groupby(run.rounds(), key=lambda event: event.phase.value):
        rounds = [event.round for event in group]
        axes.axvspan(
            rounds[0] - 1,
            rounds[-1],
            ymin=0,
            ymax=0.035,
            color=PHASES[phase],
            lw=0,
            label=None if phase in labelled else phase,
        )
        labelled.add(phase)


def _legend(figure: Figure, axes: Axes) -> None:
    """Put the legend above the axes, where no data can be."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        _nothing(axes)
        return
    figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=4,
        columnspacing=1.2,
        handlelength=1.6,
        handletextpad=0.5,
        borderaxespad=0.2,
    )


def _nothing(axes: Axes) -> None:
    axes.text(
        0.5,
        0.5,
        "nothing measured yet",
        transform=axes.transAxes,
        ha="center",
        color=FAINT,
    )
