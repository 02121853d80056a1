"""Reach of a network: the limit of its cuts, the reasons for it, the step back."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from typing_extensions import override

from fedprune.common.pruning.cost import (
    count_cost,
    legal_cuts,
    shares,
    smallest_mask,
    width_step,
)
from fedprune.common.pruning.latency import LatencyTable
from fedprune.common.spec import Mask
from fedprune.common.structure.structure import PruningGroup, Structure

_ONE_EACH = "one unit in each group"
_LEAST_SHOWN = 0.005  # share of the FLOPs below which a reason is left out
_MOST = 4  # reasons in a line


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBack:
    """A step back: one group at its next higher legal width.

    Attributes:
        group: Its name.
        before: Channels that it has.
        after: Channels that it would have.
        shares: Kind -> share of the dense network that would be left, 0 < share <= 1.
    """

    group: str
    before: int
    after: int
    shares: Mapping[str, float]


def step_back(
    structure: Structure,
    keep: Mask,
    targets: Mapping[str, float],
    *,
    floor: int,
    width_multiple: int,
    latency: LatencyTable | None = None,
) -> StepBack | None:
    """Return the step back that uses least of its target, None without a cut.

    Ties: the earlier group.

    Args:
        structure: The original network.
        keep: Keep mask, bool[units].
        targets: Shares of the dense network by kind.
        floor: Fewest channels of a group, >= 1.
        width_multiple: Legal widths are multiples of it, and the original width; 0 =
            by the width of the group.
        latency: Table for a "latency" target.
    """
    found: list[StepBack] = []
    for group in _living_groups(structure, keep):
        wider = _wider(
            structure, group, keep, floor=floor, width_multiple=width_multiple
        )
        if wider is not None:
            found.append(
                StepBack(
                    group=group.name,
                    before=_channels(structure, group, keep),
                    after=_channels(structure, group, wider),
                    shares=shares(structure, wider, latency),
                )
            )

    def used(step: StepBack) -> float:
        return max(step.shares[kind] / end for kind, end in targets.items())

    return min(found, key=used) if found else None


def lowest(
    structure: Structure, keep: Mask, *, floor: int, width_multiple: int
) -> tuple[str, ...]:
    """Return the names of the groups that have their lowest legal width."""
    names = []
    for group in _living_groups(structure, keep):
        channels = structure.channels[group.units[keep[group.units]]].astype(np.int64)
        width = _width(structure, group)
        if not legal_cuts(
            channels, width, floor=floor, width_multiple=width_multiple
        ).size:
            names.append(group.name)
    return tuple(names)


def _living_groups(structure: Structure, keep: Mask) -> tuple[PruningGroup, ...]:
    """Return the groups that have a kept unit, without those of dropped blocks."""
    return tuple(group for group in structure.groups if keep[group.units].any())


def _wider(
    structure: Structure,
    group: PruningGroup,
    keep: Mask,
    *,
    floor: int,
    width_multiple: int,
) -> Mask | None:
    """Return the keep mask with a group's next higher legal width, None if full."""
    gone = group.units[~keep[group.units]]
    if not gone.size:
        return None
    step = width_step(_width(structure, group), width_multiple)
    wider = keep.copy()
    for unit in gone:
        wider[unit] = True
        left = _channels(structure, group, wider)
        if left % step == 0 and left >= floor:
            break
    return wider


def _width(structure: Structure, group: PruningGroup) -> int:
    """Return the channels of a group in the original network."""
    return int(structure.channels[group.units].sum())


def _channels(structure: Structure, group: PruningGroup, keep: Mask) -> int:
    return int(structure.channels[group.units[keep[group.units]]].sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Limit of the cuts of a network, with its reasons.

    Attributes:
        flops: Share of the FLOPs that one unit in each group leaves, 0..1.
        held: Share of the dense FLOPs that each reason holds, the greatest first; the
            shares add up to ``flops``.
        modules: Number of places with each reason.
    """

    flops: float
    held: Mapping[str, float]
    modules: Mapping[str, int]

    @override
    def __str__(self) -> str:
        """Return one line."""
        parts = [
            f"{reason} {100 * share:.0f} %"
            + (f" ({self.modules[reason]} places)" if self.modules[reason] > 1 else "")
            for reason, share in self.held.items()
            if share >= _LEAST_SHOWN
        ]
        held = f"; what holds the rest: {', '.join(parts[:_MOST])}" if parts else ""
        least = f"{100 * self.flops:.1f} % of the FLOPs"
        return f"the smallest network that the structure allows has {least}{held}"


def reach_of(structure: Structure, whole: Mapping[tuple[str, int], str]) -> Reach:
    """Return the limit of a network's cuts, and the reasons for the rest of its FLOPs.

    The FLOPs of a layer that stays count half for the reasons of its outputs, half for
    those of its inputs.

    Args:
        structure: The original network.
        whole: Why a dimension of a weight is not cut, by (tensor, dimension).
    """
    least = smallest_mask(structure, floor=1, width_multiple=1)
    shapes = {t.name: t.shape for t in structure.living(least).spec(least).tensors}
    total = max(count_cost(structure, structure.full()).macs, 1)
    held: dict[str, float] = {}
    places: dict[str, set[str]] = {}
    for name, positions in structure.multiplies.items():
        share = positions * prod(shapes[name]) / total
        reasons = [whole[name, dim] for dim in (0, 1) if (name, dim) in whole]
        for reason in reasons or [_ONE_EACH]:
            kind = _kind(reason)
            held[kind] = held.get(kind, 0.0) + share / max(len(reasons), 1)
            places.setdefault(kind, set()).add(reason)
    order = sorted(held, key=lambda kind: (-held[kind], kind))
    return Reach(
        flops=count_cost(structure, least).macs / total,
        held={kind: held[kind] for kind in order},
        modules={kind: len(places[kind]) for kind in order},
    )


def _kind(reason: str) -> str:
    """Return a reason without names and lengths, the same for equal modules.

    >>> _kind("module 'a.norm1' (LayerNorm): normalises over 8 channels")
    'LayerNorm: normalises over n channels'
    >>> _kind("operation 'x_1' (view) in module 'a', net.py:3: writes the length 4")
    'view: writes the length n'
    """
    found = re.match(
        r"(?:module|operation) '[^']*' \(([^)]*)\)[^:]*(?::\d+)?: (.*)", reason
    )
    words = f"{found[1]}: {found[2]}" if found else reason
    return re.sub(r"\b\d+\b", "n", words)
