"""The row ``smallest``: how short a file of LeNet-5 is whose test error is 1 % or less.

All of MNIST on 20 clients, Dirichlet 0.5, ten of them a round: the experiment
``mnist-lenet5`` with a mask of single weights in the final rounds, and last rounds that
train for a codebook, as in Deep Compression (Han et al. 2016, arXiv:1510.00149: 39
times smaller at 0.74 % error, centralised).  Smaller budgets were tried on the last
10 000 training images, with the seed 10 (record 0105).  Needs ``FEDPRUNE_DATA``.
"""

from collections.abc import Mapping, Sequence

from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.rows import Raw
from fedprune.simulations.benchmarks.kit.science.compared import by_seed, right_of
from fedprune.simulations.benchmarks.kit.science.correct import correct
from fedprune.simulations.benchmarks.kit.science.ended import Ended, ended
from fedprune.simulations.benchmarks.kit.science.intervals import interval, pack
from fedprune.simulations.benchmarks.kit.science.rows import (
    Found,
    Piece,
    Row,
    figure,
    run_pieces,
)
from fedprune.simulations.experiments import FOLDER

BITS = 5
SETTINGS: Mapping[str, object] = {
    "prune.floor": 10,  # keeps channels before the wide layer
    "prune.mask": {
        "kind": "unstructured",
        "density": 0.6,
        "begin": 1,
        "end": 36,
        "frequency": 4,
    },
    "quantise.kind": "codebook",
    "quantise.bits": BITS,
    "quantise.rounds": 8,
}
_FLOAT32 = 4  # bytes of a weight
_MOST, _LEAST = 1.0, 500  # percent of the test examples; how many times smaller
_KEPT = ("rounds", "rollbacks", "params_dense", "params_final", "weight_density")


def pieces(seeds: Sequence[int]) -> list[Piece]:
    """Return one long run for each seed."""
    return run_pieces(seeds, SETTINGS, _measure)


def figures(found: Found) -> list[Figure]:
    """Return the error of the file, and its length beside that of dense float32."""
    runs = by_seed(found, "run")
    if not runs:
        return []
    wrong = [~right for right in right_of(runs).values()]
    error = interval(wrong, same_examples=True).scaled(100.0)
    ratios = [_FLOAT32 * raw["params_dense"] / raw["bytes"] for raw in runs.values()]
    lengths = ", ".join(
        f"{raw['bytes']} B, {raw['params_final']} parameters, "
        f"{raw['weight_density']:.2f} of them not zero, {raw['rounds']} rounds"
        for raw in runs.values()
    )
    return [
        figure(
            "smallest: test error of the .fpz", error, unit="%", goal=f"<= {_MOST:g}"
        ),
        figure(
            "smallest: dense float32 / .fpz",
            interval(ratios),
            unit="x",
            goal=f">= {_LEAST}",
            note=f"39 in Deep Compression; {lengths}",
        ),
    ]


def _measure(seed: int) -> Raw:
    with ended(SETTINGS, seed, FOLDER / "mnist-lenet5.toml") as run:
        return run.figures(*_KEPT) | _file(run)


def _file(run: Ended) -> Raw:
    """Return the length of the file, and which test examples it gets right."""
    path, network = run.codebook(BITS)
    return {"bytes": path.stat().st_size, "correct": pack(correct(network, run.task))}


ROW = Row(
    name="smallest",
    budget="1.5 h of one core for three seeds",
    pieces=pieces,
    figures=figures,
)
