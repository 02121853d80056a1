"""Maps: channels that are kept, votes for them, and who took part."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedprune.server.report.data import Cut, RunData
from fedprune.server.report.parts import Chart, Spec
from fedprune.server.runs.events import ClientAnswered, NetworkCut

MOST_GROUPS = 60  # that are drawn; fedprune inspect has all
_MOST_STEPS = 6  # cuts that are drawn
_MOST_COLUMNS = 240  # of votes
_MOST_VOTERS = 64
_MOST_CELLS = 24_000  # of who took part
_LEAST_ROWS = 20
_ROW = 18  # pixels
_GAP = ""  # name of the empty column between two groups
STATES = ("accepted", "late", "refused", "failed")


def widths(run: RunData) -> Chart | None:
    """Return the channels that each group keeps after each cut, None without groups."""
    full = run.groups
    if not full:
        return None
    names = list(full)[:MOST_GROUPS]
    steps = [(n, cut.after) for n, cut in enumerate(run.cuts, 1) if cut.stands]
    if len(steps) > _MOST_STEPS:
        chosen = np.linspace(0, len(steps) - 1, _MOST_STEPS).round().astype(int)
        steps = [steps[place] for place in chosen]
    bars = [("dense", "step0", full)] + [
        (f"cut {number}", f"step{_shade(place, len(steps))}", after)
        for place, (number, after) in enumerate(steps)
    ]
    spec: Spec = {
        "kind": "bars",
        "names": names,
        "unit": "count",
        "axis": "channels",
        "series": [
            {
                "name": name,
                "role": role,
                "values": [after.get(group, full[group]) for group in names],
            }
            for name, role, after in bars
        ],
        "stacked": False,
        "sideways": True,
        "overlay": True,
        "texts": [
            _kept(full[group], bars[-1][2].get(group, full[group])) for group in names
        ],
    }
    label = "Channels that each group keeps after each cut"
    tall = 90 + 22 * len(names)
    return Chart(name="widths", label=label, views={"": spec}, tall=max(tall, 300))


def _shade(place: int, steps: int) -> int:
    """Return the shade of a cut, 1 = pale to 6 = full; the last one is full."""
    return _MOST_STEPS - (steps - 1 - place)


def _kept(full: int, kept: int) -> str:
    return f"{full}" if kept == full else f"{full} → {kept}"


def votes(run: RunData) -> Chart | None:
    """Return the votes of the last cut that stands, clients by channels, else None.

    Each client's votes are shown as ranks, so that clients compare.  Within a group the
    channels are in the order of the consensus, greatest first.  Where there are more
    than fit, neighbours are one column, their mean.
    """
    found = _shown_cut(run)
    if found is None:
        return None
    before, cut = found.before, found.event
    clients = sorted(cut.votes)[:_MOST_VOTERS]
    order, ends = _order(cut, before, len(cut.kept))
    names = list(before) if len(ends) == len(before) else ["all channels"]
    columns = _columns(ends, names)
    kept = np.asarray(cut.kept, dtype=float)
    rows = [kept, ranks(cut.consensus), *(ranks(cut.votes[name]) for name in clients)]
    spec: Spec = {
        "kind": "map",
        "rows": ["kept", "consensus", *clients],
        "columns": [name for name, _, _ in columns],
        "cells": [_means(row[order], columns) for row in rows],
        "axis": "",
        "heads": _heads(columns),
        "states": [],
    }
    label = "Rank of each channel in the votes of the last cut, by client"
    tall = 120 + _ROW * len(spec["rows"])
    return Chart(name="votes", label=label, views={"": spec}, tall=tall)


def not_shown(run: RunData) -> int:
    """Return the number of clients whose votes in that cut are not drawn."""
    found = _shown_cut(run)
    return 0 if found is None else max(len(found.event.votes) - _MOST_VOTERS, 0)


def _shown_cut(run: RunData) -> Cut | None:
    known = [cut for cut in run.cuts if voted(cut.event) and not cut.undone]
    if not known:
        return None
    # A cut that removed no channel shows less than the one before it.
    return next((cut for cut in known[::-1] if 0 in cut.event.kept), known[-1])


def voted(cut: NetworkCut) -> bool:
    """Return whether there are votes, and they fit consensus and result."""
    rows = (*cut.votes.values(), cut.consensus)
    fit = all(len(row) == len(cut.kept) for row in rows)
    return bool(cut.votes) and bool(cut.kept) and fit


def ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Return the rank of each value as a share, 0 = least, float64[n]."""
    found = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return found / max(len(values) - 1, 1)


