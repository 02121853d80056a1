"""Latency of dense, pruned and quantised networks in onnxruntime, for a benchmark."""

import copy
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from common.messages import Mask
from common.models.flat import get_weights
from common.pruning.budget import shares
from common.pruning.importance import weight_scores
from common.pruning.plan import apply_plan
from common.pruning.structure import Structure
from common.pruning.trace import find_structure
from simulations.benchmarks.harness import Figure
from simulations.benchmarks.networks import Network
from simulations.export import onnx_runner, write_onnx
from simulations.quantised import quantise_onnx

_REPEATS = 30
_WARM = 3
_MULTIPLE = 8
_CALIBRATION = 4  # batches of 8 random images: ranges, not accuracy, matter here
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "amx_int8")


@dataclass(frozen=True, slots=True)
class Goals:
    """How many times faster than the dense float32 network, at least."""

    pruned: float
    int8: float


LATENCY_GOALS: Mapping[str, Goals] = {
    "ResNet-18": Goals(3.0, 6.0),
    "MobileNetV2": Goals(1.9, 2.4),
}


def half(model: nn.Module, structure: Structure) -> Mask:
    """Keep the half of all units with the greatest magnitude, widths legal.

    One threshold over the network on magnitudes over their mean in the group, as the
    usual global pruning has (torch-pruning's default); each width is the nearest
    multiple of 8, or the full one.  No cost is looked at.
    """
    full = structure.full()
    rng = np.random.default_rng(0)
    scores = weight_scores(structure, full, get_weights(model), "l2-group", rng)
    above = scores >= np.sort(scores)[structure.units // 2]
    keep = np.zeros(structure.units, dtype=np.bool_)
    for group in structure.groups:
        order = group.units[np.argsort(-scores[group.units], kind="stable")]
        share = int(structure.channels[order[0]])
        step = max(_MULTIPLE // share, 1)
        width = step * max(round(int(above[order].sum()) / step), 1)
        keep[order[: min(width, len(order))]] = True
    return keep


def latency(name: str, network: Network, goals: Goals) -> Iterator[Figure]:
    """Yield how much faster the pruned, and the pruned int8 network is."""
    model, example = network.make().eval(), network.example()
    structure = find_structure(model, example)
    keep = half(model, structure)
    left = shares(structure, keep)
    cut = apply_plan(copy.deepcopy(model), structure, keep)
    with tempfile.TemporaryDirectory(prefix="fedprune-") as folder:
        dense, pruned = Path(folder) / "dense.onnx", Path(folder) / "pruned.onnx"
        int8 = Path(folder) / "int8.onnx"
        shape = network.shape[1:]
        write_onnx(model, shape, dense)
        write_onnx(cut, shape, pruned)
        rng = np.random.default_rng(0)
        batches = [
            rng.standard_normal((8, *shape), dtype=np.float32)
            for _ in range(_CALIBRATION)
        ]
        quantise_onnx(pruned, int8, batches)
        runners = [onnx_runner(path) for path in (dense, pruned, int8)]
        taken = _interleaved(runners, batches[0][:1])
    detail = f"{1e3 * taken[0]:.2f} ms dense; min of {_REPEATS} interleaved, 1 thread"
    yield Figure(
        name=f"{name}: onnxruntime, dense / pruned",
        value=taken[0] / taken[1],
        unit="x",
        goal=f">= {goals.pruned:g}",
        detail=f"{detail}; {100 * left['flops']:.0f} % of the MACs, "
        f"{100 * left['params']:.0f} % of the parameters; {flags()}",
    )
    yield Figure(
        name=f"{name}: onnxruntime, dense / pruned int8",
        value=taken[0] / taken[2],
        unit="x",
        goal=f">= {goals.int8:g}",
        detail=f"{1e3 * taken[2]:.2f} ms",
    )


def _interleaved(
    runners: list[Callable[[np.ndarray], np.ndarray]], batch: np.ndarray
) -> list[float]:
    """Return the least seconds of each runner; they take turns."""
    best = [float("inf")] * len(runners)
    for turn in range(_WARM + _REPEATS):
        for place, runner in enumerate(runners):
            started = time.perf_counter()
            runner(batch)
            if turn >= _WARM:
                best[place] = min(best[place], time.perf_counter() - started)
    return best


def flags() -> str:
    """Return which of the vector extensions that matter this processor has."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return "CPU flags unknown"
    words = set(info.read_text(encoding="utf-8").split())
    found = " ".join(flag for flag in _FLAGS if flag in words)
    return f"CPU flags: {found or 'none of note'}; torch {torch.__version__}"
