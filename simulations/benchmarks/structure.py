"""The structure engine on common networks: tracing, cuts, exactness, speed.

``python -m fedprune.simulations.benchmarks.structure``

Needs the extra ``vision``; plans are compared with those of torch-pruning where that is
installed.  Weights are random, so no accuracy is measured here.
"""

import copy
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import nn

from fedprune.common.errors import ConfigError
from fedprune.common.models.flat import get_weights
from fedprune.common.pruning.choose import choose_keep
from fedprune.common.pruning.cost import check_budget, shares
from fedprune.common.pruning.importance import weight_scores
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.pruning.verify import check_exact
from fedprune.common.spec import Mask
from fedprune.common.structure.structure import FIXED, Structure
from fedprune.common.structure.tracing.find import Findings, examine
from fedprune.simulations.benchmarks.kit.harness import Figure, benchmark
from fedprune.simulations.benchmarks.kit.latency import LATENCY_GOALS, half, latency
from fedprune.simulations.benchmarks.kit.networks import NETWORKS, Network

_SEEDS = 2
_EXACT = "<= 1e-12"
# name -> limits: seconds of graph and plan, bytes of a plan
_TIMES = {"ResNet-50": 1.0, "DenseNet-121": 3.0, "VGG-16-BN": 1.0}
_PLANS = {"ResNet-18": 480, "VGG-16-BN": 1700}
_STRUCTURES = {"ResNet-18": 20_000}
_APPLIED_MS = {"ResNet-18": 50.0}
_REPEATS = 5
_FLOPS = 0.5


def measure() -> list[Figure]:
    """Measure every network; a failure becomes a figure."""
    torch.set_num_threads(1)
    found: list[Figure] = []
    for name, network in NETWORKS.items():
        print(name, file=sys.stderr, flush=True)
        found += _network(name, network)
    for name, goals in LATENCY_GOALS.items():
        print(f"{name}: latency", file=sys.stderr, flush=True)
        found += latency(name, NETWORKS[name], goals)
    return found


def _network(name: str, network: Network) -> Iterator[Figure]:
    torch.manual_seed(0)
    model, example = network.make().eval(), network.example()
    runs = [_found(model, example) for _ in range(_REPEATS if name in _TIMES else 1)]
    best = min(runs, key=lambda run: run.planned)
    findings, structure, keep = best.findings, best.findings.structure, best.keep
    differences = [
        check_exact(model, structure, example, seed=s) for s in range(_SEEDS)
    ]
    yield Figure(
        name=f"{name}: masked-dense - pruned, float64, relative",
        value=max(differences),
        goal=_EXACT,
        detail=f"{structure.units} units, {len(structure.groups)} groups, "
        f"{len(findings.notes)} notes on uncut parts",
    )
    limit = _TIMES.get(name)
    yield Figure(
        name=f"{name}: graph and plan",
        value=best.planned,
        unit="s",
        goal=f"<= {limit:g}" if limit else "",
        detail=f"graph {best.traced:.2f} s, 1 thread, min of {len(runs)}",
    )
    yield _budget(name, model, structure)
    yield from _sizes(name, structure, keep)
    if name in _APPLIED_MS:
        yield _applied(name, model, structure, keep)
    if network.oracle and find_spec("torch_pruning") is not None:
        yield _compared(name, network, structure)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """Structure and plan of a network, and the seconds taken."""

    findings: Findings
    keep: Mask
    traced: float
    planned: float


def _found(model: nn.Module, example: torch.Tensor) -> _Run:
    started = time.perf_counter()
    findings = examine(model, example)
    traced = time.perf_counter() - started
    keep = half(model, findings.structure)
    planned = time.perf_counter() - started
    return _Run(findings=findings, keep=keep, traced=traced, planned=planned)


