"""The tables of the report of one run: refusals, bytes, and reproduction."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import ceil

from fedprune.server.rounds.records import Status
from fedprune.server.runs.events import (
    ClientAnswered,
    ClientsAnswered,
    CutChecked,
    RoundFinished,
    of_kind,
)
from fedprune.simulations.report.data import RunData
from fedprune.simulations.report.style import STATUS
from fedprune.simulations.report.text import (
    DASH,
    SHARES,
    Cell,
    Html,
    count,
    points,
    score,
    seconds,
    section,
    show,
    size,
    table,
)

_MAX_ROWS = 200
_SHOWN_ROWS = 8
_BARS = " ▁▂▃▄▅▆▇█"


def answers(run: RunData) -> str:
    """Return the figures of the clients of the last large round; "" without any."""
    found = run.summaries()
    if not found:
        return ""
    last = found[-1]
    rows: list[list[Cell]] = []
    for name, counts in last.counts.items():
        edges = last.edges[name]
        figures = [f"{x:.4g}" for x in (edges[0], last.means[name], edges[-1])]
        rows.append([name.replace("_", " "), *figures, _bars(counts)])
    head = ["accepted answers", "least", "mean", "greatest", "clients between them"]
    outcomes = Counter[str]()
    for event in found:
        outcomes.update(event.statuses)
    said = ", ".join(f"{n:,} {status}" for status, n in outcomes.items() if n)
    note = f"Large rounds do not list their clients; all of them together: {said}."
    title = f"Answers of round {last.round}"
    return section(title, table(head, rows).text, note)


def _bars(counts: Sequence[int]) -> str:
    """Return counts as a line of bars; one that is not 0 is seen."""
    top = max(counts)
    return "".join(
        _BARS[ceil(count / top * (len(_BARS) - 1)) if top else 0] for count in counts
    )


def refusals(run: RunData) -> str:
    """Return the updates that were refused, failed or late, with the reasons."""
    asked = of_kind(run.events, ClientAnswered)
    found = [event for event in asked if event.status is not Status.ACCEPTED]
    unnamed = sum(
        count
        for event in of_kind(run.events, ClientsAnswered)
        for status, count in event.statuses.items()
        if status != Status.ACCEPTED
    )
    if not found:
        return section("Refused updates", "", "None: every answer was accepted.")
    rows: list[list[Cell]] = [
        [
            event.client,
            str(event.round),
            event.run,
            _status(event.status.value),
            event.reason or DASH,
        ]
        for event in found[:_MAX_ROWS]
    ]
    head = ["client", "round", "run", "status", "reason"]
    body = table(head, rows[:_SHOWN_ROWS], kind="words").text
    if len(rows) > _SHOWN_ROWS:
        rest = table(head, rows[_SHOWN_ROWS:], kind="words").text
        body += _details(f"{len(rows) - _SHOWN_ROWS} more", rest)
    more = len(found) - len(rows)
    note = "A refused answer is left out whole; the round continues without it."
    if more > 0:
        note += f" The first {len(rows)} are shown, {more} more are in events.jsonl."
    if unnamed:
        note += f" {unnamed} more of large rounds are counted, not listed."
    return section("Refused updates", body, note)


def checks(run: RunData) -> str:
    """Return the guard's checks, a line each; "" of a run without any."""
    found = list(of_kind(run.events, CutChecked))
    if not found:
        return ""
    head = ["cut", "round", "loss before", "after", "allowed", "clients"]
    head += [f"{run.metric} first", "after", "lost at most", "clients", "verdict"]
    lower = run.started is not None and run.started.better == "lower"
    rows = [_check_row(event, run.metric, lower=lower) for event in found]
    note = (
        "Validation of the clients before and after a cut, with two standard errors of "
        "the difference: a limit is broken when the difference exceeds it by more. "
        "First: the network before the first cut. Unpaired: other clients than before."
    )
    return section("Checks of the cuts", table(head, rows, kind="words").text, note)


