"""The row ``cost``: the default bounds on each client against none, all honest.

Both run in one process, the one that starts alternating with the seed, after a run that
does not count; the CPU is that of the process.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.rows import Raw, over_seeds, spread_text
from fedprune.simulations.benchmarks.kit.science.rows import Found, Piece, Row, figure
from fedprune.simulations.benchmarks.kit.trust.cases import Case, measured

_GOALS = {"accuracy lost": "<= 0.2", "bytes more": "<= 0", "CPU more": "<= 3"}


def row(*, smoke: bool = False) -> Row:
    """Return the row; for a smoke test with the small network and equal parts."""
    return Row(
        name="cost",
        budget="1 CPU hour",
        pieces=partial(_pieces, _cases(smoke=smoke)),
        figures=partial(_figures, _cases(smoke=smoke)),
    )


def _cases(*, smoke: bool) -> list[Case]:
    if smoke:
        return [Case(network="norm", split="iid")]
    both = ("lenet", "norm")
    return [
        Case(network=network, split=split)
        for network in both
        for split in ("iid", "dirichlet")
    ]


def _pieces(cases: Sequence[Case], seeds: Sequence[int]) -> list[Piece]:
    return [
        Piece(
            name=f"{case.name}-{seed}",
            settings={
                "bounded": case.settings,
                "unbounded": _without(case).settings,
                "seed": seed,
            },
            work=partial(_measure, case, seed),
        )
        for seed in seeds
        for case in cases
    ]


def _without(case: Case) -> Case:
    return replace(case, bounds=False)


def _measure(case: Case, seed: int) -> Raw:
    sides = {"bounded": case, "unbounded": _without(case)}
    order = sorted(sides, reverse=bool(seed % 2))
    # The first run of a process also imports modules and reads the images.
    measured(sides[order[1]], seed)
    return {name: measured(sides[name], seed) for name in order}


def _figures(cases: Sequence[Case], found: Found) -> list[Figure]:
    shown: list[Figure] = []
    for case in cases:
        raws = [raw for name, raw in found.items() if name.startswith(case.name)]
        pairs = [(raw["bounded"], raw["unbounded"]) for raw in raws]
        values = {
            "accuracy lost": [_accuracy(b) - _accuracy(a) for a, b in pairs],
            "bytes more": [100 * (_bytes(a) / _bytes(b) - 1) for a, b in pairs],
            "CPU more": [100 * (a["seconds"] / b["seconds"] - 1) for a, b in pairs],
        }
        shown += [
            figure(
                f"cost: {case.network}, {case.split}, {what}",
                over_seeds(each),
                unit="points" if what == "accuracy lost" else "%",
                goal=_GOALS[what],
                note=spread_text(each),
            )
            for what, each in values.items()
            if each
        ]
    return shown


def _accuracy(raw: Raw) -> float:
    return 100 * float(raw["accuracy_final"])


def _bytes(raw: Raw) -> int:
    return int(raw["bytes_up"]) + int(raw["bytes_down"])
