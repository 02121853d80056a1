"""Why a network ends where it does: the smallest step back, and who can go no lower."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fedprune.common.pruning.cost import legal_cuts, shares
from fedprune.common.pruning.latency import LatencyTable
from fedprune.common.spec import Mask
from fedprune.common.structure.structure import PruningGroup, Structure


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBack:
    """One group, one legal width up.

    Attributes:
        group: Its name.
        before: Channels that it has.
        after: Channels that it would have.
        shares: What would be left of the dense network then, by kind.
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
    """Return the step to a next legal width that adds least to its target.

    None where no group has lost anything.  Ties: the earlier group.

    Args:
        structure: The original network.
        keep: What is left of it.
        targets: Shares of the dense network by kind.
        floor: Fewest channels of a group, >= 1.
        width_multiple: Legal widths are multiples of it, and the original width.
        latency: What a "latency" target is measured by.
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
    """Return the groups that have their lowest legal width, by name."""
    names = []
    for group in _living_groups(structure, keep):
        channels = structure.channels[group.units[keep[group.units]]].astype(np.int64)
        if not legal_cuts(channels, floor=floor, width_multiple=width_multiple).size:
            names.append(group.name)
    return tuple(names)


def _living_groups(structure: Structure, keep: Mask) -> tuple[PruningGroup, ...]:
    """Return the groups that have a unit: not those of dropped blocks."""
    return tuple(group for group in structure.groups if keep[group.units].any())


def _wider(
    structure: Structure,
    group: PruningGroup,
    keep: Mask,
    *,
    floor: int,
    width_multiple: int,
) -> Mask | None:
    """Return the mask with the next legal width of a group, None where it is full."""
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
