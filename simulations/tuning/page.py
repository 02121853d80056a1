"""The page of a search, ``tune.html``: its trials as points, and as a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from fedprune.common.system.atomic import write_bytes_atomic
from fedprune.server.report.charts.specs import axis, run_role, series
from fedprune.server.report.page import page
from fedprune.server.report.parts import Cell, Chart, Document, Panel, Spec, Table
from fedprune.simulations.tuning.record import Figures, Record, Trial
from fedprune.simulations.tuning.space import point_text, starts_small

PAGE: Final = "tune.html"
# View -> the figure of its horizontal axis.
_VIEWS: Final = {
    "by parameters": "params",
    "by FLOPs": "flops",
    "by file size": "size",
    "by latency": "latency",
    "by bytes sent": "bytes",
}
_HEAD = (
    "trial",
    "validation score",
    "drop, points of 0.01",
    *_VIEWS.values(),
    "marks",
    "settings",
)
_Done = Sequence[tuple[Trial, Figures]]


def write_page(folder: Path, record: Record) -> None:
    """Write the page of a search into its folder."""
    write_bytes_atomic(folder / PAGE, page(document(record)).encode())


def document(record: Record) -> Document:
    """Return what the page of a search shows."""
    done = [(one, one.figures) for one in record.trials if one.figures is not None]
    note = "Scores are those of the clients' validation parts: no test example is "
    note += "scored. Shares are of the dense network."
    points = Panel(
        name="points",
        title="Score against size and bytes",
        note=f"{note} The line joins trials that no other beats in both.",
        chart=_chart(done) if done else None,
    )
    table = Panel(
        name="trials",
        title="Trials",
        note="Pareto: no other trial is better in parameters, score and bytes.",
        tables=[("", _table(record))],
    )
    choice = Panel(name="choice", title="Choice", lines=[_choice(record)])
    return Document(
        title="Search for settings",
        about=f"target: {record.target}",
        parts=[choice, points, table],
    )


def _choice(record: Record) -> str:
    if record.recommended is None:
        return record.advice
    met = "meets" if record.meets_target else "does not meet"
    text = f"Trial {record.recommended} is recommended; it {met} the target. "
    return f"{text}{record.advice}"


def _chart(done: _Done) -> Chart:
    views = {
        view: _spec(name, done)
        for view, name in _VIEWS.items()
        if all(figures.by_name[name] is not None for _, figures in done)
    }
    label = "Validation score of each trial against its share of the dense network"
    return Chart(name="pareto", label=label, views=views, tall=340)


def _spec(name: str, done: _Done) -> Spec:
    pairs = [(one, _pair(name, figures)) for one, figures in done]
    return {
        "kind": "scatter",
        "x": axis(f"{name}, share of dense", "number"),
        "y": axis("validation score", "number"),
        "series": [
            series(_label(one), run_role(place), [pair])
            for place, (one, pair) in enumerate(pairs)
        ],
        "front": _front([(*_pair(name, f), f.drop) for _, f in done]),
    }


def _front(found: Sequence[tuple[float, float, float]]) -> list[list[float]]:
    """Return size and accuracy of those that none beats, by the size and the drop."""
    kept: list[list[float]] = []
    least = float("inf")
    for size, accuracy, drop in sorted(found, key=lambda one: (one[0], one[2])):
        if drop < least:
            kept.append([size, accuracy])
            least = drop
    return kept


def _pair(name: str, figures: Figures) -> tuple[float, float]:
    return (figures.by_name[name] or 0.0, figures.accuracy)


def _label(trial: Trial) -> str:
    small = ", starts small" if starts_small(trial.point) else ""
    return f"trial {trial.number}{small}"


def _table(record: Record) -> Table:
    rows = [_row(record, trial) for trial in record.trials]
    return Table(label="Trials", head=_HEAD, rows=tuple(rows), sortable=True)


def _row(record: Record, trial: Trial) -> tuple[Cell, ...]:
    chosen = trial.number == record.recommended
    marks = ["recommended"] if chosen else []
    marks += ["Pareto"] if trial.number in record.pareto else []
    number = Cell(f"{trial.number}", trial.number, "best" if chosen else "")
    figures = trial.figures
    if figures is None:
        told = f"{trial.status}: {trial.reason}" if trial.reason else trial.status
        return (number, *[Cell("-")] * (len(_HEAD) - 2), Cell(told))
    found: list[float | None] = [figures.accuracy, figures.drop]
    found += [figures.by_name[name] for name in _VIEWS.values()]
    cells = [Cell("-" if n is None else f"{n:.4g}", n) for n in found]
    return (number, *cells, Cell(", ".join(marks)), Cell(point_text(trial.point)))
