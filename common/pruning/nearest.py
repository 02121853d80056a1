"""The end of a budget search: smallest step back, and groups at their lowest width."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fedprune.common.pruning.cost import legal_cuts, shares
from fedprune.common.pruning.latency import LatencyTable
from fedprune.common.spec import Mask
from fedprune.common.structure.structure import PruningGroup, Structure


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
        width_multiple: Legal widths are multiples of it, and the original width.
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
        if not legal_cuts(channels, floor=floor, width_multiple=width_multiple).size:
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
    wider = keep.copy()
    for unit in gone:
        wider[unit] = True
        width = _channels(structure, group, wider)
        if width % width_multiple == 0 and width >= floor:
            break
    return wider


def _channels(structure: Structure, group: PruningGroup, keep: Mask) -> int:
    return int(structure.channels[group.units[keep[group.units]]].sum())
