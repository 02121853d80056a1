"""The cost of a cut network: weights and multiply-accumulates, counted exactly.

A budget target is a share of the DENSE network.  FLOPs are twice the
multiply-accumulates (MACs) of convolutions and linear layers for one example, which
is what ``torch.utils.flop_counter`` counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fedprune.common.errors import ConfigError
from fedprune.common.pruning.latency import LatencyTable
from fedprune.common.spec import Indices, Mask, TensorSpec
from fedprune.common.structure.structure import FIXED, MEAN, Structure

KINDS = ("params", "flops", "channel_density", "bytes", "latency")
_FLOAT = 4  # bytes of a weight in the final file
# A share is met when it is not above its target by more than float64 rounding.
ROUNDING = 1e-12
NEAR = 0.02  # largest unused part of a budget that is met closely
_WIDEST_STEP = 8  # channels between two legal widths, where the width sets them
_WIDTHS = 8  # legal widths of a group at least, where its width sets the step


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The cost of one network.

    Attributes:
        params: Trained weights.
        macs: Multiply-accumulates of one example.
        size: Bytes of its float32 tensors and statistics in a file, without names.
    """

    params: int
    macs: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CostTable:
    """A structure as arrays, for fast counts of many keep masks.

    Attributes:
        fixed: Positions that are never cut, of each prunable dimension, int64[dims].
        counts: Positions of each unit in each of them, int32[dims, units].
        base: Product of the lengths that never change, of each tensor, int64[tensors].
        slots: Numbers of the prunable dimensions of each tensor, int64[tensors, k];
            ``dims`` = no further dimension.
        weighs: Weights, multiplications and bytes per entry, int64[tensors, 3].
        rows: Number of each prunable dimension by (tensor, dim).
    """

    fixed: Indices
    counts: NDArray[np.int32]
    base: Indices
    slots: Indices
    weighs: Indices
    rows: Mapping[tuple[str, int], int]

    def lengths(self, keep: Mask) -> Indices:
        """Return the length of each prunable dimension, int64[dims]."""
        found: Indices = self.fixed + self.counts[:, keep].sum(axis=1, dtype=np.int64)
        return found

    def count(self, lengths: Indices) -> Indices:
        """Return weights, MACs and bytes, int64[..., 3], for lengths [..., dims]."""
        ones = np.ones((*lengths.shape[:-1], 1), dtype=np.int64)
        padded = np.concatenate([lengths, ones], axis=-1)
        sizes = self.base * padded[..., self.slots].prod(axis=-1)
        found: Indices = sizes @ self.weighs
        return found

    def milliseconds(
        self, structure: Structure, table: LatencyTable, lengths: Indices
    ) -> NDArray[np.float64]:
        """Return milliseconds by a measured table, float64[...], for such lengths."""
        widths = []
        for layer in table.layers:
            # A layer of a dropped block has no outputs, and needs no time.
            shape = structure.shapes.get(layer.tensor, (0, 0))
            both = [
                lengths[..., self.rows[layer.tensor, dim]]
                if (layer.tensor, dim) in self.rows
                else np.full(lengths.shape[:-1], shape[dim], np.int64)
                for dim in (1, 0)
            ]
            widths.append((both[0], both[1]))
        return table.milliseconds(widths)


