"""The document that compares several runs: a row a run, their curves, what differs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fedprune.server.report.charts import curves, scatter
from fedprune.server.report.charts.specs import run_role
from fedprune.server.report.data import RunData, number
from fedprune.server.report.names import given_name
from fedprune.server.report.parts import Cell, Chart, Document, Panel, Table, cells
from fedprune.server.report.tables.headline import validation
from fedprune.server.report.text import (
    FEWER,
    count,
    metric_name,
    milliseconds,
    score,
    size,
    times,
)
from fedprune.server.runs.events import DENSE, MAIN

_MAX_VALUE = 40  # letters of a setting that are shown


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """A figure of all runs.

    Attributes:
        name: Its name.
        value: The figure of a run.
        form: Shows it.
        best: Which one is best, min or max; None = that is not asked.
    """

    name: str
    value: Callable[[RunData], float | None]
    form: Callable[[float | None], str]
    best: Callable[[Sequence[float]], float] | None = min


def several(runs: Sequence[RunData]) -> Document:
    """Return the document that compares runs."""
    names = _names(runs)
    overview = Panel(
        name="runs",
        title="Runs",
        note="Dense is FedAvg in the same run. Bytes are those of all clients. "
        "The best of a column is marked, where more than one run has it measured.",
        tables=[("", _overview(runs, names))],
    )
    pareto = Panel(
        name="points",
        title="Score against size",
        note="Each point is the final network of a run; the line joins those that no "
        "other beats in both.",
        chart=scatter.of_runs(runs, names),
    )
    curve = Panel(
        name="curves",
        title="Score by rounds and by bytes",
        note="Dashed is dense FedAvg.",
        chart=_curves(runs, names),
    )
    parts = [overview, pareto, curve, *_differences(runs, names)]
    return Document(title=f"{len(runs)} runs compared", about="", parts=parts)


def _overview(runs: Sequence[RunData], names: Sequence[str]) -> Table:
    columns = _columns(runs)
    best = [_best(column, runs) for column in columns]
    rows = []
    for place, (run, name) in enumerate(zip(runs, names, strict=True)):
        label = name if run.finished else f"{name} (unfinished)"
        row = [Cell(label, kind=f"dot-{run_role(place)}")]
        for column, top in zip(columns, best, strict=True):
            value = column.value(run)
            kind = "best" if value is not None and value == top else ""
            row.append(Cell(column.form(value), value, kind))
        up, dense = (number(run.summary, f"bytes_up{end}") for end in ("", "_control"))
        row.append(Cell(times(up, dense, FEWER), dense / up if up and dense else None))
        rows.append(tuple(row))
    head = ("run", *(column.name for column in columns), "up to dense")
    return Table(label="Runs", head=head, rows=tuple(rows), sortable=True)


def _columns(runs: Sequence[RunData]) -> list[_Column]:
    metric = runs[0].metric
    lower = all(run.started and run.started.better == "lower" for run in runs)
    good: Callable[[Sequence[float]], float] = min if lower else max
    alike = len({run.metric for run in runs}) == 1

    def scored(value: float | None) -> str:
        return score(value, metric)

    def figure(key: str) -> Callable[[RunData], float | None]:
        return lambda run: number(run.summary, key)

    def final(run: RunData) -> float | None:
        found = number(run.summary, "accuracy_final")
        return found if found is not None or run.tested else validation(run)

    name = metric_name(metric) if alike else "score"
    return [
        _Column(name=name, value=final, form=scored, best=good if alike else None),
        _Column(name="dense", value=figure("accuracy_control"), form=scored, best=None),
        _Column(name="parameters", value=figure("params_final"), form=count),
        _Column(name="FLOPs", value=figure("flops_final"), form=count),
        _Column(name="up", value=figure("bytes_up"), form=size),
        _Column(name="down", value=figure("bytes_down"), form=size),
        _Column(name="file", value=figure("model_bytes_final"), form=size),
        _Column(name="latency", value=figure("latency_ms_final"), form=milliseconds),
    ]


def _best(column: _Column, runs: Sequence[RunData]) -> float | None:
    """Return the best figure of a column, None where nothing is compared.

    Unfinished runs do not compete: they have sent less only because they stopped.
    """
    known = [column.value(run) for run in runs if run.finished]
    found = [value for value in known if value is not None]
    if column.best is None or len(found) < 2 or len(set(found)) == 1:  # noqa: PLR2004
        return None
    return column.best(found)


def _differences(runs: Sequence[RunData], names: Sequence[str]) -> list[Panel]:
    """Return the settings in which the runs differ, nothing when in none."""
    settings = [_flat(run.settings) for run in runs]
    keys = sorted({key for flat in settings for key in flat})
    unlike = [key for key in keys if len({flat.get(key, "") for flat in settings}) > 1]
    if not unlike:
        return []
    title = "Settings that differ"
    rows = tuple(
        cells(name, *(flat.get(key, "")[:_MAX_VALUE] for key in unlike))
        for flat, name in zip(settings, names, strict=True)
    )
    table = Table(
        label=title, head=("run", *unlike), rows=rows, kind="words", sortable=True
    )
    return [Panel(name="settings", title=title, tables=[("", table)])]


def _curves(runs: Sequence[RunData], names: Sequence[str]) -> Chart:
    metric = runs[0].metric
    lines = [
        curves.Line(
            name=name if which == MAIN else f"{name}, dense",
            role=run_role(place),
            points=run.curve(which),
            dashed=which == DENSE,
            metric=run.metric,
        )
        for place, (run, name) in enumerate(zip(runs, names, strict=True))
        for which in (MAIN, DENSE)
    ]
    shown = [line for line in lines if line.points]
    views = {
        "by rounds": curves.by_round(shown, metric),
        "by bytes up": curves.by_bytes(shown, metric),
    }
    label = "Score of each run by rounds, or by bytes sent up"
    return Chart(name="curves-plot", label=label, views=views, tall=340)


def _names(runs: Sequence[RunData]) -> list[str]:
    """Return the shortest names that differ: given ones, two words, or whole ones."""
    choices = (
        [given_name(run.name) for run in runs],
        [run.code_name for run in runs],
        [run.title for run in runs],
    )
    for names in choices:
        if all(names) and len(set(names)) == len(runs):
            return names
    return [f"{run.title} ({place})" for place, run in enumerate(runs, 1)]


def _flat(config: object, prefix: str = "") -> dict[str, str]:
    """Return nested settings as dotted keys; where runs lie is no setting."""
    if not isinstance(config, Mapping):
        return {}
    out: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            out |= _flat(value, f"{name}.")
        elif name not in ("run.dir", "run.name"):
            out[name] = f"{value:g}" if isinstance(value, float) else str(value)
    return out
