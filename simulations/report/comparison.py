"""Several runs side by side: one row a run, and their curves in one picture."""

from collections.abc import Mapping, Sequence

from fedprune.server.runs.events import DENSE, MAIN
from fedprune.simulations.report import plots
from fedprune.simulations.report.data import RunData, number
from fedprune.simulations.report.style import RUNS
from fedprune.simulations.report.text import (
    Cell,
    Html,
    count,
    milliseconds,
    score,
    section,
    show,
    size,
    table,
    times,
)

_MAX_VALUE = 40  # letters of a setting that are shown


_HEAD = (
    "run",
    "accuracy",
    "dense",
    "parameters",
    "FLOPs",
    "up",
    "up to dense",
    "down",
    "file",
    "latency",
)


def overview(runs: Sequence[RunData]) -> str:
    """Return the table with one row per run."""
    rows = [_row(run, name) for run, name in _named(runs)]
    note = "Dense is FedAvg in the same run. Bytes are those of all clients."
    return section("Runs", table(_HEAD, rows, kind="tight").text, note)


def differences(runs: Sequence[RunData]) -> str:
    """Return the settings in which the runs differ, nothing when in none."""
    settings = [_flat(run.settings) for run in runs]
    keys = sorted({key for flat in settings for key in flat})
    unlike = [key for key in keys if len({flat.get(key, "") for flat in settings}) > 1]
    if not unlike:
        return ""
    rows: list[list[Cell]] = [
        [name, *(flat.get(key, "")[:_MAX_VALUE] for key in unlike)]
        for (_, name), flat in zip(_named(runs), settings, strict=True)
    ]
    return section("Settings that differ", table(["run", *unlike], rows).text)


def curves(runs: Sequence[RunData]) -> str:
    """Return accuracy by rounds and by bytes, a colour per run."""
    lines = [
        plots.Line(
            label=run.name,
            colour=_colour(place),
            points=run.curve(which),
            dashed=which == DENSE,
            metric=run.metric,
        )
        for place, run in enumerate(runs)
        for which in (MAIN, DENSE)
    ]
    shown = [line for line in lines if line.points]
    note = "Colours as in the table; dashed is dense FedAvg."
    left = plots.accuracy_by_round(shown).text
    right = plots.accuracy_by_bytes(shown, legend=False).text
    return (
        f'<div class="pair">{section("Accuracy by round", left, note)}'
        f"{section('Accuracy by bytes sent', right, note)}</div>"
    )


def _colour(place: int) -> str:
    return RUNS[place % len(RUNS)]


def _row(run: RunData, name: Html) -> list[Cell]:
    get = {key: number(run.summary, key) for key in run.summary}.get
    return [
        name,
        score(get("accuracy_final"), run.metric),
        score(get("accuracy_control"), run.metric),
        count(get("params_final")),
        count(get("flops_final")),
        size(get("bytes_up")),
        times(get("bytes_up"), get("bytes_up_control")),
        size(get("bytes_down")),
        size(get("model_bytes_final")),
        milliseconds(get("latency_ms_final")),
    ]


def _named(runs: Sequence[RunData]) -> list[tuple[RunData, Html]]:
    """Return each run with its colour and the shortest names that differ."""
    short = [run.title.rpartition("-")[0] or run.title for run in runs]
    names = short if len(set(short)) == len(runs) else [run.name for run in runs]
    return [
        (run, _name(_colour(place), name if run.finished else f"{name} (unfinished)"))
        for place, (run, name) in enumerate(zip(runs, names, strict=True))
    ]


def _name(colour: str, name: str) -> Html:
    mark = f'<span class="swatch" style="background:{colour}"></span>'
    return Html(mark + show(name))


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
