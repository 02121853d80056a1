"""The document of one run, from top to bottom."""

from collections import Counter
from collections.abc import Iterator

from fedprune.server.report.charts import clients as bars
from fedprune.server.report.charts import curves, maps
from fedprune.server.report.data import RunData, number
from fedprune.server.report.parts import Document, More, Panel
from fedprune.server.report.tables import anomalies, clients, controls, headline, rounds
from fedprune.server.report.tables.origin import origin
from fedprune.server.report.text import metric_name, score, size, times
from fedprune.server.runs.events import DENSE, RunFailed, RunStopped
from fedprune.server.runs.record.remarks import remarks_of
from fedprune.server.runs.record.spent import privacy_line

_MOST_ROUNDS = 500  # rows


def single(run: RunData, *, rounds: int = _MOST_ROUNDS) -> Document:
    """Return the document of one run, finished or not.

    Args:
        run: The run.
        rounds: Most rows of the table of rounds, the newest ones.
    """
    return Document(
        title=run.title,
        about=_about(run),
        state=_state(run),
        ended=run.finished,
        cards=headline.cards(run),
        notes=remarks_of(run.events),
        parts=list(_parts(run, rounds)),
    )


def _state(run: RunData) -> str:
    if run.finished:
        return "finished"
    last = int(number(run.summary, "rounds") or 0)
    ends = [e for e in run.events if isinstance(e, RunFailed | RunStopped)]
    if ends and run.events[-1] is ends[-1]:
        word = "failed" if isinstance(ends[-1], RunFailed) else "stopped"
        return f"{word}: round {last}"
    return f"not finished: round {last}" + _planned(run)


def _planned(run: RunData) -> str:
    rounds = run.rounds()
    return f" of {rounds[-1].rounds}" if rounds and rounds[-1].rounds else ""


def _about(run: RunData) -> str:
    task = run.task
    facts = (
        f"{task.get('model', '')}",
        _data(run),
        _counted(run, "clients"),
        _counted(run, "rounds"),
        _counted(run, "cuts"),
        _counted(run, "rollbacks"),
        f"{str(run.manifest.get('started', ''))[:16].replace('T', ' ')} UTC",
    )
    return " · ".join(fact for fact in facts if fact)


def _data(run: RunData) -> str:
    """Return what the network learns from; devices have data of their own."""
    if run.started is not None and run.on_devices:
        return "on the data of its devices"
    return f"on {run.task['data']}" if "data" in run.task else ""


def _counted(run: RunData, what: str) -> str:
    value = number(run.summary, what)
    if not value:
        return ""
    return f"{value:,.0f} {what if value > 1 else what[:-1]}"


def _parts(run: RunData, rows: int) -> Iterator[Panel]:
    yield _headline(run)
    yield from _curves(run, rows)
    others = controls.controls(run)
    if others:
        yield others
    yield from _network(run)
    yield from _clients(run)
    found = (
        rounds.checks(run),
        clients.delivered(run),
        clients.answers(run),
        clients.refusals(run),
        anomalies.anomalies(run),
        rounds.traffic(run),
        origin(run),
    )
    yield from (part for part in found if part is not None)


def _headline(run: RunData) -> Panel:
    note = "No dense FedAvg ran beside it."
    if run.rounds(DENSE):
        note = "FedAvg: the same code, rounds and clients, nothing cut or left out."
    note = f"{note}  {controls.equal_line(run.summary)}".rstrip()
    note = f"{note}  {privacy_line(run.summary)}".rstrip()
    title = "Dense FedAvg against the pruned network"
    if not run.rounds(DENSE):
        title = "The dense network against the pruned one"
    table = headline.headline(run)
    return Panel(name="main", title=title, note=note, tables=[("", table)])


_VOTES = (
    "The last cut: the stronger the colour, the more a client wants to keep a channel. "
    "Above: what was kept in the end (importance against cost). Within a group the "
    "consensus falls to the right."
)
_BANDS = "Orange bands: sparsify, blue: fine-tune; dotted: a cut, with % kept."


def _curves(run: RunData, rows: int) -> Iterator[Panel]:
    lines = curves.lines_of(run)
    measure = "test" if run.tested else "the clients' validation"
    name = metric_name(run.metric).capitalize()
    yield Panel(
        name="by-round",
        title=f"{name} by round",
        note=f"Measured on {measure} data, on what the server broadcast. {_BANDS}",
        chart=curves.accuracy(lines, run),
        more=[More(title="Figures of each round", table=rounds.by_round(run, rows))],
        half=True,
    )
    yield Panel(
        name="by-bytes",
        title=f"{name} by bytes sent",
        note=_reach(lines, run),
        chart=curves.traffic(lines, run),
        half=True,
    )


def _network(run: RunData) -> Iterator[Panel]:
    yield Panel(
        name="size",
        title="Size by round",
        note="Relative to the dense network.",
        chart=curves.sizes(run),
        half=True,
    )
    yield Panel(
        name="losses",
        title="Loss by round",
        note="Mean of the clients, weighted by their examples.",
        chart=curves.losses(run),
        half=True,
    )
    wide, ballots = maps.widths(run), maps.votes(run)
    yield Panel(
        name="kept",
        title="Kept channels",
        note=_of_groups(run),
        chart=wide,
    )
    if ballots:
        rest = maps.not_shown(run)
        yield Panel(
            name="ballots",
            title="Votes",
            note=_VOTES + (f"  {rest:,} more clients voted." if rest else ""),
            chart=ballots,
        )


def _of_groups(run: RunData) -> str:
    if not run.groups:
        return "No groups are known yet."
    note = "Each bar is a group; each cut leaves a shorter bar of a stronger colour."
    rest = len(run.groups) - maps.MOST_GROUPS
    if rest > 0:
        note += f" {rest} more are not drawn: fedprune inspect lists all."
    return note


def _clients(run: RunData) -> Iterator[Panel]:
    chart, each = bars.answers(run), clients.health(run)
    if chart or clients.connected(run):
        yield Panel(
            name="health",
            title="Clients and their health",
            note=f"{clients.connected(run)}  {_statuses(run)}".strip(),
            chart=chart,
            more=[each] if each else [],
        )
    strip = maps.participation(run)
    if strip:
        hidden = maps.left_out(run)
        yield Panel(
            name="strip",
            title="Who took part",
            note=f"{hidden} clients that were missing less often are not shown."
            if hidden
            else "An empty cell: not asked in that round.",
            chart=strip,
        )
    told = (
        ("data", "Whose data have which classes", bars.labels(run)),
        ("classes", "Recall of each class", bars.recall(run)),
    )
    rest = bars.unlabelled(run)
    more = {"data": f" {rest:,} more clients are not drawn."} if rest else {}
    for name, title, found in told:
        if found:
            note = _NOTES[name] + more.get(name, "")
            yield Panel(name=name, title=title, note=note, chart=found, half=True)


_NOTES = {
    "data": "Training examples of each class, by client.",
    "classes": "Share of the test examples of a class that are told rightly.",
}


def _reach(lines: list[curves.Line], run: RunData) -> str:
    found = curves.reach(lines)
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
    found = [f"{counts[one]:,} {one}" for one in maps.STATES if counts[one]]
    return f"Answers: {'; '.join(found)}." if found else ""
