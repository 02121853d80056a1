"""The row ``ladder``: accuracies at the sizes that HeteroFL and FedSparsify report.

All of MNIST on 100 clients, ten of them a round.  A goal is met where the whole
interval over seeds and test examples meets it.  Needs ``FEDPRUNE_DATA``.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.rows import Interval, Raw
from fedprune.simulations.benchmarks.kit.science.compared import (
    by_seed,
    gap,
    listed,
    right_of,
)
from fedprune.simulations.benchmarks.kit.science.correct import correct
from fedprune.simulations.benchmarks.kit.science.ended import ended
from fedprune.simulations.benchmarks.kit.science.intervals import (
    interval,
    pack,
)
from fedprune.simulations.benchmarks.kit.science.ladder.settings import (
    LEVELS,
    MEGABYTES_UP,
    RUNS,
    STORED,
    TWO,
    TWO_GOAL,
    TWO_PUBLISHED,
    Level,
)
from fedprune.simulations.benchmarks.kit.science.rows import (
    Found,
    Piece,
    Row,
    figure,
)

Runs = Mapping[int, Raw]  # seed -> what a run measured
_KEPT = ("rounds", "rollbacks", "bytes_up", "bytes_down", "params_final")
_MILLION = 1e6


def pieces(seeds: Sequence[int]) -> list[Piece]:
    """Return one run for each method, size and seed."""
    return [
        Piece(
            name=f"{name}-{seed}",
            settings={**settings, "seed": seed},
            work=partial(_measure, name, seed),
        )
        for seed in seeds
        for name, settings in RUNS.items()
    ]


def figures(found: Found) -> list[Figure]:
    """Return accuracies and sizes of the methods, and differences of them."""
    runs = {name: by_seed(found, name) for name in RUNS}
    return [
        *(
            one
            for name, level in LEVELS.items()
            for one in _of_level(level, runs[f"pruned-{name}"], runs[f"slice-{name}"])
        ),
        *_two_classes(runs),
    ]


def _measure(name: str, seed: int) -> Raw:
    with ended(RUNS[name], seed) as run:
        raw = run.figures(*_KEPT)
        network = run.network()
        weights = [one.detach().numpy() for one in network.parameters()]
        masked = "prune.mask" in RUNS[name]
        count = np.count_nonzero if masked else np.size
        raw["stored"] = sum(int(count(one)) for one in weights)
        return raw | {"correct": pack(correct(network, run.task))}


def _of_level(level: Level, pruned: Runs, sliced: Runs) -> list[Figure]:
    head = f"ladder, {level.params} parameters"
    return [
        *_accuracy(
            f"{head}: test accuracy, pruned", pruned, level.goal, level.published
        ),
        *_most(f"{head}: stored, pruned", pruned, "stored", f"<= {level.params}"),
        *_accuracy(f"{head}: test accuracy, slice", sliced),
        *_gap(f"{head}: accuracy, pruned - slice", pruned, sliced),
    ]


def _two_classes(runs: Mapping[str, Runs]) -> list[Figure]:
    head, sparse = "ladder, two classes a client", runs["fedsparsify"]
    return [
        *(one for name in TWO for one in _of_two(name, runs[name], sparse)),
        *_accuracy(f"{head}: test accuracy, fedsparsify", sparse),
        *_most(f"{head}: bytes up, fedsparsify", sparse, "bytes_up"),
    ]


def _of_two(name: str, runs: Runs, sparse: Runs) -> list[Figure]:
    head = "ladder, two classes a client"
    title = f"{head}: test accuracy, {name}"
    return [
        *_accuracy(title, runs, TWO_GOAL, TWO_PUBLISHED),
        *_most(f"{head}: stored, {name}", runs, "stored", f"<= {STORED}"),
        *_most(f"{head}: bytes up, {name}", runs, "bytes_up", f"<= {MEGABYTES_UP}"),
        *_gap(f"{head}: accuracy, {name} - fedsparsify", runs, sparse),
    ]


def _accuracy(
    name: str, runs: Runs, goal: str = "", published: str = ""
) -> list[Figure]:
    """Return the mean accuracy with its interval; none without a run."""
    if not runs:
        return []
    right = list(right_of(runs).values())
    value = interval(right, same_examples=True).scaled(100.0)
    each = listed([100.0 * float(one.mean()) for one in right])
    megabytes = [_mean(runs, key) / _MILLION for key in ("bytes_up", "bytes_down")]
    note = f"{each}; {_listed(runs, 'stored')} stored, {_listed(runs, 'rounds')} rounds"
    note += ", {:.2f} MB up and {:.2f} MB down".format(*megabytes)
    return [
        Figure(
            name=name,
            value=value.mean,
            low=value.low,
            high=value.high,
            unit="%",
            goal=goal,
            reference=published,
            detail=f"{_ends(value)}: {note}",
        )
    ]


def _ends(value: Interval) -> str:
    """Return an interval with two digits after the point."""
    if value.seeds == 1:
        return str(value)
    low, high = (max(min(end, 100.0), 0.0) for end in (value.low, value.high))
    return f"95 % interval {low:.2f} to {high:.2f}, n = {value.seeds}"


def _most(name: str, runs: Runs, key: str, goal: str = "") -> list[Figure]:
    """Return the largest count over the seeds, bytes in MB; none without a run."""
    if not runs:
        return []
    counts = [int(raw[key]) for raw in runs.values()]
    megabytes = key.startswith("bytes")
    value = max(counts) / _MILLION if megabytes else max(counts)
    detail = f"the most of n = {len(counts)}: {', '.join(map(str, counts))}"
    unit = "MB" if megabytes else ""
    return [Figure(name=name, value=value, unit=unit, goal=goal, detail=detail)]


def _gap(name: str, first: Runs, second: Runs) -> list[Figure]:
    value = gap(right_of(first), right_of(second))
    return [] if value is None else [figure(name, value, unit="points")]


def _mean(runs: Runs, key: str) -> float:
    return float(np.mean([raw[key] for raw in runs.values()]))


def _listed(runs: Runs, key: str) -> str:
    return ", ".join(str(raw[key]) for raw in runs.values())


ROW = Row(
    name="ladder",
    budget="about 2 h of one core for three seeds",
    pieces=pieces,
    figures=figures,
)