def _order(
    cut: NetworkCut, before: Mapping[str, int], units: int
) -> tuple[NDArray[np.int64], list[int]]:
    """Return the order of the channels, and where each group ends in it."""
    consensus = np.asarray(cut.consensus)
    ends = np.cumsum(list(before.values())).tolist() if before else []
    if not ends or ends[-1] != units:
        ends = [units]
    parts, start = [], 0
    for end in ends:
        inside = np.argsort(-consensus[start:end], kind="stable")
        parts.append(start + inside)
        start = end
    return np.concatenate(parts), ends


def _columns(ends: Sequence[int], names: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return the columns of a map: a name, the first channel, and one past the last.

    A column never has channels of two groups; a group without channels has none.
    """
    wide = max(1, -(-ends[-1] // _MOST_COLUMNS))
    found: list[tuple[str, int, int]] = []
    start = 0
    for name, end in zip(names, ends, strict=True):
        if end == start:  # of a block that was dropped
            continue
        if found:
            found.append((_GAP, start, start))
        for first in range(start, end, wide):
            last = min(first + wide, end)
            place = f"{first - start + 1}"
            place += f"–{last - start}" if last - first > 1 else ""  # noqa: RUF001
            found.append((f"{name}: {place}", first, last))
        start = end
    return found


def _means(
    row: NDArray[np.float64], columns: Sequence[tuple[str, int, int]]
) -> list[int | None]:
    sums = np.concatenate(([0.0], np.cumsum(row))).tolist()
    return [
        round(100 * (sums[last] - sums[first]) / (last - first))
        if last > first
        else None
        for _, first, last in columns
    ]


def _heads(columns: Sequence[tuple[str, int, int]]) -> dict[int, tuple[str, int]]:
    """Return the middle column of each group -> the group, and its columns."""
    found: dict[int, tuple[str, int]] = {}
    first = 0
    for place, (name, _, _) in enumerate([*columns, (_GAP, 0, 0)]):
        if name == _GAP:
            group = columns[first][0].rpartition(": ")[0]
            found[(first + place - 1) // 2] = (group, place - first)
            first = place + 1
    return found


def participation(run: RunData) -> Chart | None:
    """Return which client took part in which round; None where no client has a line.

    Of more clients than fit those that were missing most often are shown.
    """
    events = [event for event in run.answers() if event.round]
    if not events or run.summaries():
        return None
    last = max(event.round for event in events)
    names = _shown(run, events, max(_LEAST_ROWS, _MOST_CELLS // last))
    first = max(1, last - _MOST_CELLS // max(len(names), 1) + 1)
    table: dict[str, list[int | None]] = {
        name: [None] * (last - first + 1) for name in names
    }
    for event in events:
        if event.client in table and event.round >= first:
            table[event.client][event.round - first] = STATES.index(event.status.value)
    spec: Spec = {
        "kind": "map",
        "rows": names,
        "columns": [str(number) for number in range(first, last + 1)],
        "cells": list(table.values()),
        "axis": "round",
        "states": [{"name": state, "role": state} for state in STATES],
    }
    label = "Which client took part in which round"
    tall = 120 + min(_ROW * len(names), 900)
    return Chart(name="took-part", label=label, views={"": spec}, tall=tall)


def left_out(run: RunData) -> int:
    """Return the number of clients that the map of who took part does not show."""
    chart = participation(run)
    everyone = _names(run, run.answers())
    return 0 if chart is None else len(everyone) - len(chart.views[""]["rows"])


def _shown(run: RunData, events: Sequence[ClientAnswered], most: int) -> list[str]:
    missing = Counter(e.client for e in events if e.status.value != "accepted")
    everyone = sorted(_names(run, events), key=lambda name: (-missing[name], name))
    return sorted(everyone[:most])


def _names(run: RunData, events: Sequence[ClientAnswered]) -> set[str]:
    known = run.started.client_examples if run.started else None
    return {event.client for event in events} | set(known or ())
