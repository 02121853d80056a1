"""The parts of the report of one run, from top to bottom."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fedprune.server.runs.events import DENSE, NetworkCut
from fedprune.server.runs.record.spent import privacy_line
from fedprune.simulations.report import maps, plots
from fedprune.simulations.report.controls import equal_line
from fedprune.simulations.report.data import RunData, number
from fedprune.simulations.report.style import STATUS
from fedprune.simulations.report.text import (
    FASTER,
    FEWER,
    MINUS,
    SMALLER,
    Cell,
    Html,
    Words,
    count,
    metric_name,
    milliseconds,
    points,
    score,
    section,
    show,
    size,
    table,
    times,
)


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


def cards(run: RunData) -> str:
    """Return the five main figures of the run."""
    final, control = _pair(run, "accuracy_final", "accuracy_control")
    against = _difference(run, final, control)
    found = [
        (
            _score_name(run),
            score(final, run.metric),
            f"{against} to dense" if against else "",
        ),
        *(
            (row.card, row.form(new), times(new, old, row.words))
            for row in _ROWS
            if row.card
            for new, old in [_pair(run, row.final, row.dense)]
        ),
    ]
    boxes = "".join(
        f'<div class="card"><small>{show(name)}</small><b>{show(value)}</b>'
        f"<small>{show(note) or '&nbsp;'}</small></div>"
        for name, value, note in found
    )
    return f'<div class="cards">{boxes}</div>'


def headline(run: RunData) -> str:
    """Return the table dense control, before and after the cut, final."""
    standing = [cut.event for cut in run.cuts if not cut.undone]
    final, control = _pair(run, "accuracy_final", "accuracy_control")
    cut, uncut = _pair(run, "accuracy_after_cut", "accuracy_before_cut")
    rows: list[list[Cell]] = [
        [
            _score_name(run).capitalize(),
            *(score(value, run.metric) for value in (control, uncut, cut, final)),
            _coloured(_difference(run, final, control)),
        ]
    ]
    for row in _ROWS:
        new, old = _pair(run, row.final, row.dense)
        middle = ["", ""]
        if row.middle is not None:
            after = row.middle(standing[-1]) if standing else None
            middle = [row.form(old if standing else None), row.form(after)]
        note = _coloured(times(new, old, row.words))
        rows.append([row.name, row.form(old), *middle, row.form(new), note])
    head = [
        "",
        "FedAvg, dense",
        "before the first cut",
        "after the last cut",
        "final" if run.finished else "so far",
        "to dense",
    ]
    note = "No dense FedAvg ran beside it."
    if run.rounds(DENSE):
        note = "FedAvg: the same code, rounds and clients, nothing cut or left out."
        note = f"{note}  {equal_line(run.summary)}".rstrip()
    note = f"{note}  {privacy_line(run.summary)}".rstrip()
    return section(
        "Dense FedAvg against the pruned network",
        table(head, rows, kind="headline").text,
        note,
    )


def figures(run: RunData) -> Iterator[str]:
    """Yield the parts that are pictures."""
    lines = plots.lines_of(run)
    measure = "test" if run.tested else "the clients' validation"
    left = section(
        "Accuracy by round",
        plots.accuracy_by_round(lines, run).text,
        f"Measured on {measure} data, on what the server broadcast.",
    )
    right = section(
        "Accuracy by bytes sent",
        plots.accuracy_by_bytes(lines).text,
        _reach(lines, run),
    )
    yield f'<div class="pair">{left}{right}</div>'
    wide = maps.widths(run)
    left = section(
        "Kept channels",
        wide.text if wide else "<p>No groups are known yet.</p>",
        "Each bar is one group; every cut leaves a shorter, darker bar.",
    )
    right = section(
        "Size by round",
        plots.size_by_round(run).text,
        "Relative to the dense network.",
    )
    yield f'<div class="pair">{left}{right}</div>'
    ballots = maps.votes(run)
    if ballots:
        note = (
            "The last cut: light is a channel that the client wants to keep. "
            "Above: what was kept in the end (importance against cost)."
        )
        yield section("Votes", ballots.text, note)
    strip = maps.participation(run)
    if strip:
        yield section("Who took part", strip.text, _statuses(run))


def _coloured(note: str) -> Cell:
    """Return a difference in the colour of gain or loss."""
    worse = note.startswith(MINUS) or note.endswith(("more", "larger", "slower"))
    return Html(f'<span class="{"worse" if worse else "better"}">{show(note)}</span>')


def _pair(run: RunData, new: str, old: str) -> tuple[float | None, float | None]:
    return number(run.summary, new), number(run.summary, old)


def _difference(run: RunData, new: float | None, old: float | None) -> str:
    known = None if new is None or old is None else new - old
    return points(known, run.metric)


def _score_name(run: RunData) -> str:
    return metric_name(run.metric)


def _reach(lines: list[plots.Line], run: RunData) -> str:
    found = plots.reach(lines)
    if found is None:
        return "Real messages up, all clients together."
    target, ours, theirs = found
    return (
        f"{score(target, run.metric)} is reached after {size(ours)} "
        f"instead of {size(theirs)}: {times(ours, theirs)}."
    )


def _statuses(run: RunData) -> str:
    counts = Counter(event.status.value for event in run.answers())
    for event in run.summaries():
        counts.update(event.statuses)
    return "; ".join(
        f"{counts[status]:,} {status}" for status in STATUS if counts[status]
    )
