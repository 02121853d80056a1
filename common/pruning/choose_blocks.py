"""Choice of whole blocks to drop before units: least importance per freed cost."""

import math
from collections.abc import Mapping

from fedprune.common.pruning.cost import is_near, shares
from fedprune.common.pruning.latency import LatencyTable
from fedprune.common.pruning.search import MACS_WEIGHT
from fedprune.common.spec import Mask, Vector
from fedprune.common.structure.structure import Structure


def choose_blocks(
    structure: Structure,
    keep: Mask,
    importance: Vector,
    final: Mapping[str, float],
    *,
    most: int,
    latency: LatencyTable | None = None,
) -> Mask:
    """Return the mask without the cheapest blocks, nested in ``keep``.

    The price of a block is the importance of the units inside of it over the share of
    the dense network that it frees: parameters plus 0.3 of the MACs, and the latency
    if there is a target for it.  A block stays if the network without it would leave
    less than 98 % of every target: cuts of units come nearer.  Ties: the earlier block
    is dropped.

    Args:
        structure: The structure of the original network.
        keep: Current keep mask, bool[units].
        importance: float32[units], finite; greater = keep.
        final: The targets of the last cut, shares of the dense network by kind.
        most: Most dropped blocks, including those that ``keep`` drops, >= 0.
        latency: Table for a "latency" target.
    """
    found = keep
    for _ in range(most - len(structure.dropped(keep))):
        now = shares(structure, found, latency)
        prices: dict[str, float] = {}
        masks: dict[str, Mask] = {}
        gone = structure.dropped(found)
        for block, units in structure.inner_units.items():
            without = found.copy()
            without[units] = False
            left = shares(structure, without, latency)
            used = max(left[kind] / end for kind, end in final.items())
            if block in gone or not is_near(used):
                continue
            lost = math.fsum(importance[units[found[units]]].tolist())
            prices[block] = lost / _freed(now, left, final)
            masks[block] = without
        if not prices:
            break
        found = masks[min(prices, key=lambda block: prices[block])]
    return found


def _freed(
    before: Mapping[str, float], after: Mapping[str, float], final: Mapping[str, float]
) -> float:
    """Return the cost that a block frees, > 0, because a block has weights."""
    gains = {kind: before[kind] - after[kind] for kind in before}
    freed = gains["params"] + MACS_WEIGHT * gains["flops"]
    return freed + (max(gains["latency"], 0.0) if "latency" in final else 0.0)
