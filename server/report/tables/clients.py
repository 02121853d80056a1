"""Tables of clients: their health, refused updates, figures of large rounds."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from math import ceil

from fedprune.server.report.data import RunData
from fedprune.server.report.parts import Cell, More, Panel, Table, cells
from fedprune.server.report.text import DASH, score
from fedprune.server.rounds.records import Status
from fedprune.server.runs.events import (
    ClientAnswered,
    ClientsAnswered,
    ClientsConnected,
    ClientsPutAside,
    LateArrived,
    NetworkDelivered,
    OfRound,
    of_kind,
    of_run,
)

_MAX_ROWS = 200
_SHOWN_ROWS = 8
_BARS = " ▁▂▃▄▅▆▇█"
_OUTCOMES = (Status.ACCEPTED, Status.LATE, Status.REFUSED, Status.FAILED)


def health(run: RunData) -> More | None:
    """Return a row for each client: how it answered, how it is now.

    Of more clients than fit those that were missing most often are shown.
    """
    answered: dict[str, list[ClientAnswered]] = defaultdict(list)
    missed: Counter[str] = Counter()
    for event in run.answers():
        answered[event.client].append(event)
        missed[event.client] += event.status is not Status.ACCEPTED
    if not answered:
        return None
    chosen = sorted(answered, key=lambda name: (-missed[name], name))[:_MAX_ROWS]
    rest = len(answered) - len(chosen)
    aside = _aside(run)
    last = max((event.round for event in run.rounds()), default=0)
    rows = [
        _health_row(run, name, answered[name], aside.get(name, 0) > last + 1)
        for name in sorted(chosen)
    ]
    used = Counter(c for e in of_run(run.events, LateArrived) for c in e.used)
    rows = [_with_used(row, used) for row in rows] if used else rows
    late = ("late, used",) if used else ()
    head = ("client", "now", "asked", *(one.value for one in _OUTCOMES), "back", *late)
    table = Table(
        label="Health of the clients",
        head=(*head, "validation"),
        rows=tuple(rows),
        sortable=True,
    )
    title = f"Each client but {rest:,}, which missed least" if rest else "Each client"
    return More(title=title, table=table)


def _aside(run: RunData) -> dict[str, int]:
    """Return the round in which each client that is put aside comes back."""
    found: dict[str, int] = {}
    for event in of_run(run.events, OfRound):
        if isinstance(event, ClientsPutAside):
            found |= dict.fromkeys(event.clients, event.back)
        elif isinstance(event, LateArrived):  # its answer is there
            found = {c: back for c, back in found.items() if c not in event.asked}
    return found


def _health_row(
    run: RunData,
    name: str,
    events: Sequence[ClientAnswered],
    aside: bool,  # noqa: FBT001 - a private row
) -> tuple[Cell, ...]:
    counts = Counter(event.status for event in events)
    now = "put aside" if aside else events[-1].status.value
    scores = [e.validation_metric for e in events if e.validation_metric is not None]
    return (
        Cell(name),
        Cell(now, kind=f"dot-{'late' if aside else now}"),
        _number(len(events)),
        *(_number(counts[one]) for one in _OUTCOMES),
        _number(_returns(events)),
        Cell(
            score(scores[-1] if scores else None, run.metric),
            scores[-1] if scores else None,
        ),
    )


def _with_used(row: tuple[Cell, ...], used: Counter[str]) -> tuple[Cell, ...]:
    """Return a row with the late answers that counted, before its last cell."""
    return (*row[:-1], _number(used[row[0].text]), row[-1])


def _returns(events: Sequence[ClientAnswered]) -> int:
    """Return how often a client was accepted right after it had not been."""
    states = [event.status is Status.ACCEPTED for event in events]
    return sum(not before and after for before, after in pairwise(states))


def _number(value: int) -> Cell:
    return Cell(str(value), value)


def delivered(run: RunData) -> Panel | None:
    """Return which devices got the final network, and how it does there."""
    found = list(of_kind(run.events, NetworkDelivered))
    if not found:
        return None
    table = Table(
        label="Delivery of the final network",
        head=("client", "examples there", run.metric, "result"),
        rows=tuple(
            cells(
                event.client,
                DASH if event.examples is None else f"{event.examples:,}",
                score(event.accuracy, run.metric),
                event.reason or "delivered",
            )
            for event in found[:_MAX_ROWS]
        ),
        kind="words",
    )
    note = "Each device measures the network that it was sent on its own data."
    if len(found) > _MAX_ROWS:
        note += f" The first {_MAX_ROWS} of {len(found):,} are shown."
    return Panel(
        name="delivered",
        title="Delivery of the final network",
        note=note,
        tables=[("", table)],
    )


def connected(run: RunData) -> str:
    """Return one line on the clients that have connected; "" of simulations."""
    found = list(of_kind(run.events, ClientsConnected))
    if not found:
        return ""
    last = found[-1]
    told = f"{len(last.connected)} of {last.wanted} clients have connected"
    refused = f"; refused: {', '.join(last.refused)}" if last.refused else ""
    return f"{told}{refused}."


def answers(run: RunData) -> Panel | None:
    """Return the figures of the clients of the last large round; None without any."""
    found = run.summaries()
    if not found:
        return None
    last = found[-1]
    rows = []
    for name, counts in last.counts.items():
        edges = last.edges[name]
        figures = [f"{x:.4g}" for x in (edges[0], last.means[name], edges[-1])]
        rows.append(cells(name.replace("_", " "), *figures, _bars(counts)))
    head = ("accepted answers", "least", "mean", "greatest", "clients between them")
    outcomes = Counter[str]()
    for event in found:
        outcomes.update(event.statuses)
    said = ", ".join(f"{n:,} {status}" for status, n in outcomes.items() if n)
    title = f"Answers of round {last.round}"
    table = Table(label=title, head=head, rows=tuple(rows))
    note = f"Large rounds do not list their clients; all of them together: {said}."
    return Panel(name="large", title=title, note=note, tables=[("", table)])


def _bars(counts: Sequence[int]) -> str:
    """Return counts as a line of bars; one that is not 0 is seen."""
    top = max(counts)
    return "".join(
        _BARS[ceil(count / top * (len(_BARS) - 1)) if top else 0] for count in counts
    )


def refusals(run: RunData) -> Panel:
    """Return the updates that were refused, failed or late, with the reasons."""
    asked = of_kind(run.events, ClientAnswered)
    found = [event for event in asked if event.status is not Status.ACCEPTED]
    unnamed = sum(
        count
        for event in of_kind(run.events, ClientsAnswered)
        for status, count in event.statuses.items()
        if status != Status.ACCEPTED
    )
    title = "Refused updates"
    if not found:
        note = "None: every answer was accepted."
        return Panel(name="refused", title=title, note=note)
    rows = [
        (
            *cells(event.client, str(event.round), event.run),
            Cell(event.status.value, kind=f"dot-{event.status.value}"),
            Cell(event.reason or DASH),
        )
        for event in found[:_MAX_ROWS]
    ]
    head = ("client", "round", "run", "status", "reason")
    rest = rows[_SHOWN_ROWS:]
    more = len(found) - len(rows)
    note = "A refused answer is left out whole; the round continues without it."
    if more > 0:
        note += f" The first {len(rows)} are shown, {more} more are in events.jsonl."
    if unnamed:
        note += f" {unnamed} more of large rounds are counted, not listed."

    def shown(some: Sequence[tuple[Cell, ...]]) -> Table:
        return Table(label=title, head=head, rows=tuple(some), kind="words")

    return Panel(
        name="refused",
        title=title,
        note=note,
        tables=[("", shown(rows[:_SHOWN_ROWS]))],
        more=[More(title=f"{len(rest)} more", table=shown(rest))] if rest else [],
    )
