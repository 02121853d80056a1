"""The prune plan of equal shares: every group keeps the same share of its channels."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from fedprune.common.config import Config
from fedprune.common.pruning.cost import legal_cuts
from fedprune.common.pruning.latency import LatencyTable
from fedprune.common.pruning.plan import child_plan, full_plan
from fedprune.common.spec import Mask, PrunePlan
from fedprune.common.structure.structure import FIXED, PruningGroup, Structure
from fedprune.server.rounds.cut import within_budget


@dataclass(frozen=True, slots=True, kw_only=True)
class _Width:
    """One legal width of a group.

    Attributes:
        share: Share of its channels that is kept, 0 < share <= 1.
        cut: Number of units that are cut, from the last one on.
    """

    share: float
    cut: int


def plan_of(structure: Structure, keep: Mask) -> PrunePlan:
    """Return the plan that cuts the original network to ``keep`` at once."""
    first = full_plan(structure)
    return first if keep.all() else child_plan(structure, first, keep)


def uniform_keep(
    structure: Structure, config: Config, latency: LatencyTable | None, final: Mask
) -> Mask:
    """Return the keep mask of the largest equal share within the budget, bool[units].

    With the share ``s`` a group keeps the widest legal width that is at most ``s`` of
    its channels, or its lowest one.  No block is dropped, and the kept units are those
    with the lowest numbers: the weights are fresh, so that none is better.  Rows of a
    vocabulary are no such units, since each belongs to a token: those stay that the
    run kept.

    Args:
        structure: The original network.
        config: Budget, ``prune.floor`` and legal widths.
        latency: Table for a latency in the budget, or None.
        final: Keep mask of the run's final network, bool[units].
    """
    rows = _rows(structure, config.task.vocabulary)
    first = structure.full()
    first[rows] = final[rows]
    ways = {
        number: _widths(structure, group, config)
        for number, group in enumerate(structure.groups)
        if not rows[group.units].any()
    }
    candidates = sorted({width.share for way in ways.values() for width in way})
    if not candidates:
        return first
    # Costs rise with the share: the last candidate within the budget is wanted.
    low, high = 0, len(candidates) - 1
    while low < high:
        middle = (low + high + 1) // 2
        keep = _keep_at(structure, first, ways, candidates[middle])
        met = within_budget(structure, config, latency, keep)
        low, high = (middle, high) if met else (low, middle - 1)
    return _keep_at(structure, first, ways, candidates[low])


def _keep_at(
    structure: Structure, first: Mask, ways: Mapping[int, list[_Width]], share: float
) -> Mask:
    keep = first.copy()
    for number, way in ways.items():
        width = next((one for one in way if one.share <= share), way[-1])
        keep[structure.groups[number].units[::-1][: width.cut]] = False
    return keep


def _rows(structure: Structure, vocabulary: Collection[str]) -> Mask:
    """Return the units that are rows of the named embeddings, bool[units]."""
    rows = ~structure.full()
    for name in vocabulary:
        units = structure.lookup.get((f"{name}.weight", 0))
        if units is not None:
            rows[units[units != FIXED]] = True
    return rows


def _widths(structure: Structure, group: PruningGroup, config: Config) -> list[_Width]:
    """Return the legal widths of a group, the widest first."""
    channels = structure.channels[group.units[::-1]].astype(np.int64)
    lost, total = np.cumsum(channels), int(channels.sum())
    cuts = legal_cuts(
        channels,
        total,
        floor=config.prune.floor,
        width_multiple=config.width_multiple,
    )
    shorter = [
        _Width(share=(total - int(lost[n - 1])) / total, cut=int(n)) for n in cuts
    ]
    return [_Width(share=1.0, cut=0), *shorter]
