"""The result of a search on a terminal: its trials, the Pareto set, the advice."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedprune.common.text import printable
from fedprune.simulations.runs.outcome import table_console
from fedprune.simulations.tuning.folder import RECOMMENDED
from fedprune.simulations.tuning.page import PAGE
from fedprune.simulations.tuning.record import Figures, Record, Trial
from fedprune.simulations.tuning.space import point_text

_WIDTH = 150  # columns of a table that goes to a file or a pipe
_HEAD = ("", "trial", "accuracy", "drop", "params", "flops", "size", "latency", "bytes")
_LONGEST = 200  # characters of settings or a reason


def print_search(folder: Path, record: Record, console: Console | None = None) -> None:
    """Print the table of a search, then its advice and the recommended file.

    Marks: ``>`` the recommended trial, ``*`` one of the Pareto set.

    Args:
        folder: Its folder.
        record: Its record.
        console: The console; None = standard output.
    """
    console = table_console(console, _WIDTH)
    table = Table(*_HEAD, "settings, or why it ended", box=None, pad_edge=False)
    for column in table.columns[1:9]:
        column.justify = "right"
    accuracy = record.reference.accuracy
    dense = "-" if accuracy is None else f"{accuracy:.4f}"
    table.add_row("", "dense", dense, *["0.00", *["1"] * 3, "", "1"], "")
    for trial in record.trials:
        table.add_row(*map(Text, _row(record, trial)))
    console.print(table, highlight=False)
    console.print()
    lines = [
        f"target: {record.target}",
        "accuracies are of the clients' validation parts, shares of the dense network",
        "> recommended; * no other trial is better in params, accuracy and bytes",
        record.advice,
    ]
    if record.recommended is not None:
        lines.append(f"recommended: {folder / RECOMMENDED}")
        lines.append(f"page: {folder / PAGE}")
    for line in lines:
        console.print(printable(line, 4000), markup=False, highlight=False)


def _row(record: Record, trial: Trial) -> list[str]:
    mark = ">" if trial.number == record.recommended else " "
    mark += "*" if trial.number in record.pareto else ""
    told = point_text(trial.point) or "as the file says"
    if trial.status not in ("done", "running"):
        told = f"{trial.status}: {trial.reason}"
    cells = ["-"] * 7 if trial.figures is None else _cells(trial.figures)
    return [mark, str(trial.number), *cells, printable(told, _LONGEST)]


def _cells(figures: Figures) -> list[str]:
    error = "" if figures.error is None else f" +- {figures.error:.2f}"
    shares = (figures.params, figures.flops, figures.size, figures.latency)
    return [
        f"{figures.accuracy:.4f}",
        f"{figures.drop:.2f}{error}",
        *("-" if share is None else f"{share:.3g}" for share in shares),
        f"{figures.bytes:.3g}",
    ]
