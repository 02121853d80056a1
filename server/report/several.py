"""The document that compares several runs: a row a run, their curves, what differs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fedprune.server.report.charts import curves, scatter
from fedprune.server.report.charts.specs import run_role
from fedprune.server.report.data import RunData, number
from fedprune.server.report.names import given_name
from fedprune.server.report.parts import Cell, Chart, Document, Panel, Table, cells
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
_SCORE = "score"  # in place of the metric, where runs have several


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
    """Return the document that compares runs.

    Scores of several metrics, and those on test data beside those of the clients'
    validation, are shown and say what they are; none of them is the best.
    """
    names = _names(runs)
    metric = _metric(runs)
    said = [f"{n}{_whose(run, metric)}" for run, n in zip(runs, names, strict=True)]
    overview = Panel(
        name="runs",
        title="Runs",
        note="Dense is FedAvg in the same run. Bytes are those of all clients. "
        "The best of a column is marked, where more than one run has it measured.",
        tables=[("", _overview(runs, said, metric))],
    )
    pareto = Panel(
        name="points",
        title="Score against size",
        note="Each point is the final network of a run; the line joins those that no "
        "other beats in both.",
        chart=scatter.of_runs(runs, said, metric, lower=_direction(runs)),
    )
    curve = Panel(
        name="curves",
        title="Score by rounds and by bytes",
        note="Dashed is dense FedAvg.",
        chart=_curves(runs, said, metric),
    )
    parts = [overview, pareto, curve, *_differences(runs, names)]
    return Document(title=f"{len(runs)} runs compared", about="", parts=parts)


def _metric(runs: Sequence[RunData]) -> str:
    """Return the metric of all runs, or "score" where they have several."""
    found = {run.metric for run in runs}
    return found.pop() if len(found) == 1 else _SCORE


def _direction(runs: Sequence[RunData]) -> bool | None:
    """Return whether a lower score is better; None where scores do not compare."""
    kinds = {(run.metric, run.lower_is_better, run.final_score[1]) for run in runs}
    return runs[0].lower_is_better if len(kinds) == 1 else None


def _whose(run: RunData, metric: str) -> str:
    """Return what a score is of, where its column does not say it; "" = test data."""
    parts = [metric_name(run.metric)] if metric == _SCORE else []
    parts += [] if run.final_score[1] else ["validation"]
    return f" ({', '.join(parts)})" if parts else ""


def _overview(runs: Sequence[RunData], names: Sequence[str], metric: str) -> Table:
    columns = _columns(runs, metric)
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


def _columns(runs: Sequence[RunData], metric: str) -> list[_Column]:
    lower = _direction(runs)
    good = None if lower is None else min if lower else max

    def scored(value: float | None) -> str:
        return score(value, metric)

    def figure(key: str) -> Callable[[RunData], float | None]:
        return lambda run: number(run.summary, key)

    def final(run: RunData) -> float | None:
        return run.final_score[0]

    return [
        _Column(name=metric_name(metric), value=final, form=scored, best=good),
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


def _curves(runs: Sequence[RunData], names: Sequence[str], metric: str) -> Chart:
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
