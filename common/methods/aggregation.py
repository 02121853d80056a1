"""Aggregation rules: one delta made of those of the clients.

A rule that outvotes hostile clients needs several senders of each weight.  In a sparse
round most weights have few: what ``m`` senders agree on is scaled by their share of
the clients, and once more by ``m / (2 * hostile + 1)`` where they are fewer than that,
since hostile ones might be their majority (cf. arXiv:2505.01454).  With
``update.choice = "shared"`` all clients send the same weights, and nothing is scaled.
"""

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedprune.common.methods import robust
from fedprune.common.methods.kinds import AGGREGATION
from fedprune.common.methods.registry import method
from fedprune.common.spec import Mask, Vector

if TYPE_CHECKING:
    from fedprune.common.aggregate import Accumulator

Weights: TypeAlias = NDArray[np.float64]


@method(AGGREGATION)
def mean(total: "Accumulator") -> Vector:
    """Mean of the deltas, weighted by examples: FedAvg.

    McMahan et al. 2017, arXiv:1602.05629.
    """
    return total.mean_delta()


@method(AGGREGATION, laws=("robust",))
def median(deltas: Vector, sent: Mask, hostile: int) -> Vector:
    """Median of each weight over the clients that sent it.

    Yin et al. 2018, arXiv:1803.01498.
    """
    any_sent = sent.any(axis=0)
    middle = np.zeros(deltas.shape[1], dtype=np.float32)
    values = np.where(sent, deltas, np.float32(np.nan))
    middle[any_sent] = np.nanmedian(values[:, any_sent], axis=0)
    scaled: Vector = (middle * robust.trust(sent, hostile)).astype(np.float32)
    return scaled


@method(AGGREGATION, laws=("robust",))
def trimmed_mean(deltas: Vector, sent: Mask, hostile: int) -> Vector:
    """Mean of each weight over its senders without the extremes at each end.

    As many as there may be hostile clients, but never the middle ones.  Yin et al.
    2018, arXiv:1803.01498.
    """
    senders = sent.sum(axis=0)
    cut = np.minimum(hostile, np.maximum(senders - 1, 0) // 2)
    # Not a number sorts behind all numbers: the senders come first.
    ordered = np.sort(np.where(sent, deltas, np.float32(np.nan)), axis=0)
    rank = np.arange(len(deltas))[:, None]
    inside = (rank >= cut) & (rank < senders - cut)
    kept = np.where(inside, ordered, np.float32(0.0)).astype(np.float64)
    middle = kept.sum(axis=0) / np.maximum(inside.sum(axis=0), 1)
    scaled: Vector = (middle * robust.trust(sent, hostile)).astype(np.float32)
    return scaled


@method(AGGREGATION)
def centred_clipping(deltas: Vector, sent: Mask, hostile: int) -> Vector:
    """Mean of pairs of clients, each clipped around the last such mean.

    Pairs (bucketing) make clients with unlike data alike.  Karimireddy et al. 2021,
    arXiv:2012.10333; buckets: Karimireddy et al. 2022, arXiv:2006.09365.
    """
    pairs = robust.buckets(deltas.astype(np.float64), size=2)
    centre = robust.centred_clip(pairs, steps=8)
    scaled: Vector = (centre * robust.majority(sent, hostile)).astype(np.float32)
    return scaled


@method(AGGREGATION)
def geometric_median(
    deltas: Vector, sent: Mask, num_examples: Weights, hostile: int
) -> Vector:
    """The delta of least total distance to those of the clients, weighted by examples.

    Pillutla et al. 2022, arXiv:1912.13445.
    """
    centre = robust.weiszfeld(deltas.astype(np.float64), num_examples, steps=32)
    scaled: Vector = (centre * robust.majority(sent, hostile)).astype(np.float32)
    return scaled


@method(AGGREGATION, laws=("robust",))
def multi_krum(
    deltas: Vector, sent: Mask, num_examples: Weights, hostile: int
) -> Vector:
    """Mean of the clients nearest to one another, weighted by examples.

    As many are left out as there may be hostile ones: first those whose entries hardly
    any other client sent, then those whose delta is the farthest from its nearest
    neighbours.  Blanchard et al. 2017, arXiv:1703.02757; masks: arXiv:2505.01454.
    """
    kept = robust.without_odd_masks(sent, hostile)
    kept = kept[robust.krum(deltas[kept].astype(np.float64), hostile, len(deltas))]
    share = num_examples[kept] / num_examples[kept].sum()
    centre = (share[:, None] * deltas[kept].astype(np.float64)).sum(axis=0)
    scaled: Vector = (centre * robust.majority(sent[kept], hostile)).astype(np.float32)
    return scaled
