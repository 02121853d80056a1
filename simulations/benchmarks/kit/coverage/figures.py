"""Figures of the coverage: shares by set, exactness, cost, and torch-pruning."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from fedprune.simulations.benchmarks.kit.coverage import onnx
from fedprune.simulations.benchmarks.kit.coverage.nets.entry import ORIGINS
from fedprune.simulations.benchmarks.kit.coverage.row import (
    BREAKS,
    CRASHED,
    EXACT,
    GUARDED,
    LIMIT,
    WRONG,
    Row,
)
from fedprune.simulations.benchmarks.kit.harness import Figure

FEW = 0.30  # share of FLOPs that a network must be able to go below
_BEFORE = Path(__file__).with_name("before.json")
_NAMED = 12  # networks in a detail
_RIVAL = "torch-pruning 1.6.1"


def figures(rows: Sequence[Row], *, whole: bool = True) -> list[Figure]:
    """Return the figures of measured networks.

    Args:
        rows: Results, one for each network.
        whole: Whether these are all networks of the list; goals are for those.
    """
    found = [_share(origin, _of(rows, origin), ">= 92") for origin in ORIGINS]
    found.append(_share("all", list(rows), ">= 95"))
    found += [
        _count("wrong structures", rows, {WRONG}, "== 0"),
        _count("cut networks that fail", rows, {BREAKS, GUARDED}, "== 0"),
        _count("networks that end in an untyped error", rows, {CRASHED}, "== 0"),
        _count("networks at a limit of time or memory", rows, {LIMIT}, "== 0"),
        _exactness(rows),
        _flops(rows),
        _onnx(rows),
        *_seconds(rows),
        *(
            _rival(o, _of(rows, o))
            for o in ORIGINS
            if any(r.rival for r in _of(rows, o))
        ),
    ]
    if whole:
        return found
    return [_without_goal(figure) for figure in found]


def _share(name: str, rows: list[Row], goal: str) -> Figure:
    counted = [row for row in rows if row.counts]
    good = [row for row in counted if row.outcome == EXACT]
    outside = [row for row in rows if not row.counts]
    kinds = Counter(row.outcome for row in counted if row.outcome != EXACT)
    parts = [f"{len(good)} of {len(counted)}"]
    parts += [f"{count} {kind}" for kind, count in kinds.most_common()]
    if outside:
        parts.append(f"left out: {_names(outside)}")
    return Figure(
        name=f"{name}: cut and exact",
        value=100 * len(good) / max(len(counted), 1),
        unit="%",
        goal=goal,
        detail=", ".join(parts),
    )


def _count(name: str, rows: Sequence[Row], kinds: set[str], goal: str) -> Figure:
    found = [row for row in rows if row.outcome in kinds]
    return Figure(name=name, value=len(found), goal=goal, detail=_names(found))


def _exactness(rows: Sequence[Row]) -> Figure:
    cut = [row for row in rows if row.outcome == EXACT]
    blind = [row for row in cut if row.change < 1e-3]  # noqa: PLR2004 - of the output
    detail = f"{len(cut)} networks, 8 masks at 3 densities, batches of 1 and 3, float64"
    if blind:
        detail += f"; masks change less than 0.1 %: {_names(blind)}"
    return Figure(
        name="masked - cut at worst, relative",
        value=max((row.difference for row in cut), default=0.0),
        goal="<= 1e-9",
        detail=detail,
    )


def _flops(rows: Sequence[Row]) -> Figure:
    before = set(json.loads(_BEFORE.read_text("utf-8"))["cut"])
    cut = [row for row in rows if row.key in before]
    good = [row for row in cut if row.outcome == EXACT and row.flops < FEW]
    rest = [row for row in cut if row not in good]
    return Figure(
        name=f"FLOPs can go below {FEW:.0%}",
        value=100 * len(good) / max(len(cut), 1),
        unit="%",
        goal=">= 93",
        detail=f"{len(good)} of {len(cut)} that had a cut at the start; not: "
        f"{_names(rest)}",
    )


def _onnx(rows: Sequence[Row]) -> Figure:
    tried = [row for row in rows if row.onnx is not None or row.onnx_error]
    good = [row for row in tried if row.onnx is not None and row.onnx <= onnx.LIMIT]
    return Figure(
        name="cut network in onnxruntime is the same",
        value=100 * len(good) / max(len(tried), 1),
        unit="%",
        goal=">= 95",
        detail=f"{len(good)} of {len(tried)} within {onnx.LIMIT:g}, with a free batch; "
        f"not: {_names([row for row in tried if row not in good])}",
    )


def _seconds(rows: Sequence[Row]) -> list[Figure]:
    timed = [row for row in rows if row.units]
    times = [row.structure_s for row in timed] or [0.0]
    slow = sorted(timed, key=lambda row: -row.structure_s)[:3]
    named = ", ".join(f"{row.key} {row.structure_s:.1f}" for row in slow)
    return [
        Figure(
            name="structure, median",
            value=median(times),
            unit="s CPU",
            goal="<= 0.3",
            detail=f"{len(timed)} networks with units, 1 thread",
        ),
        Figure(
            name="structure, worst",
            value=max(times),
            unit="s CPU",
            goal="<= 2",
            detail=named,
        ),
        Figure(
            name="whole list",
            value=sum(row.seconds for row in rows) / 60,
            unit="min CPU",
            goal="<= 90",
            detail=f"{len(rows)} networks",
        ),
    ]


def _rival(origin: str, rows: list[Row]) -> Figure:
    tried = [row for row in rows if row.rival]
    kinds = Counter(row.rival for row in tried)
    rest = [f"{count} {kind}" for kind, count in kinds.most_common() if kind != EXACT]
    ours = sum(row.outcome == EXACT for row in tried)
    return Figure(
        name=f"{origin}: cut and exact by torch-pruning",
        value=kinds[EXACT],
        reference=_RIVAL,
        detail=f"of {len(tried)}, ours {ours}; {', '.join(rest)}",
    )


def _of(rows: Sequence[Row], origin: str) -> list[Row]:
    return [row for row in rows if row.origin == origin]


def _names(rows: Sequence[Row], named: Callable[[Row], str] = lambda r: r.key) -> str:
    found = [named(row) for row in rows]
    more = len(found) - _NAMED
    return ", ".join(found[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _without_goal(figure: Figure) -> Figure:
    exact = figure.goal in {"== 0", "<= 1e-9"}
    return Figure(
        name=figure.name,
        value=figure.value,
        unit=figure.unit,
        reference=figure.reference,
        goal=figure.goal if exact else "",
        detail=figure.detail,
    )
