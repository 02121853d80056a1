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

from fedprune.common.models.flat import get_weights
from fedprune.common.pruning.choose import choose_keep
from fedprune.common.pruning.cost import shares
from fedprune.common.pruning.importance import weight_scores
from fedprune.common.pruning.latency import LatencyTable
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.spec import Mask
from fedprune.common.structure.structure import Structure
from fedprune.common.structure.tracing.find import find_structure
from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.networks import Network
from fedprune.simulations.export.latency_table import profile
from fedprune.simulations.export.onnx_file import onnx_runner, write_onnx
from fedprune.simulations.export.onnx_int8 import quantise_onnx

_REPEATS = 30
_WARM = 3
_MULTIPLE = 8
_CALIBRATION = 4  # batches of 8 random images: ranges, not accuracy, matter here
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "amx_int8")


@dataclass(frozen=True, slots=True)
class Goals:
    """Least wanted speed-ups over the dense float32 network.

    Attributes:
        pruned: Half of the units by magnitude.
        int8: The same, quantised.
        chosen: Units left within ``budget``, by magnitude over measured time.
        chosen_int8: The same, quantised.
        budget: Share of the dense latency, by the table.
    """

    pruned: float
    int8: float
    chosen: float
    chosen_int8: float
    budget: float


LATENCY_GOALS: Mapping[str, Goals] = {
    "ResNet-18": Goals(3.0, 6.0, 3.5, 7.5, budget=0.22),
    "MobileNetV2": Goals(1.9, 2.4, 2.3, 3.0, budget=0.3),
}


def half(model: nn.Module, structure: Structure) -> Mask:
    """Keep the half of all units with the greatest magnitude, widths legal.

    One threshold over the network on magnitudes over their mean in the group, as the
    usual global pruning has (torch-pruning's default); each width is the nearest
    multiple of 8, or the full one.  Costs are not used.
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


def by_time(
    model: nn.Module, structure: Structure, table: LatencyTable, budget: float
) -> Mask:
    """Keep units within a latency budget, chosen by magnitude over measured time."""
    full = structure.full()
    rng = np.random.default_rng(0)
    return choose_keep(
        structure,
        full,
        weight_scores(structure, full, get_weights(model), "l2-group", rng),
        {"latency": budget},
        floor=2,
        step_cap=1.0,
        width_multiple=_MULTIPLE,
        latency=table,
    )


def latency(name: str, network: Network, goals: Goals) -> Iterator[Figure]:
    """Yield the speed-ups of pruned networks, in float32 and in int8."""
    model, example = network.make().eval(), network.example()
    structure = find_structure(model, example)
    started = time.perf_counter()
    table = profile(model, structure, example, runtime="onnxruntime")
    seconds = time.perf_counter() - started
    masks = [
        half(model, structure),
        by_time(model, structure, table, goals.budget),
    ]
    dense, *taken = _measured(model, structure, network.shape[1:], masks)
    detail = f"{1e3 * dense:.2f} ms dense; min of {_REPEATS} interleaved, 1 thread"
    wanted = ((goals.pruned, goals.int8), (goals.chosen, goals.chosen_int8))
    notes = (
        f"by magnitude; {flags()}",
        f"budget {goals.budget:g}, profiled in {seconds:.0f} s",
    )
    titles = ("pruned", "chosen by latency table")
    for index, title in enumerate(titles):
        left = shares(structure, masks[index])
        yield Figure(
            name=f"{name}: onnxruntime, dense / {title}",
            value=dense / taken[2 * index],
            unit="x",
            goal=f">= {wanted[index][0]:g}",
            detail=f"{detail}; {100 * left['flops']:.0f} % of the MACs, "
            f"{100 * left['params']:.0f} % of the parameters, "
            f"{100 * left['channel_density']:.0f} % of the channels; {notes[index]}",
        )
        yield Figure(
            name=f"{name}: onnxruntime, dense / {title} int8",
            value=dense / taken[2 * index + 1],
            unit="x",
            goal=f">= {wanted[index][1]:g}",
            detail=f"{1e3 * taken[2 * index + 1]:.2f} ms",
        )


def _measured(
    model: nn.Module, structure: Structure, shape: tuple[int, ...], masks: list[Mask]
) -> list[float]:
    """Return seconds of the dense network, then float32 and int8 of each cut one."""
    rng = np.random.default_rng(0)
    batches = [
        rng.standard_normal((8, *shape), dtype=np.float32) for _ in range(_CALIBRATION)
    ]
    example = torch.zeros(1, *shape)
    with tempfile.TemporaryDirectory(prefix="fedprune-") as folder:
        paths = [Path(folder) / "dense.onnx"]
        write_onnx(model, example, paths[0])
        for number, keep in enumerate(masks):
            cut = apply_plan(copy.deepcopy(model), structure, keep)
            paths += [Path(folder) / f"{number}{k}.onnx" for k in ("", "-int8")]
            write_onnx(cut, example, paths[-2])
            quantise_onnx(paths[-2], paths[-1], [{"input": x} for x in batches])
        return _interleaved([onnx_runner(path) for path in paths], batches[0][:1])


def _interleaved(
    runners: list[Callable[[np.ndarray], np.ndarray]], batch: np.ndarray
) -> list[float]:
    """Return the least seconds of each runner, measured in turns."""
    best = [float("inf")] * len(runners)
    for turn in range(_WARM + _REPEATS):
        for index, runner in enumerate(runners):
            started = time.perf_counter()
            runner(batch)
            if turn >= _WARM:
                best[index] = min(best[index], time.perf_counter() - started)
    return best


def flags() -> str:
    """Return the relevant vector extensions of this processor."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return "CPU flags unknown"
    words = set(info.read_text(encoding="utf-8").split())
    found = " ".join(flag for flag in _FLAGS if flag in words)
    return f"CPU flags: {found or 'none of note'}; torch {torch.__version__}"
