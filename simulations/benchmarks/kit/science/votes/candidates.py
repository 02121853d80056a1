"""Criteria that were tried and are no part of FedPrune, as a user writes his own."""

import numpy as np
from numpy.typing import NDArray

from fedprune.common.methods.channel_weights import ChannelWeights

Scores = NDArray[np.float64]


def absolute(products: Scores) -> Scores:
    """Return the sum over examples of the magnitude of each one's product."""
    found: Scores = np.abs(products).sum(axis=0)
    return found


def second_order(products: Scores) -> Scores:
    """Return the change of the loss to second order, curvature by squared products.

    LeCun et al. 1989 (OBD), with the linear term, and half of the squared product of
    each example for the diagonal of the Hessian.
    """
    found: Scores = np.abs((0.5 * np.square(products) - products).sum(axis=0))
    return found


def without_mean(products: Scores) -> Scores:
    """Return the squared products without those of the batch's mean."""
    found: Scores = len(products) * products.var(axis=0)
    return found


def activation_by_weight(
    activations: NDArray[np.float32], weights: ChannelWeights
) -> Scores:
    """Return root mean square output times that of the weights that make it.

    Sun et al. 2024 (Wanda, arXiv:2306.11695), by channel instead of by entry.
    """
    size = np.sqrt(np.square(activations.astype(np.float64)).mean(axis=(0, 2)))
    found: Scores = len(activations) * size * np.sqrt(weights.mean(np.square))
    return found
