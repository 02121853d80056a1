"""The row ``slow``: what stragglers and lost answers cost in time and accuracy.

Digits on 20 clients with skewed labels, all asked in each round: 30 % of the clients
are ten times as slow, and 20 % of the answers never arrive.  The same run without
faults stands beside it; time is virtual.  The network is that of the default run: one
that has not learned the task loses nothing by faults.
"""

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial

from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.rows import Raw
from fedprune.simulations.benchmarks.kit.science.intervals import interval
from fedprune.simulations.benchmarks.kit.science.rows import Found, Piece, Row, figure
from fedprune.simulations.runs.api import simulate

BASICS: Mapping[str, object] = {
    "task.data": "digits",
    "task.clients": 20,
    "rounds.cohort": 20,
    "rounds.cuts": 2,
    "run.controls": [],
    "run.engine": "inprocess",
}
FAULTS: Mapping[str, object] = {"faults.stragglers": 0.3, "faults.drop_out": 0.2}
_KINDS: Mapping[str, Mapping[str, object]] = {
    "plain": {},
    "faulty": FAULTS,
    "used": {**FAULTS, "rounds.late": "use"},
}
_SHOWN = {"faulty": "", "used": ", late answers used"}
_KEPT = ("accuracy_final", "virtual_seconds", "late", "failed", "refused", "rounds")


def row() -> Row:
    """Return the row."""
    return Row(
        name="slow",
        budget="10 CPU minutes with three seeds",
        pieces=_pieces,
        figures=_figures,
    )


def _pieces(seeds: Sequence[int]) -> list[Piece]:
    return [
        Piece(
            name=f"{kind}-{seed}",
            settings={**BASICS, **faults, "run.seed": seed},
            work=partial(_measure, {**BASICS, **faults, "run.seed": seed}),
        )
        for seed in seeds
        for kind, faults in _KINDS.items()
    ]


def _measure(settings: Mapping[str, object]) -> Raw:
    with tempfile.TemporaryDirectory(prefix="fedprune-") as folder:
        summary = simulate(config={**settings, "run.dir": folder}).summary
    return {name: summary[name] for name in (*_KEPT, "late_used")}


def _figures(found: Found) -> list[Figure]:
    head = "slow: 30 % stragglers x 10, 20 % drop-outs"
    shown = []
    for kind, text in _SHOWN.items():
        pairs = _pairs(found, kind)
        if pairs:
            shown += [_time(f"{head}{text}", pairs), _lost(f"{head}{text}", pairs)]
    return shown


def _pairs(found: Found, kind: str) -> list[tuple[Raw, Raw]]:
    """Return a run without faults and one of a kind for each seed that has both."""
    seeds = [name.rpartition("-")[2] for name in found if name.startswith("plain-")]
    return [
        (found[f"plain-{seed}"], found[f"{kind}-{seed}"])
        for seed in seeds
        if f"{kind}-{seed}" in found
    ]


def _time(head: str, pairs: Sequence[tuple[Raw, Raw]]) -> Figure:
    ratios = [
        faulty["virtual_seconds"] / plain["virtual_seconds"] for plain, faulty in pairs
    ]
    return figure(
        f"{head}: virtual time over that without faults",
        interval(ratios),
        goal="<= 2.5",
        note="of each seed: " + ", ".join(f"{one:.2f}" for one in ratios),
    )


def _lost(head: str, pairs: Sequence[tuple[Raw, Raw]]) -> Figure:
    lost = [
        100.0 * (plain["accuracy_final"] - faulty["accuracy_final"])
        for plain, faulty in pairs
    ]
    return figure(
        f"{head}: accuracy lost",
        interval(lost),
        unit="points",
        goal="<= 2",
        note=_reached(pairs),
    )


def _reached(pairs: Sequence[tuple[Raw, Raw]]) -> str:
    each = [
        f"{100 * plain['accuracy_final']:.1f} -> {100 * faulty['accuracy_final']:.1f}"
        for plain, faulty in pairs
    ]
    used = [raw["late_used"] for _, raw in pairs if "late_used" in raw]
    text = "% of each seed: " + ", ".join(each)
    late = (
        f"; late answers that counted: {', '.join(map(str, used))}" if any(used) else ""
    )
    return text + late