def _check_row(event: CutChecked, metric: str, *, lower: bool) -> list[Cell]:
    lost = event.accuracy_allowed
    sign = 1 if lower else -1  # where lower is better, a loss is a rise
    return [
        "final" if event.final else str(event.cycle),
        str(event.round),
        _fixed(event.loss_before),
        _fixed(event.loss_after, event.loss_error),
        _fixed(event.loss_allowed, sign="+"),
        _compared(event.loss_clients, event.loss_comparison),
        score(event.accuracy_reference, metric),
        score(event.accuracy_after, metric)
        + _errors(event.accuracy_error, times=100 if metric in SHARES else 1),
        DASH if lost is None else points(sign * lost, metric),
        _compared(event.accuracy_clients, event.accuracy_comparison),
        event.verdict.value,
    ]


def _fixed(value: float | None, error: float | None = None, sign: str = "") -> str:
    """Return a loss with four digits, or four significant ones of a huge one."""
    if value is None:
        return DASH
    return f"{sign}{value:.4g}{_errors(error)}"


def _errors(error: float | None, times: int = 1) -> str:
    return "" if error is None else f" ± {2 * times * error:.2g}"


def _compared(clients: int, comparison: str) -> str:
    if comparison == "none":
        return DASH
    return f"{clients}, unpaired" if comparison == "unpaired" else str(clients)


def traffic(run: RunData) -> str:
    """Return bytes per message by phase, the fixed part apart, and times."""
    phases: dict[str, list[RoundFinished]] = defaultdict(list)
    for event in run.rounds():
        phases[event.phase.value].append(event)
    rows = [_phase_row(name, rounds) for name, rounds in phases.items()]
    head = [
        "phase",
        "rounds",
        "answers",
        "up, a message",
        "of it fixed",
        "down, a message",
        "time, a round",
    ]
    simulated = sum(event.bytes_simulation for event in run.rounds())
    note = (
        "Lengths of the real messages. Fixed is what does not depend on the number "
        "of entries sent: statistics, scores, scales, header."
    )
    if simulated:
        note += f" Between workers and driver of the simulation: {size(simulated)}."
    return section("Bytes of one message", table(head, rows).text, note)


def _phase_row(name: str, rounds: Sequence[RoundFinished]) -> list[Cell]:
    answers = sum(event.accepted + event.refused for event in rounds)
    return [
        name,
        count(len(rounds)),
        count(answers),
        size(_mean(sum(event.bytes_up for event in rounds), answers)),
        size(_mean(sum(event.bytes_fixed for event in rounds), answers)),
        size(
            _mean(
                sum(event.bytes_down for event in rounds),
                sum(event.asked for event in rounds),
            )
        ),
        seconds(_mean(sum(event.seconds for event in rounds), len(rounds))),
    ]


def origin(run: RunData) -> str:
    """Return command, versions and configuration, with which it can run again."""
    manifest = dict(run.manifest)
    command = manifest.pop("command", "")
    text = " ".join(map(str, command)) if isinstance(command, list) else str(command)
    versions = manifest.pop("versions", {})
    shown = versions.items() if isinstance(versions, Mapping) else []
    parts = [f"<pre>{show(text)}</pre>" if text else ""]
    if shown:
        rows = [[str(name), str(version)] for name, version in shown]
        parts.append(_details("Versions", table(["package", "version"], rows).text))
    if run.config:
        parts.append(_details("Configuration", f"<pre>{show(run.config)}</pre>"))
    rest = json.dumps(manifest, indent=2, ensure_ascii=False)
    parts.append(_details("Manifest", f"<pre>{show(rest)}</pre>"))
    return section("How to run it again", "".join(parts))


def _details(title: str, body: str) -> str:
    return f"<details><summary>{show(title)}</summary>{body}</details>"


def _status(status: str) -> Html:
    colour = STATUS.get(status, STATUS["not asked"])
    return Html(
        f'<span class="swatch" style="background:{colour}"></span>{show(status)}'
    )


def _mean(total: float, of: float) -> float | None:
    return total / of if of else None
