"""The tables of the report of one run: refusals, bytes, and where it came from."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping

from fedprune.server.rounds.records import Status
from fedprune.server.runs.events import MAIN
from fedprune.simulations.report.data import RunData, number
from fedprune.simulations.report.style import STATUS
from fedprune.simulations.report.text import (
    DASH,
    Cell,
    Html,
    count,
    seconds,
    section,
    show,
    size,
    table,
)

_MAX_ROWS = 200
_SHOWN_ROWS = 8


def refusals(run: RunData) -> str:
    """Return the updates that were refused, failed or late, with the reasons."""
    found = [e for e in run.of("client") if e.get("status") != Status.ACCEPTED]
    if not found:
        return section("Refused updates", "", "None: every answer was accepted.")
    rows: list[list[Cell]] = [
        [
            str(event.get("client")),
            str(event.get("round")),
            str(event.get("run", MAIN)),
            _status(str(event.get("status"))),
            str(event.get("reason", "")) or DASH,
        ]
        for event in found[:_MAX_ROWS]
    ]
    head = ["client", "round", "run", "status", "reason"]
    body = table(head, rows[:_SHOWN_ROWS], kind="words").text
    if len(rows) > _SHOWN_ROWS:
        rest = table(head, rows[_SHOWN_ROWS:], kind="words").text
        body += _details(f"{len(rows) - _SHOWN_ROWS} more", rest)
    more = len(found) - len(rows)
    note = "A refused answer is left out whole; the round goes on without it."
    if more > 0:
        note += f" The first {len(rows)} are shown, {more} more are in events.jsonl."
    return section("Refused updates", body, note)


def traffic(run: RunData) -> str:
    """Return bytes per message by phase, the fixed part apart, and times."""
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for event in run.rounds():
        phase = sums[str(event.get("phase", DASH))]
        phase["rounds"] += 1
        for key in ("bytes_up", "bytes_down", "bytes_fixed", "asked", "seconds"):
            phase[key] += number(event, key) or 0  # type: ignore[assignment]
        answers = (number(event, "accepted") or 0) + (number(event, "refused") or 0)
        phase["answers"] += int(answers)
    rows = [
        [
            name,
            count(phase["rounds"]),
            count(phase["answers"]),
            size(_mean(phase["bytes_up"], phase["answers"])),
            size(_mean(phase["bytes_fixed"], phase["answers"])),
            size(_mean(phase["bytes_down"], phase["asked"])),
            seconds(_mean(phase["seconds"], phase["rounds"])),
        ]
        for name, phase in sums.items()
    ]
    head = [
        "phase",
        "rounds",
        "answers",
        "up, a message",
        "of it fixed",
        "down, a message",
        "time, a round",
    ]
    simulated = sum(number(event, "bytes_simulation") or 0 for event in run.rounds())
    note = (
        "Lengths of the real messages. Fixed is what does not depend on the number "
        "of entries sent: statistics, scores, scales, header."
    )
    if simulated:
        note += f" Between workers and driver of the simulation: {size(simulated)}."
    return section("Bytes of one message", table(head, rows).text, note)


def origin(run: RunData) -> str:
    """Return what it takes to run it again: command, versions, configuration."""
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