@lru_cache(maxsize=8)
def cost_table(structure: Structure) -> CostTable:
    """Return the cost table of a structure."""
    means = [
        TensorSpec(name=moment.name + MEAN, shape=moment.shape)
        for moment in structure.moments
    ]
    tensors = [*structure.tensors, *means]
    names = {tensor.name for tensor in tensors}
    dims = [dim for dim in structure.dims if dim.tensor in names]
    numbers = {(dim.tensor, dim.dim): row for row, dim in enumerate(dims)}
    counts = np.zeros((len(dims), structure.units), dtype=np.int32)
    for row, dim in enumerate(dims):
        free = dim.units[dim.units != FIXED]
        counts[row] = np.bincount(free, minlength=structure.units)
    base, slots = [], []
    for tensor in tensors:
        keys = [(tensor.name, dim) for dim in range(len(tensor.shape))]
        cut = [numbers[key] for key in keys if key in numbers]
        gone = int(np.prod([tensor.shape[dims[row].dim] for row in cut], dtype=int))
        base.append(tensor.size // gone)
        slots.append(cut)
    width = max((len(cut) for cut in slots), default=0)
    padded = [cut + [len(dims)] * (width - len(cut)) for cut in slots]
    return CostTable(
        fixed=np.asarray([(dim.units == FIXED).sum() for dim in dims], np.int64),
        counts=counts,
        base=np.asarray(base, np.int64),
        slots=np.asarray(padded, np.int64).reshape(len(slots), width),
        weighs=np.asarray(
            [
                *(
                    (1, structure.multiplies.get(item.name, 0), _FLOAT)
                    for item in structure.tensors
                ),
                *((0, 0, 2 * _FLOAT) for _ in means),  # mean and variance
            ],
            np.int64,
        ).reshape(len(tensors), 3),
        rows=numbers,
    )


def count_cost(structure: Structure, keep: Mask) -> Cost:
    """Return the exact cost of the network that keeps ``keep``."""
    structure.check_mask(keep)
    table = cost_table(structure.living(keep))
    params, macs, size = table.count(table.lengths(keep)).tolist()
    return Cost(params=params, macs=macs, size=size)


def flops(cost: Cost) -> int:
    """Return floating-point operations, two for each multiply-accumulate."""
    return 2 * cost.macs


def shares(
    structure: Structure, keep: Mask, latency: LatencyTable | None = None
) -> dict[str, float]:
    """Return the shares of the dense network that are left, by kind of target.

    Args:
        structure: The original network.
        keep: Keep mask, bool[units].
        latency: Table for the share of "latency", or None.

    Returns:
        Kind -> share, 0 < share <= 1.
    """
    dense, cut = count_cost(structure, structure.full()), count_cost(structure, keep)
    channels = structure.channels
    found = {
        "params": cut.params / max(dense.params, 1),
        "flops": cut.macs / max(dense.macs, 1),
        "channel_density": float(channels[keep].sum() / max(channels.sum(), 1)),
        "bytes": cut.size / max(dense.size, 1),
    }
    if latency is not None:
        left = _milliseconds(structure, keep, latency)
        found["latency"] = left / _milliseconds(structure, structure.full(), latency)
    return found


def _milliseconds(structure: Structure, keep: Mask, latency: LatencyTable) -> float:
    left = structure.living(keep)
    table = cost_table(left)
    return float(table.milliseconds(left, latency, table.lengths(keep)))


def is_met(share: float, target: float) -> bool:
    """Return whether a share is not above its target."""
    return share <= target * (1.0 + ROUNDING)


def is_near(used: float) -> bool:
    """Return whether a met target is met within 2 %, from the used part of it."""
    return used >= 1.0 - NEAR


def width_step(width: int, width_multiple: int) -> int:
    """Return what the legal widths of a group are multiples of, >= 1.

    Args:
        width: Channels of the group in the original network, >= 1.
        width_multiple: The step of every group, or 0: the largest power of two that is
            not above an eighth of the width, 8 at most, so that a cut can choose among
            eight widths at least, and wide layers keep widths that run fast.

    >>> [width_step(width, 0) for width in (6, 16, 32, 64, 512)]
    [1, 2, 4, 8, 8]
    """
    if width_multiple > 0:
        return width_multiple
    step = _WIDEST_STEP
    while step > 1 and step * _WIDTHS > width:
        step //= 2
    return step


def legal_cuts(
    channels: Indices, width: int, *, floor: int, width_multiple: int
) -> Indices:
    """Return the numbers of units whose cut leaves a legal width, rising, int64[k].

    Legal widths are multiples of the group's step (:func:`width_step`) that are not
    below ``floor``; the original width, without a cut, is legal too.

    Args:
        channels: Channels of each unit of a group, in the order in which they are cut.
        width: Channels of the group in the original network.
        floor: Fewest channels left, >= 1.
        width_multiple: Step of the legal widths, 0 = by the width.
    """
    step = width_step(width, width_multiple)
    left = channels.sum() - np.cumsum(channels)
    legal = (left % step == 0) & (left >= max(floor, step))
    return np.flatnonzero(legal) + 1


def smallest_mask(structure: Structure, *, floor: int, width_multiple: int) -> Mask:
    """Return a mask of the smallest legal network: the lowest units of each group."""
    keep = structure.full()
    for group in structure.groups:
        order = group.units[::-1]
        channels = structure.channels[order].astype(np.int64)
        width = int(channels.sum())
        cuts = legal_cuts(channels, width, floor=floor, width_multiple=width_multiple)
        keep[order[: cuts[-1] if cuts.size else 0]] = False
    return keep


def check_targets(
    targets: Mapping[str, float], latency: LatencyTable | None = None
) -> None:
    """Check kinds and ranges of targets, and that a latency target has its table.

    Raises:
        ConfigError: If a kind is unknown, a share is outside (0, 1], or the table is
            missing.
    """
    unknown = sorted(targets.keys() - set(KINDS))
    if unknown:
        msg = f"budget has {unknown}; want keys of {[*KINDS]}"
        raise ConfigError(msg)
    if "latency" in targets and latency is None:
        msg = "budget latency needs a table; want prune.latency_table = FILE, made by"
        msg += " fedprune profile"
        raise ConfigError(msg)
    for kind, target in targets.items():
        if not 0.0 < target <= 1.0:
            msg = f"budget {kind} is {target}; want 0 < share <= 1"
            raise ConfigError(msg)


def check_budget(
    structure: Structure,
    targets: Mapping[str, float],
    *,
    floor: int,
    width_multiple: int,
    latency: LatencyTable | None = None,
) -> None:
    """Refuse a budget that even the smallest legal network misses.

    Raises:
        ConfigError: With the share that is reachable, and the setting that prevents
            less.
    """
    check_targets(targets, latency)
    one, other = f"floor = {floor}", f"width_multiple = {width_multiple}"
    if width_multiple == 0:
        other = "the legal widths of each layer (prune.width_multiple = 1 has all)"
    without = {  # settings to drop, (floor, width multiple) then; the fewest first
        "": (floor, width_multiple),
        one: (1, width_multiple),
        other: (floor, 1),
        f"{one} together with {other}": (1, 1),
    }
    reach = {
        name: shares(
            structure,
            smallest_mask(structure, floor=low, width_multiple=by),
            latency,
        )
        for name, (low, by) in without.items()
    }
    for kind, target in targets.items():
        helps = [name for name, found in reach.items() if is_met(found[kind], target)]
        if "" in helps:
            continue
        msg = f"budget {kind} = {target:g} cannot be met: the smallest legal network"
        msg += f" still has {reach[''][kind]:.4f} of the dense one; "
        msg += (
            f"prevented by {helps[0]}"
            if helps
            else "even one unit in each group is more"
        )
        raise ConfigError(msg)
