"""Choose which whole blocks go, before channels do: least importance per freed cost."""

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

    The price of a block is the importance of the units that live inside of it over the
    share of the dense network that it frees: parameters plus 0.3 of the MACs, and the
    latency where a target asks for it.  A block whose end would leave less than 98 % of
    every target stays: channels can come nearer.  Ties: the earlier block goes.

    Args:
        structure: The structure of the original network.
        keep: What is kept now.
        importance: float32[units], finite; greater = keep.
        final: The targets of the last cut, shares of the dense network by kind.
        most: Blocks that may be gone afterwards, those of ``keep`` included, >= 0.
        latency: What a "latency" target is measured by.
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
    """Return what a block frees; a block has weights, so it is above 0."""
    gains = {kind: before[kind] - after[kind] for kind in before}
    freed = gains["params"] + MACS_WEIGHT * gains["flops"]
    return freed + (max(gains["latency"], 0.0) if "latency" in final else 0.0)
