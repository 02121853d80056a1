"""The row ``classics``: accuracy with a part of the system less that without it.

MNIST at 14 x 14, 10 000 images on 20 clients, Dirichlet 0.5; a small residual network
with batch norm is cut to 5 % of its parameters.  A part *earns it* where the whole
interval is above 0.  Needs ``FEDPRUNE_DATA``.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.rows import Interval, Raw
from fedprune.simulations.benchmarks.kit.science.classics.switches import (
    BASE,
    BASICS,
    RUNS,
    SWITCHES,
    Switch,
)
from fedprune.simulations.benchmarks.kit.science.compared import (
    accuracy,
    by_seed,
    gap,
    listed,
    right_of,
)
from fedprune.simulations.benchmarks.kit.science.correct import correct
from fedprune.simulations.benchmarks.kit.science.ended import ended
from fedprune.simulations.benchmarks.kit.science.intervals import pack, unpack
from fedprune.simulations.benchmarks.kit.science.rows import (
    Found,
    Piece,
    Row,
    figure,
)
from fedprune.simulations.export.export import export_run

_KEPT = ("rounds", "rollbacks", "bytes_up", "bytes_down", "params_dense")
_SIZES = ("params_final", "weight_density", "budget_met")


def pieces(seeds: Sequence[int]) -> list[Piece]:
    """Return one run for each change of the base and each seed."""
    return [
        Piece(
            name=f"{name}-{seed}",
            settings={**BASICS, **RUNS[name], "seed": seed},
            work=partial(_measure, name, seed),
        )
        for seed in seeds
        for name in RUNS
    ]


def figures(found: Found) -> list[Figure]:
    """Return the accuracy of the base, and one difference for each switch."""
    runs = {name: by_seed(found, name) for name in RUNS}
    base = accuracy("classics: test accuracy, base", right_of(runs[BASE]))
    return [*base, *(one for s in SWITCHES for one in _compared(s, runs))]


def verdict_of(value: Interval) -> str:
    """Return what an interval says of a part.

    >>> verdict_of(Interval(mean=1.0, low=-0.5, high=2.5, seeds=3))
    'not resolved'
    """
    if value.low > 0.0:
        return "earns it"
    return "does not earn it" if value.high < 0.0 else "not resolved"


def _measure(name: str, seed: int) -> Raw:
    with ended({**BASICS, **RUNS[name]}, seed) as run:
        raw = run.figures(*_KEPT, *_SIZES)
        raw["correct"] = pack(correct(run.network(), run.task))
        packed = export_run(run.folder, format_="fpz", trust_code=True)
        raw["bytes_file"] = packed["bytes"]
    return raw


def _compared(switch: Switch, runs: Mapping[str, Mapping[int, Raw]]) -> list[Figure]:
    """Return the difference of a switch; none without a seed that both runs have."""
    on, off = runs[switch.on], runs[switch.off]
    both = sorted(on.keys() & off.keys())
    value = gap(right_of(on), right_of(off))
    if value is None:
        return []
    sides = {"on": [on[seed] for seed in both], "off": [off[seed] for seed in both]}
    text = "; ".join(f"{side}: {_described(raws)}" for side, raws in sides.items())
    title = f"classics: {switch.name}: accuracy, on - off"
    parts = [verdict_of(value), *([switch.note] if switch.note else []), text]
    return [figure(title, value, unit="points", note="; ".join(parts))]


def _described(raws: Sequence[Raw]) -> str:
    """Return accuracies, sizes and rounds: the runs may differ in more than a key."""
    right = [100.0 * float(unpack(raw["correct"]).mean()) for raw in raws]
    weights = [raw["params_final"] * raw["weight_density"] for raw in raws]
    shares = [w / raw["params_dense"] for w, raw in zip(weights, raws, strict=True)]
    rounds = ", ".join(str(raw["rounds"]) for raw in raws)
    bytes_ = ", ".join(str(raw["bytes_file"]) for raw in raws)
    text = f"{listed(right)}, weights other than 0 {listed(shares, 4)} of the dense "
    text += f"ones, .fpz {bytes_} B, {rounds} rounds"
    unmet = sum(not raw["budget_met"] for raw in raws)
    return f"{text}, {unmet} above the budget" if unmet else text


ROW = Row(
    name="classics",
    budget="about 2 h of one core for three seeds",
    pieces=pieces,
    figures=figures,
)