def _budget(name: str, model: nn.Module, structure: Structure) -> Figure:
    """Return the unused share of a FLOPs budget."""
    full = structure.full()
    targets = {"flops": _FLOPS}
    try:
        check_budget(structure, targets, floor=2, width_multiple=8)
    except ConfigError as error:  # the uncuttable part exceeds the budget
        detail = str(error)
        return Figure(name=f"{name}: budget refused", value=1, detail=detail)
    rng = np.random.default_rng(0)
    scores = weight_scores(structure, full, get_weights(model), "l2-group", rng)
    keep = choose_keep(
        structure,
        full,
        scores,
        targets,
        floor=2,
        step_cap=1.0,
        width_multiple=8,
    )
    left = shares(structure, keep)["flops"]
    return Figure(
        name=f"{name}: budget left unused",
        value=100 * (1 - left / _FLOPS),
        unit="%",
        goal="<= 2",
        detail=f"{_FLOPS:.0%} of the FLOPs wanted, {left:.2%} left; multiples of 8",
    )


def _sizes(name: str, structure: Structure, keep: Mask) -> Iterator[Figure]:
    limit = _PLANS.get(name)
    yield Figure(
        name=f"{name}: plan on the wire",
        value=len(np.packbits(keep)) + 2 * 16 + 4 + 1,
        unit="bytes",
        goal=f"<= {limit}" if limit else "",
        detail="bitmap over the units, two digests, count and flag",
    )
    limit = _STRUCTURES.get(name)
    yield Figure(
        name=f"{name}: structure, sent once",
        value=len(structure.to_json()),
        unit="bytes",
        goal=f"<= {limit}" if limit else "",
        detail="canonical JSON",
    )


def _applied(name: str, model: nn.Module, structure: Structure, keep: Mask) -> Figure:
    taken = []
    for _ in range(_REPEATS):
        twin = copy.deepcopy(model)
        started = time.perf_counter()
        apply_plan(twin, structure, keep)
        taken.append(time.perf_counter() - started)
    return Figure(
        name=f"{name}: a plan is applied",
        value=1000 * min(taken),
        unit="ms",
        goal=f"<= {_APPLIED_MS[name]:g}",
        detail=f"float32, 1 thread, min of {_REPEATS}, no tracing",
    )


def _compared(name: str, network: Network, structure: Structure) -> Figure:
    """Return the number of tensors unlike torch-pruning's cut of the same plan.

    Every entry of the network is unique, so equal tensors mean equal cuts.
    """
    numbered = network.make().double().eval()
    with torch.no_grad():
        for item in numbered.state_dict().values():
            if item.is_floating_point():
                item.copy_(torch.arange(1.0, item.numel() + 1).reshape(item.shape))
    other = _cut_by_oracle(copy.deepcopy(numbered), network.example().double())
    keep = _kept(structure, numbered, other)
    ours = apply_plan(numbered, structure, keep).state_dict()
    theirs = other.state_dict()
    differing = [key for key in ours if not torch.equal(ours[key], theirs[key])]
    return Figure(
        name=f"{name}: tensors that differ from torch-pruning's",
        value=len(differing),
        goal="== 0",
        reference="torch-pruning 1.6.1",
        detail=f"{len(ours)} tensors; {int(keep.sum())} of {structure.units} units",
    )


def _cut_by_oracle(model: nn.Module, example: torch.Tensor) -> nn.Module:
    """Return the model as torch-pruning cuts it: global, half of the channels."""
    pruning: Any = import_module("torch_pruning")
    last = [item for item in model.modules() if isinstance(item, nn.Linear)][-1]
    pruner = pruning.pruner.BasePruner(
        model,
        example,
        importance=pruning.importance.GroupMagnitudeImportance(p=2),
        global_pruning=True,
        pruning_ratio=0.5,
        max_pruning_ratio=0.9,
        ignored_layers=[last],
    )
    pruner.step()
    return model


def _kept(structure: Structure, numbered: nn.Module, cut: nn.Module) -> Mask:
    """Return the mask of units whose numbered rows are still in the cut network."""
    keep = np.zeros(structure.units, dtype=np.bool_)
    dense, left = numbered.state_dict(), cut.state_dict()
    for group in structure.groups:
        for name in group.producers:
            dim = structure.made_dim(name)
            units = structure.lookup[name, dim]
            number = dense[name].movedim(dim, 0).flatten(1)
            there = set(left[name].flatten().tolist())
            stay = [bool(there & set(row)) for row in number.tolist()]
            keep[units[np.asarray(stay) & (units != FIXED)]] = True
    return keep


main = benchmark("structure", measure)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
