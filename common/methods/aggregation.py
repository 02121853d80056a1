"""Aggregation rules: one delta out of those of the clients."""

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

    Most clients of a sparse round send nothing at most weights, and a median over all
    would be zero: so it is scaled by the share of the senders (cf. arXiv:2505.01454).
    """
    values = np.where(sent, deltas, np.float32(np.nan))
    senders = sent.sum(axis=0)
    heard = senders > 0
    middle = np.zeros(deltas.shape[1], dtype=np.float32)
    middle[heard] = np.nanmedian(values[:, heard], axis=0)
    scaled: Vector = (middle * (senders / len(deltas))).astype(np.float32)
    return scaled
