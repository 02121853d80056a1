"""The row ``pretrained``: a pretrained network, cut together, beside the alternatives.

CIFAR-10 (a JPEG copy) and ResNet-20 pretrained on clean images; ten clients, Dirichlet
0.5, 1 000 images each on average, 20 rounds of one epoch, the same augmentation for
all.  The alternatives are the controls of ``run.controls``: dense FedAvg, one cut and
the same rounds, the same widths from scratch.  One cut with reconstruction was chosen
against three cuts, and no teacher against a strong one, on data that this row does not
read (records 0072 and 0090).  Needs ``FEDPRUNE_DATA``.
"""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedprune.common.config import Config, load_config
from fedprune.common.data.places import find_folder
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.server.runs.controls.settings import control_config
from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.rows import Raw
from fedprune.simulations.benchmarks.kit.science.compared import accuracy, gap
from fedprune.simulations.benchmarks.kit.science.correct import packed_correct
from fedprune.simulations.benchmarks.kit.science.intervals import interval, unpack
from fedprune.simulations.benchmarks.kit.science.rows import (
    Found,
    Piece,
    Row,
    figure,
)
from fedprune.simulations.experiments import FOLDER
from fedprune.simulations.runs.run import run

_ROUNDS = 20
TRAINING: dict[str, object] = {
    "client.lr": 0.02,
    "client.penalty": "none",
    "client.strength": 0.0,
}
CUTS: dict[str, object] = {
    "rounds.warmup": 2,
    "rounds.sparsify": 1,
    "rounds.finetune": 1,
    "rounds.cuts": 3,
    "rounds.final": 12,
    "prune.width_multiple": 0,
    "prune.max_loss_increase": 4.0,
}
# Of the run itself; the controls get CUTS, so that one-shot reconstructs nothing.
PRUNED: dict[str, object] = {
    **CUTS,
    "rounds.cuts": 1,
    "rounds.final": 16,
    "prune.reconstruct": True,
}
_KEPT = ("rounds", "rollbacks", "bytes_up", "bytes_down", "params_final", "flops_final")
_SIZES = ("params_dense", "flops_dense", "accuracy_final")
# (method, share of the FLOPs in percent), in the order of measuring.
METHODS = (
    ("pruned", 50),
    ("one-shot", 50),
    ("dense", 100),
    ("pruned", 30),
    ("one-shot", 30),
)
_WEIGHTS = Path("pretrained") / "cifar10-resnet20.safetensors"
# Against what, at which share of the FLOPs, goal of pruned - other in points.
_GOALS = (
    ("dense", 50, ">= -2.5"),
    ("one-shot", 50, ">= 2"),
    ("scratch", 50, ">= 10"),
    ("one-shot", 30, ">= 3"),
)


def pieces(seeds: Sequence[int]) -> list[Piece]:
    """Return the runs; ``pruned`` at 50 % trains the same widths from scratch too."""
    return [
        Piece(
            name=f"{method}-{share}-{seed}",
            settings={**_seen(method), "method": method, "share": share, "seed": seed},
            work=partial(_measure, method, share, seed),
        )
        for seed in seeds
        for method, share in METHODS
    ]


def figures(found: Found) -> list[Figure]:
    """Return accuracies, and differences between methods with their intervals."""
    right = _right(found)
    shown = [
        one
        for (method, share), runs in right.items()
        for one in accuracy(
            f"pretrained, {share} % of the FLOPs: test accuracy, {method}", runs
        )
    ]
    for other, share, goal in _GOALS:
        rival = (other, 100 if other == "dense" else share)
        value = gap(right.get(("pruned", share), {}), right.get(rival, {}))
        if value is not None:
            name = f"pretrained, {share} % of the FLOPs: pruned - {other}"
            shown.append(figure(name, value, unit="points", goal=goal))
    return [*shown, *_bytes(found)]


def _seen(method: str) -> dict[str, object]:
    """Return the settings that a method has in common with the others, and its own."""
    if method == "dense":
        return {**TRAINING, "rounds": _ROUNDS}
    return {**TRAINING, **(PRUNED if method == "pruned" else CUTS)}


def _measure(method: str, share: int, seed: int) -> Raw:
    with tempfile.TemporaryDirectory(prefix="fedprune-") as folder:
        config = _config(method, share, seed, folder)
        result = run(config)
        task, models = LoadedTask(config), result.directory / "model"
        raw: Raw = {key: result.summary[key] for key in (*_KEPT, *_SIZES)}
        raw["correct"] = packed_correct(models / "final.safetensors", task)
        if config.run.controls:
            raw["scratch"] = packed_correct(models / "scratch.safetensors", task)
    return raw


def _config(method: str, share: int, seed: int, folder: str) -> Config:
    """Return the configuration of a method; one control runs beside ``pruned``."""
    weights = find_folder("cifar10", "").parent / _WEIGHTS
    own: dict[str, object] = {
        "task.weights": str(weights),
        "prune.budget": {"flops": min(share, 50) / 100},
        "run.dir": folder,
        "run.seed": seed,
        "run.engine": "inprocess",
        "run.evaluate_every": 100,
        "run.controls": ["scratch"] if (method, share) == ("pruned", 50) else [],
    }
    cuts = PRUNED if method == "pruned" else CUTS
    config = load_config(FOLDER / "pretrained-vision.toml", {**TRAINING, **cuts, **own})
    if method == "pruned":
        return config
    return control_config(method, config, config.rounds.total + 1)


def _right(found: Found) -> dict[tuple[str, int], dict[int, NDArray[np.bool_]]]:
    """Return the right test examples by (method, share) and seed."""
    right: dict[tuple[str, int], dict[int, NDArray[np.bool_]]] = {}
    for name, raw in found.items():
        method, share, seed = name.rsplit("-", 2)
        right.setdefault((method, int(share)), {})[int(seed)] = unpack(raw["correct"])
        if "scratch" in raw:
            scratch = right.setdefault(("scratch", int(share)), {})
            scratch[int(seed)] = unpack(raw["scratch"])
    return right


def _bytes(found: Found) -> list[Figure]:
    """Return how many times fewer bytes ``pruned`` sent than dense FedAvg."""
    shown = []
    for way, goal in (("up", ">= 30"), ("down", ">= 8")):
        ratios = [
            found[f"dense-100-{seed}"][f"bytes_{way}"] / raw[f"bytes_{way}"]
            for seed, raw in _pruned(found)
            if f"dense-100-{seed}" in found
        ]
        if ratios:
            name = f"pretrained, 50 % of the FLOPs: bytes {way}, dense / pruned"
            shown.append(figure(name, interval(ratios), goal=goal))
    return shown


def _pruned(found: Found) -> list[tuple[str, Raw]]:
    start = "pruned-50-"
    return [(n.removeprefix(start), raw) for n, raw in found.items() if start in n]


ROW = Row(
    name="pretrained",
    budget="5 h of one core for three seeds",
    pieces=pieces,
    figures=figures,
)
