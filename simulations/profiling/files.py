"""The files of a profile, in the folder ``profile`` of a run.

::

    profile/
        profile.html      the table and the flame graph, to be opened offline
        activities.json   the table as figures
        speedscope.json   the samples, for speedscope and other viewers
"""

import json
from dataclasses import asdict
from pathlib import Path

from fedprune.common.profiling.activities import Tally
from fedprune.common.system.atomic import write_bytes_atomic, write_json_atomic
from fedprune.common.text import printable
from fedprune.server.report.page import render
from fedprune.server.report.parts import Panel, Table
from fedprune.server.report.parts import cells as texts
from fedprune.simulations.profiling.flame import flame_svg
from fedprune.simulations.profiling.record import RunProfile
from fedprune.simulations.profiling.speedscope import speedscope
from fedprune.simulations.profiling.table import cells, clients_line, rows

FORMAT = "fedprune-profile/1"
PAGE, FIGURES, SAMPLES = "profile.html", "activities.json", "speedscope.json"

_ABOUT = (
    "An activity that begins inside another takes its time out of that one, so the "
    "rows add up. Wall seconds are those of the driver, and of all workers together."
)
_FLAME = (
    "A box is as wide as its share of the sampled CPU time; what a function calls "
    "stands below it. Rest the pointer on a box for its name and share. Other threads "
    "than that of the run are in the table only."
)


def write_profile(folder: Path, profile: RunProfile, title: str) -> None:
    """Write all files.

    Args:
        folder: Where to; made when absent.
        profile: The profile.
        title: Name of the run.
    """
    folder.mkdir(exist_ok=True)
    write_json_atomic(folder / FIGURES, figures(profile))
    parts = {"driver": profile.driver.stacks, "workers": profile.workers.stacks}
    samples = json.dumps(speedscope(parts), separators=(",", ":"))
    write_bytes_atomic(folder / SAMPLES, samples.encode())
    write_bytes_atomic(folder / PAGE, page(profile, title).encode())


def figures(profile: RunProfile) -> dict[str, object]:
    """Return the table as figures: seconds, and shares 0..1."""
    training, rest = profile.beside_training
    return {
        "format": FORMAT,
        "cpu_s": profile.total.cpu_s,
        "wall_s": profile.driver.total.wall_s,
        "workers_s": profile.workers.total.wall_s,
        "clients_training_cpu_s": training,
        "clients_beside_training_cpu_s": rest,
        "activities": [asdict(row) for row in rows(profile)],
    }


def page(profile: RunProfile, title: str) -> str:
    """Return the page with the table and the flame graph."""
    title = printable(title)
    head, lines = cells(profile)
    every = Tally()
    for part in (profile.driver, profile.workers):
        every.add(part)
    table = Table(
        label="Where the time went",
        head=tuple(head),
        rows=tuple(texts(*line) for line in lines),
    )
    return render(
        "profile.html.jinja",
        title=title,
        about=clients_line(profile),
        flame=flame_svg(every.profile.stacks),
        parts=[
            Panel(name="table", title=table.label, note=_ABOUT, tables=[("", table)]),
            Panel(name="flame", title="Flame graph", note=_FLAME),
        ],
    )
