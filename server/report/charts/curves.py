"""Curves of one run and of its controls: accuracy, loss, sizes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from fedprune.server.report.charts.specs import Points, Unit, axis, score_unit, series
from fedprune.server.report.data import Point, RunData
from fedprune.server.report.parts import Chart, Spec
from fedprune.server.report.text import SHARES, metric_name, percent
from fedprune.server.runs.events import (
    DENSE,
    MAIN,
    CutRolledBack,
    RoundFinished,
    RunName,
    of_run,
)

_BY_SIZE = "by parameters"
_BY_BYTES = "by bytes up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Accuracy of one federation.

    Attributes:
        name: Its name in the legend.
        role: Its colour.
        points: Accuracy by rounds and by bytes.
        dashed: Whether it is a control.
        metric: What its "accuracy" is, such as "r2".
    """

    name: str
    role: str
    points: Sequence[Point]
    dashed: bool = False
    metric: str = "accuracy"


def lines_of(run: RunData) -> list[Line]:
    """Return the curve of the run and, when it has one, that of its dense control."""
    lines = [
        Line(name="FedPrune", role="own", points=run.curve(), metric=run.metric),
        Line(
            name="FedAvg, dense",
            role="dense",
            points=run.curve(DENSE),
            dashed=True,
            metric=run.metric,
        ),
    ]
    return [line for line in lines if line.points]


def accuracy(lines: Sequence[Line], run: RunData) -> Chart:
    """Return accuracy by rounds, with cuts, rollbacks and phases."""
    spec = by_round(lines, run.metric)
    marked = {**spec, "marks": list(_marks(run)), "bands": list(_bands(run))}
    label = f"{metric_name(run.metric)} of the broadcast by rounds completed"
    return Chart(name="accuracy", label=label, views={"": marked})


def traffic(lines: Sequence[Line], run: RunData) -> Chart:
    """Return accuracy by the bytes sent, and by the size of the network."""
    views = {
        _BY_BYTES: by_bytes(lines, run.metric),
        _BY_SIZE: _by_size(run),
    }
    label = f"{metric_name(run.metric)} by the bytes that all clients had sent, or by "
    label += "the parameters of the network"
    return Chart(name="bytes", label=label, views=views)


def by_round(lines: Sequence[Line], metric: str) -> Spec:
    """Return accuracy by rounds completed."""
    shown = [
        _curve(line, [(point.rounds, point.accuracy) for point in line.points])
        for line in lines
    ]
    return _lines(axis("rounds completed", "count"), _score(metric), shown)


def by_bytes(lines: Sequence[Line], metric: str) -> Spec:
    """Return accuracy by the bytes that all clients together had sent."""
    shown = [
        _curve(
            line,
            [(p.bytes_up, p.accuracy) for p in line.points if p.bytes_up > 0],
        )
        for line in lines
    ]
    wide = axis("bytes sent up by all clients", "bytes", log=True)
    return _lines(wide, _score(metric), shown)


def _by_size(run: RunData) -> Spec:
    """Return the accuracy of each broadcast by its parameters."""
    shown = [
        series(name, role, points, dashed=which != MAIN)
        for which, name, role in _federations(run)
        if (points := _sized(run, which))
    ]
    axes = axis("parameters", "count"), _score(run.metric)
    return {"kind": "scatter", "x": axes[0], "y": axes[1], "series": shown, "front": []}


def _sized(run: RunData, which: RunName) -> Points:
    pairs = [(event.params, run.accuracy(event)) for event in run.rounds(which)]
    return [(size, score) for size, score in pairs if score is not None]


def losses(run: RunData) -> Chart:
    """Return the training loss, and the loss on the clients' validation parts."""
    views = {
        "validation": _lines(
            axis("round", "count"),
            axis("loss", "number"),
            [
                series(name, role, points, dashed=which != MAIN)
                for which, name, role in _federations(run)
                if (points := _losses(run.rounds(which), validation=True))
            ],
        ),
        "training": _lines(
            axis("round", "count"),
            axis("loss", "number"),
            [
                series(name, role, points, dashed=which != MAIN)
                for which, name, role in _federations(run)
                if (points := _losses(run.rounds(which), validation=False))
            ],
        ),
    }
    return Chart(name="loss", label="Mean loss of the clients by round", views=views)


def sizes(run: RunData) -> Chart:
    """Return the shares of parameters, FLOPs and exact zeros by round."""
    dense = run.started.flops_dense if run.started else 0
    rounds = run.rounds()
    zeros = [(e.round, e.zero_share) for e in rounds if e.zero_share is not None]
    found: list[tuple[str, str, Points]] = [
        ("parameters", "own", [(event.round, event.density) for event in rounds]),
        ("exact zeros", "dense", zeros),
    ]
    if dense:
        flops = [(event.round, event.flops / dense) for event in rounds]
        found.insert(1, ("FLOPs", "cut", flops))
    shown = [
        series(name, role, points, step=True) for name, role, points in found if points
    ]
    spec = _lines(axis("round", "count"), axis("share of dense", "share"), shown)
    label = "Parameters and FLOPs by round, relative to the dense network"
    return Chart(name="sizes", label=label, views={"": {**spec, "whole": True}})


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


def _federations(run: RunData) -> Iterator[tuple[RunName, str, str]]:
    """Yield the run and its dense control: name in the events, in legends, colour."""
    yield MAIN, "FedPrune", "own"
    if run.rounds(DENSE):
        yield DENSE, "FedAvg, dense", "dense"


def _losses(events: Sequence[RoundFinished], *, validation: bool) -> Points:
    found = [(e.round, e.validation_loss if validation else e.loss) for e in events]
    return [(round_, loss) for round_, loss in found if loss is not None]


def _lines(x: Spec, y: Spec, shown: Sequence[Spec]) -> Spec:
    return {"kind": "lines", "x": x, "y": y, "series": shown, "marks": [], "bands": []}


def _curve(line: Line, points: Points) -> Spec:
    return series(line.name, line.role, points, dashed=line.dashed)


def _score(metric: str) -> Spec:
    unit: Unit = score_unit(metric)
    return axis(metric_name(metric), unit)


def _marks(run: RunData) -> Iterator[Spec]:
    """Yield a mark for each cut and each rollback."""
    for cut in run.cuts:
        if cut.undone:
            yield _mark(cut.event.round, "undone", "cut")
        elif cut.stands:
            yield _mark(cut.event.round, percent(cut.event.density, 0), "cut")
    for event in of_run(run.events, CutRolledBack):
        yield _mark(event.round, "rolled back", "rollback")


def _mark(x: int, text: str, role: str) -> Spec:
    return {"x": x, "text": text, "role": role}


def _bands(run: RunData) -> Iterator[Spec]:
    """Yield the phases: from a number of completed rounds to another."""
    for phase, group in groupby(run.rounds(), key=lambda event: event.phase.value):
        rounds = [event.round for event in group]
        yield {"from": rounds[0] - 1, "to": rounds[-1], "name": phase, "role": phase}
