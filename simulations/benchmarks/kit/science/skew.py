"""The row ``skew``: whether cuts cost the worst class more where labels are skewed.

MNIST at 14 x 14, 10 000 images on 100 clients, Dirichlet 0.1, ten of them a round; the
network of ``classics`` is cut to 30 % of its parameters, once training has settled.
Dense FedAvg runs beside it over as many rounds.  Needs ``FEDPRUNE_DATA``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.rows import Raw
from fedprune.simulations.benchmarks.kit.science import images
from fedprune.simulations.benchmarks.kit.science.classics import networks
from fedprune.simulations.benchmarks.kit.science.compared import (
    Right,
    by_seed,
    difference,
    listed,
)
from fedprune.simulations.benchmarks.kit.science.correct import correct
from fedprune.simulations.benchmarks.kit.science.ended import Ended, ended
from fedprune.simulations.benchmarks.kit.science.intervals import pack, unpack
from fedprune.simulations.benchmarks.kit.science.rows import (
    Found,
    Piece,
    Row,
    figure,
    run_pieces,
)

CLASSES = 10
BASICS: Mapping[str, object] = {
    "task.data": f"{images.__name__}:small_mnist",
    "task.model": f"{networks.__name__}:SmallResidual",
    "task.partition": {"kind": "dirichlet", "alpha": 0.1},
    "task.clients": 100,
    "rounds.warmup": 40,
    "rounds.sparsify": 1,
    "rounds.finetune": 2,
    "rounds.cuts": 4,
    "rounds.final": 48,
    "rounds.cohort": 10,
    "prune.budget": {"params": 0.3},
    "prune.width_multiple": 1,
    "update.update_density": 0.3,
    "run.controls": ["dense"],
}
NETWORKS = ("before_cut", "final", "dense")
_MOST = 3.0  # points that the worst class may lose more than in dense FedAvg


def pieces(seeds: Sequence[int]) -> list[Piece]:
    """Return one run with its dense control for each seed."""
    return run_pieces(seeds, BASICS, _measure)


def figures(found: Found) -> list[Figure]:
    """Return the recall of each class, and what the worst class loses beside dense."""
    runs = by_seed(found, "run")
    if not runs:
        return []
    right = {
        name: [_of_class(runs, name, number) for number in range(CLASSES)]
        for name in NETWORKS
    }
    return [
        *(_recall(name, classes) for name, classes in right.items()),
        _worst(right["dense"], right["final"]),
    ]


def _measure(seed: int) -> Raw:
    with ended(BASICS, seed) as run:
        kept = ("rounds", "rollbacks", "params_dense", "params_final", "budget_met")
        found = {name: _by_class(run, name) for name in NETWORKS}
        return run.figures(*kept) | {"classes": found}


def _by_class(run: Ended, name: str) -> list[Raw]:
    """Return which test examples of each class a network gets right, packed."""
    classes = run.task.test.batch(np.arange(len(run.task.test))).targets.numpy()
    right = correct(run.network(name), run.task)
    return [pack(right[classes == number]) for number in range(CLASSES)]


def _of_class(runs: Mapping[int, Raw], name: str, number: int) -> Right:
    return {s: unpack(raw["classes"][name][number]) for s, raw in runs.items()}


def _recall(name: str, classes: Sequence[Right]) -> Figure:
    """Return the recall of the worst class, and of each in the detail."""
    each = [100.0 * float(np.mean(_means(right))) for right in classes]
    title = {"before_cut": "before the first cut", "final": "final"}.get(name, name)
    return Figure(
        name=f"skew: recall of the worst class, {title}",
        value=min(each),
        unit="%",
        detail=f"n = {len(classes[0])}; classes 0 to 9: {listed(each, 1)}",
    )


def _worst(dense: Sequence[Right], final: Sequence[Right]) -> Figure:
    """Return the largest loss of a class: before the cuts both are the same network.

    The class is that of the largest mean over the seeds, so noise makes the loss
    larger, never smaller.  The upper end is the largest of all classes: the goal holds
    where it does for each of them.
    """
    losses = [difference(*pair) for pair in zip(dense, final, strict=True)]
    number = max(range(CLASSES), key=lambda n: losses[n].mean)
    means = [one.mean for one in losses]
    value = replace(losses[number], high=max(one.high for one in losses))
    return figure(
        "skew: what the worst class loses more than in dense FedAvg",
        value,
        unit="points",
        goal=f"<= {_MOST:g}",
        note=f"class {number}; classes 0 to 9: {listed(means, 1)}",
    )


def _means(right: Right) -> NDArray[np.float64]:
    return np.array([one.mean() for one in right.values()])


ROW = Row(
    name="skew",
    budget="about 15 CPU minutes with three seeds",
    pieces=pieces,
    figures=figures,
)
