"""The table of a profile: an activity a row, shares of the CPU time, and what is left.

Rows add up: every CPU second of the driver, and of the workers from their start to
their last answer, is in one row.
"""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from fedprune.common.profiling.activities import Activity, Side, Spent, sentence
from fedprune.simulations.profiling.record import RunProfile

_WIDTH = 100  # columns of a table that goes to a file or a pipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One activity.

    Attributes:
        side: Who it belongs to.
        title: Its name.
        calls: How often it began.
        cpu_s: CPU seconds, driver and workers together.
        share: Share of all CPU seconds, 0..1.
        driver_s: Seconds of the driver's clock.
        workers_s: Seconds of the workers' clocks, all workers together.
    """

    side: str
    title: str
    calls: int
    cpu_s: float
    share: float
    driver_s: float
    workers_s: float


def rows(profile: RunProfile) -> list[Row]:
    """Return the activities that took place, those of a side together."""
    found = []
    for side in Side:
        for activity in Activity:
            spent = profile.of(activity)
            if activity.side is side and spent != Spent():
                found.append(_row(profile, activity, spent))
    return found


def _row(profile: RunProfile, activity: Activity, spent: Spent) -> Row:
    every = profile.total.cpu_s
    return Row(
        side=activity.side.value,
        title=activity.title,
        calls=spent.calls,
        cpu_s=spent.cpu_s,
        share=spent.cpu_s / every if every > 0 else 0.0,
        driver_s=profile.driver.of(activity).wall_s,
        workers_s=profile.workers.of(activity).wall_s,
    )


def clients_line(profile: RunProfile) -> str:
    """Return the clients' CPU seconds in one sentence."""
    return f"clients: {sentence(*profile.beside_training)}"


def print_profile(profile: RunProfile, console: Console | None = None) -> None:
    """Print the table.

    Args:
        profile: The profile.
        console: The console; None = standard output.
    """
    if console is None:
        plain = Console()
        console = plain if plain.is_terminal else Console(width=_WIDTH)
    console.print(_table(profile), highlight=False)
    console.print(clients_line(profile), markup=False, highlight=False)


def cells(profile: RunProfile) -> tuple[list[str], list[list[str]]]:
    """Return the head and the lines of the table as text, the last one the total."""
    spread = bool(profile.workers.spent)
    head = ["", "calls", "CPU s", "share", "wall s", *(["workers s"] if spread else [])]
    every, found = profile.total, rows(profile)
    lines = [_cells(row, spread=spread) for row in found]
    last = Row(
        side="",
        title="total",
        calls=0,
        cpu_s=every.cpu_s,
        share=sum(row.share for row in found),
        driver_s=profile.driver.total.wall_s,
        workers_s=profile.workers.total.wall_s,
    )
    return head, [*lines, _cells(last, spread=spread)]


def _cells(row: Row, *, spread: bool) -> list[str]:
    return [
        f"{row.side}: {row.title}" if row.side else row.title,
        f"{row.calls:,}" if row.calls else "",
        f"{row.cpu_s:.2f}",
        f"{row.share:.1%}",
        f"{row.driver_s:.2f}" if row.driver_s else "",
        *([f"{row.workers_s:.2f}" if row.workers_s else ""] if spread else []),
    ]


def _table(profile: RunProfile) -> Table:
    head, lines = cells(profile)
    table = Table(*head, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for line in lines:
        table.add_row(*line)
    return table
