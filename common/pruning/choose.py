"""Choose which units to keep: cheapest importance per freed cost, until it fits."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from common.errors import ConfigError
from common.messages import Indices, Mask, Vector
from common.pruning.budget import (
    CostTable,
    check_targets,
    cost_table,
    is_met,
    legal_cuts,
)
from common.pruning.latency import LatencyTable
from common.pruning.structure import PruningGroup, Structure

# A budget is first of all bytes and memory; MACs count a little, so that early layers,
# which hold few weights and do much work, are not spared altogether.
MACS_WEIGHT = 0.3
MET_WEIGHT = 0.1  # of a share whose own target is met


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Step:
    """The units that a group loses on its way to the next lower legal width.

    Attributes:
        units: The units, least important first, int32[k].
        importance: Their sum.
        lengths: Positions that leave each cut dimension, int64[dims].
        channels: Channels that leave.
    """

    units: NDArray[np.int32]
    importance: float
    lengths: Indices
    channels: int


class _State:
    """What is left at one moment of the choice, as counts."""

    def __init__(
        self,
        structure: Structure,
        keep: Mask,
        targets: Mapping[str, float],
        latency: LatencyTable | None,
    ) -> None:
        self.table: CostTable = cost_table(structure)
        self.structure = structure
        self.targets = targets
        self.latency = latency if "latency" in targets else None
        full = structure.full()
        self.dense = self.table.count(self.table.lengths(full)).astype(np.float64)
        self.dense_ms = float(self.milliseconds(self.table.lengths(full)))
        self.dense_channels = float(structure.channels.sum())
        self.lengths = self.table.lengths(keep)
        self.channels = int(structure.channels[keep].sum())

    def milliseconds(self, lengths: Indices) -> NDArray[np.float64]:
        """Return the latency for such lengths; 0 where no target asks for it."""
        if self.latency is None:
            return np.zeros(lengths.shape[:-1])
        return self.table.milliseconds(self.structure, self.latency, lengths)

    def change(self, step: _Step, sign: int) -> None:
        """Take a step (-1) or give it back (+1)."""
        self.lengths = self.lengths + sign * step.lengths
        self.channels += sign * step.channels

    def met(self) -> bool:
        """Return whether every target is met."""
        return not self.unmet()

    def unmet(self) -> set[str]:
        """Return the kinds of the targets that are not met yet."""
        cost = self.table.count(self.lengths) / np.maximum(self.dense, 1.0)
        found = {
            "params": float(cost[0]),
            "flops": float(cost[1]),
            "bytes": float(cost[2]),
            "channel_density": self.channels / max(self.dense_channels, 1.0),
        }
        if self.latency is not None:
            found["latency"] = float(self.milliseconds(self.lengths)) / self.dense_ms
        return {k for k, item in self.targets.items() if not is_met(found[k], item)}

    def weights(self) -> tuple[float, float, float]:
        """Return what a freed share of parameters, MACs and time counts for now.

        What a target still asks for counts in full; a target that is met counts for
        little, so that the next step helps the one that is not.
        """
        unmet = self.unmet()
        params = 1.0 if unmet & {"params", "bytes"} else MET_WEIGHT
        if "latency" in unmet:
            return params, 1.0 if "flops" in unmet else MET_WEIGHT, 1.0
        if "flops" not in unmet:
            return 1.0, MACS_WEIGHT, 0.0
        return params, 1.0, 0.0

    def prices(self, steps: list[_Step]) -> NDArray[np.float64]:
        """Return importance lost per cost freed of each step, float64[steps]."""
        after = self.lengths - np.stack([step.lengths for step in steps])
        freed = self.table.count(self.lengths) - self.table.count(after)
        cost = freed / np.maximum(self.dense, 1.0)
        importance = np.asarray([step.importance for step in steps])
        params, macs, time = self.weights()
        value = params * cost[:, 0] + macs * cost[:, 1]
        if time:
            before, left = (self.milliseconds(n) for n in (self.lengths, after))
            # A measured table may say that a narrower layer is slower.
            value = value + time * np.maximum(before - left, 0.0) / self.dense_ms
        found: NDArray[np.float64] = importance / value
        return found


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
) -> Mask:
    """Return the mask, nested in ``keep``, that meets the targets at least loss.

    Again and again one group loses its least important units down to its next lower
    legal width: the group with the smallest ``importance lost / cost freed``, where
    cost is the share of the dense weights plus 0.3 of the share of the dense MACs;
    while a FLOPs or a latency target is not met, that counts in full, and what has
    met its own target for a tenth.  It ends when all targets are met, or nothing more
    may be cut.  Steps that the targets do not need in the end are given back, the last
    one first.

    Ties: between units the smaller number goes first; between groups the one that
    has lost the smallest share of its steps, then the earlier one.
    The result is exactly reproducible: sums are correctly rounded (``math.fsum``).

    Args:
        structure: The structure of the original network.
        keep: What is kept now.
        importance: float32[units]; greater = keep.
        targets: Share of the dense network by kind: "params", "flops", "bytes",
            "latency" or "channel_density", each in (0, 1].
        floor: Fewest channels of a group, >= 1.
        step_cap: Largest share of its current channels that a group loses in one
            call, 0 < step_cap <= 1; one legal step is always allowed.
        width_multiple: Legal widths are multiples of it, and the original width.
        latency: What a "latency" target is measured by.

    Raises:
        ConfigError: If a setting is out of its range.
        ValueError: If an importance is not finite, or of another length.
    """
    check_targets(targets, latency)
    _check_settings(floor, step_cap, width_multiple)
    structure.check_mask(keep)
    _check_importance(structure, importance)
    state = _State(structure, keep, targets, latency)
    ways = []
    for group in structure.groups:
        order = _order(group, keep, importance)
        channels = structure.channels[order].astype(np.int64)
        cuts = legal_cuts(channels, floor=floor, width_multiple=width_multiple)
        allowed = _capped(channels, cuts, step_cap)
        ways.append(_steps(state.table, order, channels, importance, allowed))
    taken = _descend(state, ways)
    if state.met():
        _give_back(state, taken)
    found = keep.copy()
    for _, step in taken:
        found[step.units] = False
    return found


def _order(group: PruningGroup, keep: Mask, importance: Vector) -> NDArray[np.int32]:
    """Return the kept units of a group, least important first, then by number."""
    units = group.units[keep[group.units]]
    return units[np.argsort(importance[units], kind="stable")]


def _capped(channels: Indices, cuts: Indices, step_cap: float) -> Indices:
    """Return the cuts that the cap allows: the first one always."""
    # 0.29 * 100 is a little less than 29 in binary: 29 of 100 are still 0.29.
    most = step_cap * float(channels.sum()) * (1.0 + 1e-12)
    lost = np.cumsum(channels)[cuts - 1]
    allowed: Indices = cuts[(lost <= most) | (np.arange(len(cuts)) == 0)]
    return allowed


def _steps(
    table: CostTable,
    order: NDArray[np.int32],
    channels: Indices,
    importance: Vector,
    cuts: Indices,
) -> list[_Step]:
    """Return the steps of one group, in the order in which they must be taken."""
    return [
        _Step(
            units=order[start:end],
            importance=math.fsum(importance[order[start:end]].tolist()),
            lengths=table.counts[:, order[start:end]].sum(axis=1, dtype=np.int64),
            channels=int(channels[start:end].sum()),
        )
        for start, end in pairwise([0, *cuts.tolist()])
    ]


def _descend(state: _State, ways: list[list[_Step]]) -> list[tuple[int, _Step]]:
    """Take the cheapest next step until the targets are met; return what was taken."""
    taken: list[tuple[int, _Step]] = []
    done = [0] * len(ways)
    while not state.met():
        open_groups = [
            group for group, way in enumerate(ways) if done[group] < len(way)
        ]
        if not open_groups:
            break
        steps = [ways[group][done[group]] for group in open_groups]
        prices = state.prices(steps)
        # A score that says nothing cuts evenly.
        equal = np.flatnonzero(prices == prices.min())
        lost = [done[open_groups[i]] / len(ways[open_groups[i]]) for i in equal]
        best = int(equal[int(np.argmin(lost))])
        state.change(steps[best], -1)
        done[open_groups[best]] += 1
        taken.append((open_groups[best], steps[best]))
    return taken


def _give_back(state: _State, taken: list[tuple[int, _Step]]) -> None:
    """Undo steps that the targets do not need, the last ones of each group first."""
    needed: set[int] = set()
    for number in reversed(range(len(taken))):
        group, step = taken[number]
        if group in needed:
            continue
        state.change(step, +1)
        if state.met():
            del taken[number]
        else:
            state.change(step, -1)
            needed.add(group)


def _check_settings(floor: int, step_cap: float, width_multiple: int) -> None:
    if floor < 1 or width_multiple < 1:
        msg = f"floor is {floor}, width_multiple {width_multiple}; want both >= 1"
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
