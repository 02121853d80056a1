"""Aggregation rules: one delta made of those of the clients."""

from typing import TYPE_CHECKING

import numpy as np

from fedprune.common.methods.kinds import AGGREGATION
from fedprune.common.methods.registry import method
from fedprune.common.spec import Mask, Vector

if TYPE_CHECKING:
    from fedprune.common.aggregate import Accumulator


@method(AGGREGATION)
def mean(total: "Accumulator") -> Vector:
    """Mean of the deltas, weighted by examples: FedAvg.

    McMahan et al. 2017, arXiv:1602.05629.
    """
    return total.mean_delta()


@method(AGGREGATION, laws=("robust",))
def median(deltas: Vector, sent: Mask) -> Vector:
    """Median of each weight over the clients that sent it, scaled.

    In a sparse round most clients send nothing for most weights, and a median over all
    clients would be zero: the median over the senders is scaled by their share instead
    (cf. arXiv:2505.01454).
    """
    values = np.where(sent, deltas, np.float32(np.nan))
    senders = sent.sum(axis=0)
    any_sent = senders > 0
    middle = np.zeros(deltas.shape[1], dtype=np.float32)
    middle[any_sent] = np.nanmedian(values[:, any_sent], axis=0)
    scaled: Vector = (middle * (senders / len(deltas))).astype(np.float32)
    return scaled
