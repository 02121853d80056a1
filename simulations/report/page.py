"""The whole page: its parts in order, its head, its style."""

from collections.abc import Sequence

from simulations.report import comparison, sections, tables
from simulations.report.data import RunData
from simulations.report.style import CSS
from simulations.report.text import show


def single(run: RunData) -> str:
    """Return the page of one run."""
    parts = [
        _header(run),
        sections.cards(run),
        _warnings(run),
        sections.headline(run),
        *sections.figures(run),
        tables.refusals(run),
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
    last = int(run.summary.get("rounds") or 0)
    chip = "finished" if run.finished else f"not finished: round {last}"
    kind = "chip" if run.finished else "chip open"
    return (
        f'<header><h1>{show(run.name)}<span class="{kind}">{show(chip)}</span></h1>'
        f"<p>{show(_about(run))}</p></header>"
    )


def _about(run: RunData) -> str:
    config = run.started.get("config", {})
    task = config.get("task", {}) if isinstance(config, dict) else {}
    clients = run.started.get("clients", run.summary.get("clients"))
    facts = (
        ("", task.get("model")),
        ("on ", task.get("data")),
        ("", f"{clients} clients" if clients else None),
        ("", f"{run.summary.get('rounds')} rounds" if run.summary.get("rounds") else 0),
        ("", f"{len(run.cuts)} cuts" if run.cuts else None),
        ("seed ", run.summary.get("seed", run.manifest.get("seed"))),
    )
    return " · ".join(f"{word}{fact}" for word, fact in facts if fact not in (None, ""))


def _warnings(run: RunData) -> str:
    texts = dict.fromkeys(str(event.get("text", "")) for event in run.of("warning"))
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
