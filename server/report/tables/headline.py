"""The main figures of a run: cards, and the table against dense FedAvg."""

from collections.abc import Callable
from dataclasses import dataclass

from fedprune.server.report.data import RunData, number
from fedprune.server.report.parts import Card, Cell, Table, cells
from fedprune.server.report.text import (
    FASTER,
    FEWER,
    MINUS,
    SMALLER,
    Words,
    count,
    metric_name,
    milliseconds,
    points,
    score,
    size,
    times,
)
from fedprune.server.runs.events import NetworkCut


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A figure of the dense control and of the final network.

    Attributes:
        card: Its name on the card, empty for none.
        name: Its name in the table.
        dense: Key of the summary for dense FedAvg.
        final: Key of the summary for the final network.
        form: Shows a value.
        words: Names the difference.
        middle: Its value after a cut; None = it has none.
    """

    card: str
    name: str
    dense: str
    final: str
    form: Callable[[float | None], str]
    words: Words
    middle: Callable[[NetworkCut], float] | None = None


_ROWS = (
    _Row(
        card="parameters",
        name="Parameters",
        dense="params_dense",
        final="params_final",
        form=count,
        words=FEWER,
        middle=lambda cut: cut.params,
    ),
    _Row(
        card="FLOPs, one example",
        name="FLOPs of one example",
        dense="flops_dense",
        final="flops_final",
        form=count,
        words=FEWER,
        middle=lambda cut: cut.flops,
    ),
    _Row(
        card="sent up, all clients",
        name="Bytes up, all clients",
        dense="bytes_up_control",
        final="bytes_up",
        form=size,
        words=FEWER,
    ),
    _Row(
        card="",
        name="Bytes down, all clients",
        dense="bytes_down_control",
        final="bytes_down",
        form=size,
        words=FEWER,
    ),
    _Row(
        card="",
        name="Model file",
        dense="model_bytes_dense",
        final="model_bytes_final",
        form=size,
        words=SMALLER,
    ),
    _Row(
        card="latency",
        name="Latency",
        dense="latency_ms_dense",
        final="latency_ms_final",
        form=milliseconds,
        words=FASTER,
    ),
)


def cards(run: RunData) -> list[Card]:
    """Return the main figures that are known; score, parameters and bytes always."""
    found = [_score_card(run)]
    for row in _ROWS:
        new, old = _pair(run, row.final, row.dense)
        if row.card and (new is not None or row.final in _ALWAYS):
            against = times(new, old, row.words)
            found.append(Card(name=row.card, value=row.form(new), note=against))
    return found


_ALWAYS = ("params_final", "bytes_up")


def _score_card(run: RunData) -> Card:
    final, control = _pair(run, "accuracy_final", "accuracy_control")
    against = _difference(run, final, control)
    name, note = metric_name(run.metric), f"{against} to dense" if against else ""
    if final is None and run.delivered is not None:
        final, name = run.delivered, f"{name}, test data of the devices"
    if final is None:
        final = run.validation
        name += "" if final is None else ", validation"
    return Card(name=name, value=score(final, run.metric), note=note)


def headline(run: RunData) -> Table:
    """Return the table dense control, before and after the cut, final.

    Columns and rows of which nothing is known are left out.
    """
    standing = [cut.event for cut in run.cuts if not cut.undone]
    final, control = _pair(run, "accuracy_final", "accuracy_control")
    cut, uncut = _pair(run, "accuracy_after_cut", "accuracy_before_cut")
    name = metric_name(run.metric)
    found = [(control, uncut, cut, final)]
    rows = [
        _cells(
            name[:1].upper() + name[1:],
            *(score(value, run.metric) for value in found[0]),
            _difference(run, final, control),
            lower=run.lower_is_better,
        )
    ]
    if final is None:
        rows = _of_devices(run, name) or rows
    for row in _ROWS:
        new, old = _pair(run, row.final, row.dense)
        if new is None and old is None:
            continue
        middle = ["", ""]
        if row.middle is not None:
            after = row.middle(standing[-1]) if standing else None
            middle = [row.form(old if standing else None), row.form(after)]
        told = times(new, old, row.words)
        dense = "" if old is None else row.form(old)
        rows.append(_cells(row.name, dense, *middle, row.form(new), told))
    head = (
        "",
        "FedAvg, dense" if control is not None else "dense",
        "before the first cut",
        "after the last cut",
        "final" if run.finished else "so far",
        "to dense",
    )
    return Table(
        label="Dense network against the pruned one",
        head=head,
        rows=tuple(rows),
        kind="headline",
    )


def _of_devices(run: RunData, name: str) -> list[tuple[Cell, ...]]:
    """Return a row for each score that devices told of the final network."""
    told = (
        (f"{name[:1].upper()}{name[1:]} on the devices' test data", run.delivered),
        (f"Validation {name}", run.validation),
    )
    return [
        _cells(title, "", "", "", score(value, run.metric), "")
        for title, value in told
        if value is not None
    ]


def _cells(name: str, *values: str, lower: bool = False) -> tuple[Cell, ...]:
    *plain, difference = values
    return (*cells(name, *plain), Cell(difference, kind=_colour(difference, lower)))


def _colour(note: str, lower: bool) -> str:  # noqa: FBT001 - as _cells has it
    """Return the colour of gain or loss of a difference."""
    if not note:
        return ""
    fallen = "+" if lower else MINUS
    worse = note.startswith(fallen) or note.endswith(("more", "larger", "slower"))
    return "worse" if worse else "better"


def _pair(run: RunData, new: str, old: str) -> tuple[float | None, float | None]:
    return number(run.summary, new), number(run.summary, old)


def _difference(run: RunData, new: float | None, old: float | None) -> str:
    known = None if new is None or old is None else new - old
    return points(known, run.metric)
