"""Choice of the units to keep: least importance per freed cost is cut first.

The choice ends when all targets are met.
"""

import math
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fedprune.common.errors import ConfigError
from fedprune.common.pruning.cost import (
    CostTable,
    check_targets,
    cost_table,
    legal_cuts,
)
from fedprune.common.pruning.latency import LatencyTable
from fedprune.common.pruning.search import State, Step, descend
from fedprune.common.spec import Indices, Mask, Vector
from fedprune.common.structure.structure import PruningGroup, Structure


def choose_keep(  # noqa: PLR0913 - the settings of a cut, all of them named
    structure: Structure,
    keep: Mask,
    importance: Vector,
    targets: Mapping[str, float],
    *,
    floor: int,
    step_cap: float,
    width_multiple: int,
    latency: LatencyTable | None = None,
    final: Mapping[str, float] | None = None,
) -> Mask:
    """Return the keep mask, nested in ``keep``, that meets the targets at least loss.

    In each step one group loses its least important units down to its next lower legal
    width: the group with the smallest ``importance lost / cost freed``, where cost is
    the share of the dense weights plus 0.3 of the share of the dense MACs; while a
    FLOPs or a latency target is not met, its cost counts in full, and a cost whose own
    target is met counts a tenth.  The steps end when all targets are met, or nothing
    more may be cut.  Then steps that the targets do not need are undone, the last one
    first.  A group whose next step would even so leave less than 98 % of every target
    keeps its width, and the others continue: where legal widths allow it, the targets
    are met within 2 %, from below.

    A cut before the last one takes only steps that the final budget needs as well, even
    where they are too few for its own targets: otherwise the last cut could not end
    near the budget.

    Ties: between units the smaller number is cut first; between groups the one that
    has lost the smallest share of its steps, then the earlier one.
    The result is exactly reproducible: sums are correctly rounded (``math.fsum``).

    Args:
        structure: The structure of the original network.
        keep: Current keep mask, bool[units].
        importance: float32[units]; greater = keep.
        targets: Share of the dense network by kind: "params", "flops", "bytes",
            "latency" or "channel_density", each in (0, 1].
        floor: Fewest channels of a group, >= 1.
        step_cap: Largest share of its current channels that a group loses in one
            call, 0 < step_cap <= 1; one legal step is always allowed.
        width_multiple: Legal widths are multiples of it, and the original width; 0 =
            by the width of the group (``cost.width_step``).
        latency: Table for a "latency" target.
        final: The targets of the last cut; None when this is the last.

    Raises:
        ConfigError: If a setting is out of range.
        ValueError: If an importance is not finite, or of another length.
    """
    check_targets(targets, latency)
    _check_settings(floor, step_cap, width_multiple)
    structure.check_mask(keep)
    _check_importance(structure, importance)
    table = cost_table(structure.living(keep))
    ways, most = [], []
    for group in structure.groups:
        order = _order(group, keep, importance)
        channels = structure.channels[order].astype(np.int64)
        width = int(structure.channels[group.units].sum())
        cuts = legal_cuts(channels, width, floor=floor, width_multiple=width_multiple)
        ways.append(_steps(table, order, channels, importance, cuts))
        most.append(_capped(channels, cuts, step_cap))
    if final is not None and final != targets:
        end = descend(State(structure, keep, final, latency), ways)
        needed = Counter(group for group, _ in end)
        most = [min(count, needed[group]) for group, count in enumerate(most)]
    allowed = [way[:count] for way, count in zip(ways, most, strict=True)]
    found = keep.copy()
    for _, step in descend(State(structure, keep, targets, latency), allowed):
        found[step.units] = False
    return found


def smallest_cut(
    structure: Structure,
    keep: Mask,
    *,
    floor: int,
    step_cap: float,
    width_multiple: int,
) -> Mask:
    """Return the keep mask of the smallest network that one cut can leave.

    It is the end of :func:`choose_keep` for targets that are far away.
    """
    found = keep.copy()
    for group in structure.groups:
        order = group.units[keep[group.units]][::-1]
        channels = structure.channels[order].astype(np.int64)
        width = int(structure.channels[group.units].sum())
        cuts = legal_cuts(channels, width, floor=floor, width_multiple=width_multiple)
        most = _capped(channels, cuts, step_cap)
        found[order[: cuts[most - 1] if most else 0]] = False
    return found


def _order(group: PruningGroup, keep: Mask, importance: Vector) -> NDArray[np.int32]:
    """Return the kept units of a group, least important first, then by number."""
    units = group.units[keep[group.units]]
    return units[np.argsort(importance[units], kind="stable")]


def _capped(channels: Indices, cuts: Indices, step_cap: float) -> int:
    """Return the number of cuts that the cap allows; the first is always allowed."""
    # 0.29 * 100 is a little less than 29 in binary: 29 of 100 are still 0.29.
    most = step_cap * float(channels.sum()) * (1.0 + 1e-12)
    lost = np.cumsum(channels)[cuts - 1]
    return max(int((lost <= most).sum()), min(len(cuts), 1))


def _steps(
    table: CostTable,
    order: NDArray[np.int32],
    channels: Indices,
    importance: Vector,
    cuts: Indices,
) -> list[Step]:
    """Return the steps of one group, in the order in which they must be taken."""
    return [
        Step(
            units=order[start:end],
            importance=math.fsum(importance[order[start:end]].tolist()),
            lengths=table.counts[:, order[start:end]].sum(axis=1, dtype=np.int64),
            channels=int(channels[start:end].sum()),
        )
        for start, end in pairwise([0, *cuts.tolist()])
    ]


def _check_settings(floor: int, step_cap: float, width_multiple: int) -> None:
    if floor < 1 or width_multiple < 0:
        msg = f"floor is {floor}, width_multiple {width_multiple}; want floor >= 1, "
        msg += "width_multiple >= 0"
        raise ConfigError(msg)
    if not 0.0 < step_cap <= 1.0:
        msg = f"step_cap is {step_cap}; want 0 < step_cap <= 1"
        raise ConfigError(msg)


def _check_importance(structure: Structure, importance: Vector) -> None:
    if importance.shape != (structure.units,):
        msg = f"importance has shape {list(importance.shape)}"
        msg += f"; want [{structure.units}]"
        raise ValueError(msg)
    bad = np.flatnonzero(~np.isfinite(importance))
    if bad.size:
        unit = int(bad[0])
        name = structure.groups[structure.group_of[unit]].name
        msg = f"importance of unit {unit} (group '{name}') is {importance[unit]}"
        msg += f"; want a finite number ({bad.size} such units)"
        raise ValueError(msg)
