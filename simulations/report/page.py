"""The whole page: its parts in order, its head, its style."""

from collections.abc import Sequence

from fedprune.server.runs.record.remarks import remarks_of
from fedprune.simulations.report import (
    anomalies,
    comparison,
    controls,
    sections,
    tables,
)
from fedprune.simulations.report.data import RunData, number
from fedprune.simulations.report.style import CSS
from fedprune.simulations.report.text import show


def single(run: RunData) -> str:
    """Return the page of one run."""
    parts = [
        _header(run),
        sections.cards(run),
        _warnings(run),
        sections.headline(run),
        controls.controls(run),
        *sections.figures(run),
        tables.checks(run),
        tables.answers(run),
        tables.refusals(run),
        anomalies.anomalies(run),
        tables.traffic(run),
        tables.origin(run),
    ]
    return _page(run.name, parts)


def several(runs: Sequence[RunData]) -> str:
    """Return the page that compares runs."""
    title = f"{len(runs)} runs compared"
    parts = [
        f"<header><h1>{show(title)}</h1></header>",
        comparison.overview(runs),
        comparison.curves(runs),
        comparison.differences(runs),
    ]
    return _page(title, parts)


def _header(run: RunData) -> str:
    last = int(number(run.summary, "rounds") or 0)
    chip = "finished" if run.finished else f"not finished: round {last}"
    kind = "chip" if run.finished else "chip open"
    return (
        f'<header><h1>{show(run.title)}<span class="{kind}">{show(chip)}</span></h1>'
        f"<p>{show(_about(run))}</p></header>"
    )


def _about(run: RunData) -> str:
    task = run.task
    facts = (
        f"{task.get('model', '')}",
        f"on {task['data']}" if "data" in task else "",
        _counted(run, "clients"),
        _counted(run, "rounds"),
        _counted(run, "cuts"),
        _counted(run, "rollbacks"),
        f"{str(run.manifest.get('started', ''))[:16].replace('T', ' ')} UTC",
    )
    return " · ".join(fact for fact in facts if fact)


def _counted(run: RunData, what: str) -> str:
    value = number(run.summary, what)
    if not value:
        return ""
    return f"{value:,.0f} {what if value > 1 else what[:-1]}"


def _warnings(run: RunData) -> str:
    texts = remarks_of(run.events)
    return "".join(f'<p class="note">{show(text)}</p>' for text in texts)


def _page(title: str, parts: Sequence[str]) -> str:
    body = "\n".join(part for part in parts if part)
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{show(title)} · FedPrune</title><style>{CSS}</style></head>\n"
        f"<body><main>{body}"
        "<footer>Made by FedPrune from the files of the run.</footer>"
        "</main></body></html>\n"
    )
