"""The budget search: step by step down to a budget, as near as legal widths allow."""

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedprune.common.pruning.cost import CostTable, cost_table, is_met, is_near
from fedprune.common.pruning.latency import LatencyTable
from fedprune.common.spec import Indices, Mask
from fedprune.common.structure.structure import Structure

# A budget is mainly one of bytes and memory; MACs count a little, so that early layers,
# which have few weights and many MACs, are cut too.
MACS_WEIGHT = 0.3
MET_WEIGHT = 0.1  # of a share whose own target is met
_ENDS = 100  # results that are compared where none is near


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Step:
    """The units that a group loses down to its next lower legal width.

    Attributes:
        units: The units, least important first, int32[k].
        importance: Sum of their importance.
        lengths: Positions removed from each prunable dimension, int64[dims].
        channels: Channels removed.
    """

    units: NDArray[np.int32]
    importance: float
    lengths: Indices
    channels: int


class State:
    """The network during a budget search, as counts of positions and channels."""

    def __init__(
        self,
        structure: Structure,
        keep: Mask,
        targets: Mapping[str, float],
        latency: LatencyTable | None,
    ) -> None:
        self.structure = structure.living(keep)
        self.table: CostTable = cost_table(self.structure)
        self.targets = targets
        self.latency = latency if "latency" in targets else None
        whole, full = cost_table(structure), structure.full()
        self.dense = whole.count(whole.lengths(full)).astype(np.float64)
        self.dense_ms = 0.0
        if self.latency is not None:
            ms = whole.milliseconds(structure, self.latency, whole.lengths(full))
            self.dense_ms = float(ms)
        self.dense_channels = float(structure.channels.sum())
        self.place = (self.table.lengths(keep), int(structure.channels[keep].sum()))

    @property
    def lengths(self) -> Indices:
        """Length of each prunable dimension, int64[dims]."""
        return self.place[0]

    @property
    def channels(self) -> int:
        """Channels of all groups."""
        return self.place[1]

    def milliseconds(self, lengths: Indices) -> NDArray[np.float64]:
        """Return the latency for such lengths, or 0 without a target for it."""
        if self.latency is None:
            return np.zeros(lengths.shape[:-1])
        return self.table.milliseconds(self.structure, self.latency, lengths)

    def change(self, step: Step, sign: int) -> None:
        """Take a step (-1) or undo it (+1)."""
        lengths, channels = self.place
        self.place = (
            lengths + sign * step.lengths,
            channels + sign * step.channels,
        )

    def met(self) -> bool:
        """Return whether every target is met."""
        return not self.unmet()

    def unmet(self) -> set[str]:
        """Return the kinds of the targets that are not met yet."""
        found = self.shares()
        return {k for k, item in self.targets.items() if not is_met(found[k], item)}

    def used(self) -> float:
        """Return the largest used part of a target, <= 1 if all are met."""
        found = self.shares()
        return max((found[k] / item for k, item in self.targets.items()), default=1.0)

    def shares(self) -> dict[str, float]:
        """Return the shares of the dense network that are left, by kind of target."""
        cost = self.table.count(self.lengths) / np.maximum(self.dense, 1.0)
        found = {
            "params": float(cost[0]),
            "flops": float(cost[1]),
            "bytes": float(cost[2]),
            "channel_density": self.channels / max(self.dense_channels, 1.0),
        }
        if self.latency is not None:
            found["latency"] = float(self.milliseconds(self.lengths)) / self.dense_ms
        return found

    def weights(self) -> tuple[float, float, float]:
        """Return the current weights of a freed share of parameters, MACs and time.

        A cost whose target is not met counts in full, and one whose target is met
        counts little, so that the next step serves the unmet target.
        """
        unmet = self.unmet()
        params = 1.0 if unmet & {"params", "bytes"} else MET_WEIGHT
        if "latency" in unmet:
            return params, 1.0 if "flops" in unmet else MET_WEIGHT, 1.0
        if "flops" not in unmet:
            return 1.0, MACS_WEIGHT, 0.0
        return params, 1.0, 0.0

    def prices(self, steps: list[Step]) -> NDArray[np.float64]:
        """Return importance lost per cost freed of each step, float64[steps]."""
        after = self.lengths - np.stack([step.lengths for step in steps])
        freed = self.table.count(self.lengths) - self.table.count(after)
        cost = freed / np.maximum(self.dense, 1.0)
        importance = np.asarray([step.importance for step in steps])
        params, macs, time = self.weights()
        value = params * cost[:, 0] + macs * cost[:, 1]
        if time:
            before, left = (self.milliseconds(n) for n in (self.lengths, after))
            # By a measured table a narrower layer may be slower.
            value = value + time * np.maximum(before - left, 0.0) / self.dense_ms
        found: NDArray[np.float64] = importance / value
        return found


