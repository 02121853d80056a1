"""The row ``quantised``: what the int8 and codebook files of a small network lose.

The network of the row ``pretrained``, ResNet-20 on CIFAR-10 at half of its FLOPs, with
widths that are multiples of 4 for all, so that the runs differ in their last round
alone.  They have five final rounds: what a file loses does not need the other eleven.
A file of the run *plain* is quantised after training; those of the others had a last
round that trained for it, int8 with the network that was sent as teacher.  Every file
is compared with the float network of *plain*, example by example.  Needs
``FEDPRUNE_DATA``.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fedprune.common.errors import DataError
from fedprune.simulations.benchmarks.kit import resnet20
from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.rows import Raw
from fedprune.simulations.benchmarks.kit.science.compared import (
    Right,
    accuracy,
    by_seed,
    gap,
    right_of,
)
from fedprune.simulations.benchmarks.kit.science.correct import correct, correct_by
from fedprune.simulations.benchmarks.kit.science.ended import Ended, ended
from fedprune.simulations.benchmarks.kit.science.intervals import pack
from fedprune.simulations.benchmarks.kit.science.pretrained import PRUNED, TRAINING
from fedprune.simulations.benchmarks.kit.science.rows import (
    Found,
    Piece,
    Row,
    figure,
)
from fedprune.simulations.experiments import FOLDER
from fedprune.simulations.export.check import OnnxNetwork
from fedprune.simulations.export.export import export_run

BITS = 5  # the default (record 0101)
PLAIN = "plain"
BASICS: Mapping[str, object] = {
    **TRAINING,
    **PRUNED,
    "prune.budget": {"flops": 0.5},
    "prune.width_multiple": 4,
    "rounds.final": 5,
}
RUNS: Mapping[str, Mapping[str, object]] = {
    PLAIN: {},
    "int8": {"quantise.kind": "int8"},
    "codebook": {"quantise.kind": "codebook", "quantise.bits": BITS},
}
FILES = {"int8": "int8 ONNX", "codebook": f"codebook .fpz of {BITS} bits"}
_FLOAT = "float"
_MOST = 0.5  # points that a file may lose


def pieces(seeds: Sequence[int]) -> list[Piece]:
    """Return one run for each form and seed, of which both files are evaluated."""
    return [
        Piece(
            name=f"{name}-{seed}",
            settings={**BASICS, **settings, **_seen(name), "seed": seed},
            work=partial(_measure, name, seed),
        )
        for seed in seeds
        for name, settings in RUNS.items()
    ]


def figures(found: Found) -> list[Figure]:
    """Return accuracies, and what each file loses against the float network."""
    runs = {name: by_seed(found, name) for name in RUNS}
    exact = right_of(runs[PLAIN], _FLOAT)
    shown = accuracy("quantised: test accuracy, float, plain", exact)
    for form, file in FILES.items():
        for name in (PLAIN, form):
            shown += _lost(name, file, exact, runs[name], form)
    return shown


def _seen(name: str) -> dict[str, object]:
    """Return what the figures of a run depend on beside its settings."""
    return {"bits of the codebook file": BITS} if name == PLAIN else {}


def _measure(name: str, seed: int) -> Raw:
    weights = resnet20.weights_file()
    if weights is None:
        msg = f"{resnet20.WEIGHTS} is not in the folder of FEDPRUNE_DATA"
        raise DataError(msg)
    settings = {**BASICS, **RUNS[name], "task.weights": str(weights)}
    with ended(settings, seed, FOLDER / "pretrained-vision.toml") as run:
        kept = ("rounds", "rollbacks", "budget_met", "params_final", "flops_final")
        raw = run.figures(*kept)
        right = {_FLOAT: correct(run.network(), run.task), **_files(run)}
    return raw | {key: pack(value) for key, value in right.items()}


def _files(run: Ended) -> dict[str, NDArray[np.bool_]]:
    """Return which test examples both files get right, by onnxruntime and by torch."""
    # Without preprocessing in the file: the task normalises its batches.
    onnx = run.folder / "network.onnx"
    export_run(
        run.folder, format_="onnx", int8=True, raw=True, output=onnx, trust_code=True
    )
    _, loaded = run.codebook(BITS)
    return {
        "int8": correct_by(OnnxNetwork(onnx, run.network()), run.task),
        "codebook": correct(loaded, run.task),
    }


def _lost(
    name: str, file: str, exact: Right, runs: Mapping[int, Raw], form: str
) -> list[Figure]:
    """Return the points that the file of one form loses; none without a seed."""
    right = right_of(runs, form)
    value = gap(exact, right)
    if value is None:
        return []
    way = "quantised after training" if name == PLAIN else "trained for it"
    own = gap(right_of(runs, _FLOAT), right)
    beside = "" if own is None else f"; {own.mean:+.2f} against its own float network"
    sizes = ", ".join(str(raw["params_final"]) for raw in runs.values())
    each = ", ".join(f"{100.0 * float(one.mean()):.2f}" for one in right.values())
    return [
        figure(
            f"quantised: points lost, {file}, {way}",
            value,
            unit="points",
            goal="" if name == PLAIN else f"<= {_MOST}",
            note=f"test accuracy {each}, {sizes} parameters{beside}",
        )
    ]


ROW = Row(
    name="quantised",
    budget="about 1.5 h of one core for three seeds",
    pieces=pieces,
    figures=figures,
)
