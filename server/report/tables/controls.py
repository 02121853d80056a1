"""The run beside its controls: one table at equal rounds, one at equal bytes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedprune.common.text import printable
from fedprune.server.report.charts.scatter import of_controls
from fedprune.server.report.data import RunData, number
from fedprune.server.report.parts import Panel, Table, cells
from fedprune.server.report.text import count, score, size
from fedprune.server.runs.controls.names import ALL, of_equal_bytes

_OWN = "this run"
_SENTENCES = ("equal_size", "equal_bytes", "advice")

Summary = Mapping[str, Any]
Form = Callable[[float | None], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """A table of the run and some of its controls, as text.

    Attributes:
        head: Names of the columns, the first one empty.
        rows: Name and values of each figure.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def beside(summary: Summary, *, equal_bytes: bool) -> Beside | None:
    """Return the table of the controls of one kind; None if none of them ran.

    Args:
        summary: The figures of ``summary.json``.
        equal_bytes: Which controls: those of equal bytes, or those of equal rounds.
    """
    found = _mapping(summary, "controls")
    names = [
        name
        for name in ALL  # the known names alone: a summary may be anyone's
        if name in found and of_equal_bytes(name) == equal_bytes
    ]
    if not names:
        return None
    columns = [_own(summary), *(_control(summary, name) for name in names)]
    metric = printable(summary.get("metric", "accuracy"), 40)
    rows = [
        (label, *(form(number(column, key)) for column in columns))
        for label, key, form in _forms(metric)
    ]
    rows.append(("validation says", "", *(_outcome(summary, name) for name in names)))
    return Beside(head=("", _OWN, *names), rows=tuple(rows))


def sentences(summary: Summary) -> list[str]:
    """Return the verdict, one printable sentence each, and the notes beside it."""
    verdict = _mapping(summary, "verdict")
    told = [verdict[key] for key in _SENTENCES if isinstance(verdict.get(key), str)]
    return [printable(text) for text in (*told, *_notes(summary)) if text]


def equal_line(summary: Summary) -> str:
    """Return at which bytes dense FedAvg was as good as the run ends; "" if unknown."""
    found = _mapping(summary, "equal_accuracy")
    rounds = number(found, "rounds")
    if rounds is None:
        return ""
    told = f"Dense FedAvg was as good on the validation parts after {rounds:.0f} rounds"
    for way in ("up", "down"):
        key = f"bytes_{way}"
        ours, theirs = number(summary, key), number(found, key)
        if ours and theirs is not None:
            told += f", {theirs / ours:.3g} x the bytes {way}"
    return f"{told}."


def controls(run: RunData) -> Panel | None:
    """Return the part of the report about the controls; None where none ran."""
    tables = []
    for equal_bytes, title in ((False, "At equal rounds"), (True, "At equal bytes")):
        found = beside(run.summary, equal_bytes=equal_bytes)
        if found is not None:
            rows = tuple(cells(*row) for row in found.rows)
            tables.append((title, Table(label=title, head=found.head, rows=rows)))
    if not tables:
        return None
    note = "Decided on the clients' validation parts; figures of test data are shown."
    return Panel(
        name="beside",
        title="What else could have been trained",
        note=note,
        lines=sentences(run.summary),
        chart=of_controls(run),
        tables=tables,
    )


def _forms(metric: str) -> Sequence[tuple[str, str, Form]]:
    def scored(value: float | None) -> str:
        return score(value, metric)

    def loss(value: float | None) -> str:
        return "-" if value is None else f"{value:.4f}"

    return (
        (f"test {metric}", "accuracy", scored),
        ("test loss", "loss", loss),
        (f"validation {metric}", "validation", scored),
        ("parameters", "params", count),
        ("FLOPs", "flops", count),
        ("rounds", "rounds", count),
        ("bytes up", "bytes_up", size),
        ("bytes down", "bytes_down", size),
    )


def _own(summary: Summary) -> dict[str, object]:
    """Return the figures of the run under the names of those of a control."""
    compared = _mapping(_mapping(summary, "verdict"), "comparisons").values()
    first = next((one for one in compared if isinstance(one, Mapping)), {})
    return {
        "accuracy": summary.get("accuracy_final"),
        "loss": summary.get("loss_final"),
        "validation": first.get("own"),
        "params": summary.get("params_final"),
        "flops": summary.get("flops_final"),
        **{key: summary.get(key) for key in ("rounds", "bytes_up", "bytes_down")},
    }


def _control(summary: Summary, name: str) -> dict[str, object]:
    compared = _compared(summary, name)
    figures = _mapping(_mapping(summary, "controls"), name)
    return {**figures, "validation": compared.get("control")}


def _outcome(summary: Summary, name: str) -> str:
    """Return what the comparison with a control says about that control."""
    found = str(_compared(summary, name).get("outcome", ""))
    return {"won": "worse", "lost": "better"}.get(found, printable(found, 40) or "-")


def _notes(summary: Summary) -> list[str]:
    """Return a line for each control whose bytes are not those of the run."""
    ours = (number(summary, "bytes_up") or 0) + (number(summary, "bytes_down") or 0)
    notes = []
    for name in [one for one in ALL if of_equal_bytes(one)]:
        found = _mapping(_mapping(summary, "controls"), name)
        theirs = sum(number(found, key) or 0 for key in ("bytes_up", "bytes_down"))
        share = f"{100 * theirs / ours:.0f} % of the run's bytes" if ours else ""
        if found.get("capped") is True:
            notes.append(f"{name} ended at the largest number of rounds, with {share}.")
        if found.get("over") is True:
            notes.append(f"{name} does not fit: its fewest rounds need {share}.")
    return notes


def _compared(summary: Summary, name: str) -> Mapping[str, Any]:
    return _mapping(_mapping(_mapping(summary, "verdict"), "comparisons"), name)


def _mapping(source: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return an object of a summary, empty when absent or something else."""
    found = source.get(key)
    return found if isinstance(found, Mapping) else {}