TakenSteps = list[tuple[int, Step]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _End:
    """A result that meets the targets, and needs each of its steps for that.

    Attributes:
        used: Largest used part of a target, <= 1.
        taken: The steps.
        place: Lengths and channels after them, as in the state.
    """

    used: float
    taken: TakenSteps
    place: tuple[Indices, int]


def descend(state: State, ways: Sequence[Sequence[Step]]) -> TakenSteps:
    """Return the steps that meet the targets, with the number of each step's group.

    The cheapest next step is taken repeatedly until the targets are met; then steps
    that they do not need are undone.  Where the last step was so large that even then
    less than 98 % of every target is left, its group keeps its width, and the others
    continue.  If no such result is within 2 %, single steps are exchanged, starting
    from the nearest result, for up to 100 results, and the nearest is returned.

    All steps are returned if even they do not meet the targets.
    """
    if state.met():
        return []
    taken: TakenSteps = []
    done = [0] * len(ways)
    nearest: _End | None = None
    barred: set[int] = set()
    while (group := _cheapest(state, ways, done, barred)) is not None:
        step, before = ways[group][done[group]], state.place
        state.change(step, -1)
        if not state.met():
            taken.append((group, step))
            done[group] += 1
            continue
        end = _end(state, [*taken, (group, step)])
        if nearest is None or end.used > nearest.used:
            nearest = end
        if is_near(end.used):
            return end.taken
        state.place = before
        barred.add(group)
    return taken if nearest is None else _exchange(state, ways, nearest).taken


def _exchange(state: State, ways: Sequence[Sequence[Step]], start: _End) -> _End:
    """Exchange single steps until a result meets the targets within 2 %.

    Each exchange takes one more step of one group and undoes the steps that are not
    needed then.
    """
    ends, seen = [start], {_counts(start.taken)}
    for end in ends:
        done = Counter(group for group, _ in end.taken)
        for group, way in enumerate(ways):
            if done[group] == len(way):
                continue
            step = way[done[group]]
            state.place = end.place
            state.change(step, -1)
            if not state.met():  # by a measured table a narrower layer may be slower
                continue
            other = _end(state, [*end.taken, (group, step)], frozenset({group}))
            if is_near(other.used):
                return other
            if _counts(other.taken) not in seen:
                seen.add(_counts(other.taken))
                ends.append(other)
        if len(ends) >= _ENDS:
            break
    return max(ends, key=lambda end: end.used)


def _counts(taken: TakenSteps) -> frozenset[tuple[int, int]]:
    return frozenset(Counter(group for group, _ in taken).items())


def _cheapest(
    state: State, ways: Sequence[Sequence[Step]], done: list[int], barred: set[int]
) -> int | None:
    """Return the group whose next step is cheapest, None when no step is left."""
    groups = [g for g, way in enumerate(ways) if done[g] < len(way) and g not in barred]
    if not groups:
        return None
    prices = state.prices([ways[group][done[group]] for group in groups])
    # Of equal prices the groups are cut evenly.
    equal = np.flatnonzero(prices == prices.min())
    lost = [done[groups[i]] / len(ways[groups[i]]) for i in equal]
    return groups[int(equal[int(np.argmin(lost))])]


def _end(
    state: State, taken: TakenSteps, closed: AbstractSet[int] = frozenset()
) -> _End:
    """Undo steps that the targets do not need, the last ones of each group first.

    Args:
        state: The state after all steps; changed to that after the needed ones.
        taken: The steps.
        closed: Groups whose steps are all needed.
    """
    needed: TakenSteps = []
    closed = set(closed)
    for group, step in reversed(taken):
        if group not in closed:
            before = state.place
            state.change(step, +1)
            if state.met():
                continue
            state.place = before
            closed.add(group)
        needed.append((group, step))
    return _End(used=state.used(), taken=needed[::-1], place=state.place)
