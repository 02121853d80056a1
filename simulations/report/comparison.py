"""Several runs side by side: one row a run, and their curves in one picture."""

from collections.abc import Mapping, Sequence

from server.events import CONTROL
from simulations.report import plots
from simulations.report.data import RunData, number
from simulations.report.style import RUNS
from simulations.report.text import (
    Cell,
    Html,
    count,
    less,
    milliseconds,
    percent,
    section,
    show,
    size,
    table,
)

_MAX_VALUE = 40  # letters of a setting that are shown


def overview(runs: Sequence[RunData]) -> str:
    """Return the table with one row per run."""
    head = [
        "run",
        "accuracy",
        "FedAvg, dense",
        "parameters",
        "FLOPs",
        "up",
        "against FedAvg",
        "down",
        "model file",
        "latency",
    ]
    rows = [_row(run, colour) for run, colour in _coloured(runs)]
    return section("Runs", table(head, rows).text, "Bytes are those of all clients.")


def differences(runs: Sequence[RunData]) -> str:
    """Return the settings in which the runs differ, nothing when in none."""
    settings = [_flat(run.started.get("config", {})) for run in runs]
    keys = sorted({key for flat in settings for key in flat})
    unlike = [key for key in keys if len({flat.get(key, "") for flat in settings}) > 1]
    if not unlike:
        return ""
    rows: list[list[Cell]] = [
        [_name(run, colour), *(flat.get(key, "")[:_MAX_VALUE] for key in unlike)]
        for (run, colour), flat in zip(_coloured(runs), settings, strict=True)
    ]
    return section("Settings that differ", table(["run", *unlike], rows).text)


def curves(runs: Sequence[RunData]) -> str:
    """Return accuracy by rounds and by bytes, a colour per run."""
    lines = []
    for run, colour in _coloured(runs):
        lines.append(plots.Line(label=_label(run), colour=colour, points=run.curve()))
        control = run.curve(CONTROL)
        if control:
            label = f"{_label(run)}, FedAvg"
            line = plots.Line(label=label, colour=colour, points=control, dashed=True)
            lines.append(line)
    shown = [line for line in lines if line.points]
    left = section("Accuracy by round", plots.accuracy_by_round(shown).text)
    right = section("Accuracy by bytes sent", plots.accuracy_by_bytes(shown).text)
    return f'<div class="pair">{left}{right}</div>'


def _coloured(runs: Sequence[RunData]) -> list[tuple[RunData, str]]:
    return [(run, RUNS[place % len(RUNS)]) for place, run in enumerate(runs)]


def _row(run: RunData, colour: str) -> list[Cell]:
    get = {key: number(run.summary, key) for key in run.summary}.get
    return [
        _name(run, colour),
        percent(get("accuracy_final"), 2),
        percent(get("accuracy_control"), 2),
        count(get("params_final")),
        count(get("flops_final")),
        size(get("bytes_up")),
        less(get("bytes_up"), get("bytes_up_control")),
        size(get("bytes_down")),
        size(get("model_bytes_final")),
        milliseconds(get("latency_ms_final")),
    ]


def _name(run: RunData, colour: str) -> Html:
    state = "" if run.finished else " (not finished)"
    return Html(
        f'<span class="swatch" style="background:{colour}"></span>'
        f"{show(_label(run) + state)}"
    )


def _label(run: RunData) -> str:
    """Return the part of a run's name that people chose, else all of it."""
    parts = run.name.split("-")
    date = 5  # 2026-11-23T20-30-05
    return "-".join(parts[date:]) or run.name


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
            out[name] = str(value)
    return out
