"""Human-readable table of the final figures of a run."""

from collections.abc import Mapping, Sequence
from html import escape

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedprune.common.text import printable
from fedprune.server.report.tables.controls import beside, equal_line, sentences
from fedprune.server.runs.events import DENSE, human_bytes
from fedprune.server.runs.record.spent import privacy_line

Summary = Mapping[str, object]

_COLUMNS = ("dense FedAvg", "before the cut", "after the cut", "final")
# Row -> the keys of summary.json in the order of the columns; "" = not measured there.
_ROWS: dict[str, tuple[str, str, str, str]] = {
    "accuracy": (
        "accuracy_control",
        "accuracy_before_cut",
        "accuracy_after_cut",
        "accuracy_final",
    ),
    "parameters": ("params_dense", "params_dense", "", "params_final"),
    "FLOPs": ("flops_dense", "flops_dense", "", "flops_final"),
    "bytes up": ("bytes_up_control", "", "", "bytes_up"),
    "bytes down": ("bytes_down_control", "", "", "bytes_down"),
    "model bytes": ("model_bytes_dense", "model_bytes_dense", "", "model_bytes_final"),
    "latency": ("latency_ms_dense", "latency_ms_dense", "", "latency_ms_final"),
}
_LONGEST = 40  # characters of the name of a metric
_WARNINGS = 5  # that are printed; the report has all
_WIDTH = 100  # columns of a table that goes to a file or a pipe


def print_outcome(summary: Summary, console: Console | None = None) -> None:
    """Print the table of one run, then its warnings.

    Args:
        summary: The figures of ``summary.json``; a missing one is shown as "-".
        console: The console; None = standard output.
    """
    table = Table(*("", *_COLUMNS), box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, keys in _ROWS.items():
        label = summary.get("metric", name) if name == "accuracy" else name
        # Text, not markup: a summary may come from another user.
        shown = Text(printable(label, _LONGEST))
        table.add_row(shown, *(_cell(name, summary.get(key)) for key in keys))
    console = table_console(console, _WIDTH)
    console.print(table, highlight=False)
    for line in (equal_line(summary), privacy_line(summary)):
        if line:
            console.print(line, markup=False, highlight=False)
    _print_controls(summary, console)
    warnings = summary.get("warnings")
    for text in warnings[:_WARNINGS] if isinstance(warnings, list) else ():
        line = f"warning: {printable(text)}"  # one line, also where it is wide
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _print_controls(summary: Summary, console: Console) -> None:
    """Print the run beside its controls, if others than dense FedAvg ran."""
    ran = summary.get("controls")
    if not isinstance(ran, Mapping) or not ran.keys() - {DENSE}:
        return
    for equal_bytes, title in ((False, "at equal rounds"), (True, "at equal bytes")):
        found = beside(summary, equal_bytes=equal_bytes)
        if found is None:
            continue
        table = Table(title, *found.head[1:], box=None, pad_edge=False)
        for column in table.columns[1:]:
            column.justify = "right"
        for row in found.rows:
            table.add_row(*map(Text, row))
        console.print()
        console.print(table, highlight=False)
    for text in sentences(summary):
        console.print(text, markup=False, highlight=False)


def outcome_html(summary: Summary, directory: str, plots: str = "") -> str:
    """Return the table of one run as HTML, for a notebook; all text is escaped.

    Args:
        summary: The figures of ``summary.json``.
        directory: Folder of the run.
        plots: HTML between the table and the warnings.
    """
    head = "".join(f"<th>{name}</th>" for name in ("", *_COLUMNS))
    rows = []
    for name, keys in _ROWS.items():
        label = summary.get("metric", name) if name == "accuracy" else name
        cells = "".join(f"<td>{_cell(name, summary.get(key))}</td>" for key in keys)
        shown = escape(printable(label, _LONGEST))
        rows.append(f"<tr><th>{shown}</th>{cells}</tr>")
    report = escape(printable(f"{directory}/report.html"))
    warnings = summary.get("warnings")
    lines = warnings[:_WARNINGS] if isinstance(warnings, list) else []
    notes = "".join(f"<li>{escape(printable(text))}</li>" for text in lines)
    listed = f"<ul>{notes}</ul>" if notes else ""
    table = f"<table><tr>{head}</tr>{''.join(rows)}</table>"
    shown = f"{table}<div>{plots}</div>{listed}"
    return f"<div>{shown}<p>Report: <code>{report}</code></p></div>"


def print_comparison(
    runs: Sequence[tuple[str, Summary]], console: Console | None = None
) -> None:
    """Print one row for each run of a sweep.

    Args:
        runs: Label and summary of each run.
        console: The console; None = standard output.
    """
    table = Table("run", "dense", "final", "parameters", "FLOPs", "bytes up", box=None)
    for label, summary in runs:
        table.add_row(
            Text(printable(label)),
            _cell("accuracy", summary.get("accuracy_control")),
            _cell("accuracy", summary.get("accuracy_final")),
            _share(summary, "params_final", "params_dense"),
            _share(summary, "flops_final", "flops_dense"),
            _cell("bytes up", summary.get("bytes_up")),
        )
    table_console(console, _WIDTH).print(table, highlight=False)


def table_console(console: Console | None, width: int) -> Console:
    """Return where a table is printed: a given console, or standard output.

    Args:
        console: The console, or None for standard output.
        width: Columns of a table that goes to a file or a pipe.
    """
    if console is not None:
        return console
    plain = Console()
    return plain if plain.is_terminal else Console(width=width)


def _cell(name: str, value: object) -> str:
    """Return one figure as text, in the unit of its row."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-"
    if "bytes" in name:
        return human_bytes(value)
    if name == "accuracy":
        return f"{value:.4f}"
    return f"{value:.3f} ms" if name == "latency" else f"{value:,.0f}"


def _share(summary: Summary, part: str, whole: str) -> str:
    """Return a figure as a share of another."""
    kept, all_ = summary.get(part), summary.get(whole)
    if not isinstance(kept, int | float) or not isinstance(all_, int | float):
        return "-"
    return f"{kept / all_:.3f}" if all_ else "-"
