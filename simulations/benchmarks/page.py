"""The page in a real browser: edges, console, accessibility; a live page's delay, cost.

``python -m fedprune.simulations.benchmarks.page``; needs Chromium and playwright.  A
small run of digits is watched as it goes on; then its report, a comparison, the report
of an unfinished run and a live page are looked at in light and dark, 1280 and 400
pixels wide.
"""

import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from fedprune.common.config import Config, load_config
from fedprune.common.errors import RoundError
from fedprune.server.live.serving import LivePage
from fedprune.server.report import write_report
from fedprune.server.runs.folder import RunFolder
from fedprune.simulations.benchmarks.kit.harness import Figure, benchmark
from fedprune.simulations.benchmarks.kit.page.browser import (
    SCHEMES,
    WIDTHS,
    Seen,
    chromium,
    examine,
)
from fedprune.simulations.benchmarks.kit.page.live import Watching, watch
from fedprune.simulations.runs.run import run

# The default run in twelve rounds, and a smaller one to compare it with.
_SHORT = {
    "run.engine": "inprocess",
    "rounds.warmup": 2,
    "rounds.sparsify": 1,
    "rounds.finetune": 1,
    "rounds.cuts": 3,
    "rounds.final": 4,
}
_SMALL = _SHORT | {"rounds.cuts": 1, "rounds.final": 1, "run.controls": []}


def measure() -> list[Figure]:
    """Watch a run, then look at every kind of page."""
    base = Path(tempfile.mkdtemp(prefix="fedprune-page-"))
    try:
        watched = watch(_config(_SHORT, base, "watched"))
        run(_config(_SMALL, base, "small"))
        return [*_browser_rows(base), *_live_rows(watched)]
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _config(settings: Mapping[str, object], base: Path, name: str) -> Config:
    where = {"run.dir": str(base), "run.name": name}
    return load_config(None, {**settings, **where})


def _browser_rows(base: Path) -> list[Figure]:
    folders = sorted(path for path in base.iterdir() if path.is_dir())
    report = write_report(folders[:1])
    pages = [report, write_report(folders), write_report([_open(folders[0], base)])]
    with LivePage("127.0.0.1", 0) as live, chromium() as browser:
        live.follow(lambda: folders[0])
        addresses = [*(page.as_uri() for page in pages), live.address]
        seen = [examine(browser, *each) for each in product(addresses, SCHEMES, WIDTHS)]
    said = f"{len(addresses)} pages, {', '.join(SCHEMES)}, "
    said += " and ".join(f"{width} px" for width in WIDTHS)
    return [
        _lost(seen, said),
        _count("console errors", [one.errors for one in seen], said),
        _count(
            "axe violations, WCAG 2 A and AA", [one.violations for one in seen], said
        ),
        _count("requests of other addresses", [one.requests for one in seen], said),
        Figure(
            name="report.html",
            value=report.stat().st_size / 1e6,
            unit="MB",
            goal="<= 2",
            detail="a run of digits with 10 clients, 12 rounds and its control",
        ),
    ]


def _lost(seen: Sequence[Seen], said: str) -> Figure:
    losing = sum(one.lost > 0 for one in seen)
    return Figure(
        name="horizontal loss",
        value=max(one.lost for one in seen),
        unit="px",
        goal="== 0",
        detail=f"{said}; {losing} of {len(seen)} lose something",
    )


def _count(name: str, found: Sequence[Sequence[str]], said: str) -> Figure:
    lines = [line for one in found for line in one]
    first = f"; first: {lines[0]}" if lines else ""
    return Figure(name=name, value=len(lines), goal="== 0", detail=f"{said}{first}")


def _open(folder: Path, base: Path) -> Path:
    """Return a copy of a run as it was before it ended."""
    copy = base / "open"
    shutil.copytree(folder, copy)
    inner = RunFolder(copy)
    inner.summary.unlink()
    lines = inner.events.read_bytes().splitlines(keepends=True)
    inner.events.write_bytes(b"".join(lines[: 2 * len(lines) // 3]))
    return copy


def _live_rows(watched: Watching) -> list[Figure]:
    delays = sorted(watched.delays)
    if not delays:
        msg = "the browser has seen no round of the watched run"
        raise RoundError(msg)
    middle = delays[len(delays) // 2]
    share = watched.watching_s / watched.running_s
    return [
        Figure(
            name="live page: delay of a round's figures, longest",
            value=delays[-1],
            unit="s",
            goal="<= 2",
            detail=f"median {middle:.2f} s of {len(delays)} rounds; {watched.missed} "
            "rounds were over before they could be seen alone",
        ),
        Figure(
            name="live page: CPU of watching / run",
            value=100 * share,
            unit="%",
            goal="<= 2",
            detail=f"{watched.watching_s:.2f} s of the thread that serves it, "
            f"{watched.running_s:.1f} s of the run with its control, in one process",
        ),
    ]


main = benchmark("page", measure)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
