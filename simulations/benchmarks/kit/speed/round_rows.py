"""Rows of whole rounds: FedPrune, stock Flower and the torch floor in turns."""

import math
from collections.abc import Callable, Sequence
from functools import partial

from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.rows import Raw
from fedprune.simulations.benchmarks.kit.science.rows import Found, Piece, Row
from fedprune.simulations.benchmarks.kit.speed.figures import over_pairs
from fedprune.simulations.benchmarks.kit.speed.pairs import (
    Side,
    cpu_of,
    dense,
    floor,
    flower,
    measure_pair,
    ours,
    pfl,
    ratio_figure,
    settings_of,
)
from fedprune.simulations.benchmarks.kit.speed.work import Work

_PERCEPTRON = "fedprune.simulations.benchmarks.kit.speed.work:perceptron"
_EPOCH = Work(clients=20, images=600)
_STEP = Work(clients=100, images=32)
_LARGE = Work(clients=20, images=64, model=_PERCEPTRON)
_FEW, _SOME, _MANY = 10, 100, 1000

_Figures = Callable[[Found], list[Figure]]
Goals = Sequence[tuple[str, str, str, str]]  # over, under, goal, figure of a29d834


def _row(name: str, budget: str, sides: Sequence[Side], figures: _Figures) -> Row:
    rounds = sides[0].work.rounds

    def pieces(pairs: Sequence[int]) -> list[Piece]:
        settings = settings_of(sides, rounds)
        work = partial(measure_pair, sides, rounds)
        return [Piece(name=f"pair-{n}", settings=settings, work=work) for n in pairs]

    return Row(name=name, budget=budget, pieces=pieces, figures=figures)


def _quotients(name: str, goals: Goals) -> _Figures:
    def figures(found: Found) -> list[Figure]:
        return [one for goal in goals for one in ratio_figure(name, found, *goal)]

    return figures


def _epoch(work: Work) -> Row:
    goals = (
        ("ours", "flower", "<= 0.95", "1.6-2.2"),
        ("ours", "floor", "<= 1.35", "1.9-2.35"),
        ("dense", "flower", "<= 0.8", "0.95"),
        ("dense", "floor", "<= 1.15", "1.6"),
        ("flower", "floor", "", ""),
    )
    sides = (ours(work), dense(work), flower(work), floor(work))
    name = "lenet-epoch"
    return _row(name, "30 minutes for three pairs", sides, _quotients(name, goals))


def _step(work: Work) -> Row:
    goals = (
        ("ours", "flower", "<= 1.0", "4.9"),
        ("dense", "flower", "<= 0.6", "2.6"),
        ("ours", "floor", "", "12"),
        ("dense", "floor", "", "6.4"),
    )
    sides = (ours(work), dense(work), flower(work), floor(work))
    name = "one-step"
    return _row(name, "15 minutes for three pairs", sides, _quotients(name, goals))


def _large(work: Work) -> Row:
    goals = (("dense", "floor", "<= 1.5", "7-8, estimated"),)
    sides = (dense(work), floor(work))
    return _row(
        "large", "15 minutes for three pairs", sides, _quotients("large", goals)
    )


def _pfl(epoch: Work, step: Work) -> Row:
    works = {"epoch": epoch, "step": step}

    def pieces(pairs: Sequence[int]) -> list[Piece]:
        return [
            Piece(
                name=f"{name}-{number}",
                settings=settings_of(_beside_pfl(work), work.rounds),
                work=partial(measure_pair, _beside_pfl(work), work.rounds),
            )
            for number in pairs
            for name, work in works.items()
        ]

    def figures(found: Found) -> list[Figure]:
        return [
            one
            for name in works
            for over in ("ours", "dense", "pfl")
            for one in ratio_figure(
                f"pfl, {name}",
                {k: raw for k, raw in found.items() if k.startswith(name)},
                over,
                "floor" if over == "pfl" else "pfl",
                "",
                "pfl-research 0.6.0",
            )
        ]

    budget = "30 minutes for three pairs, after make rival-pfl"
    return Row(name="pfl", budget=budget, pieces=pieces, figures=figures)


def _beside_pfl(work: Work) -> list[Side]:
    return [ours(work), dense(work), pfl(work), floor(work)]


def _many(work: Work, counts: Sequence[int]) -> Row:
    few, some, many = counts
    sides = (
        *(ours(work.of(count), f"ours-{count}") for count in counts),
        floor(work.of(many)),
    )

    def figures(found: Found) -> list[Figure]:
        pairs = list(found.values())
        quotient = ratio_figure(
            "many", found, f"ours-{many}", "floor", "<= 2.0", "to 300 clients: 12"
        )
        return [
            *quotient,
            over_pairs(
                f"many: memory of the driver, {many} / {few} clients",
                [_memory(raw, many) / _memory(raw, few) for raw in pairs],
                f"PSS; {_memory(pairs[0], many):.0f} MB at {many}",
                goal="<= 1.1",
                reference="1.01 to 300 clients",
            ),
            over_pairs(
                f"many: exponent of CPU, {some} to {many} clients",
                [exponent(raw, some, many) for raw in pairs],
                f"{cpu_of(pairs[0], f'ours-{some}'):.2f} and "
                f"{cpu_of(pairs[0], f'ours-{many}'):.2f} CPU s a round",
                goal="<= 1.05",
                reference="1.01, dense, 100 to 300",
            ),
        ]

    return _row("many", "4 hours for three pairs", sides, figures)


def exponent(raw: Raw, some: int, many: int) -> float:
    """Return the exponent of the CPU seconds of a round in the number of clients."""
    grown = cpu_of(raw, f"ours-{many}") / cpu_of(raw, f"ours-{some}")
    return math.log(grown) / math.log(many / some)


def _memory(raw: Raw, count: int) -> float:
    return float(max(turn["pss"] for turn in raw["turns"][f"ours-{count}"]))


def rows(*, small: bool = False) -> list[Row]:
    """Return the rows; the small ones prove only that they work."""
    if small:
        return [
            _epoch(_EPOCH.of(2)),
            _step(_STEP.of(4)),
            _many(_STEP.without_ray(), (2, 4, 8)),
            _large(_LARGE.of(2).without_ray()),
            _pfl(_EPOCH.of(2).without_ray(), _STEP.of(4).without_ray()),
        ]
    many = _many(_STEP, (_FEW, _SOME, _MANY))
    return [_epoch(_EPOCH), _step(_STEP), many, _large(_LARGE), _pfl(_EPOCH, _STEP)]
