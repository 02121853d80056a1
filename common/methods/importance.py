"""Criteria of importance: the worth of each channel.

Clients measure the criteria that need products, activations or changes of the loss, on
the broadcast before they train; the server computes the others from the weights.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedprune.common.methods.channel_weights import ChannelWeights
from fedprune.common.methods.kinds import IMPORTANCE
from fedprune.common.methods.registry import method

Scores: TypeAlias = NDArray[np.float64]


@method(IMPORTANCE)
def taylor(product_sums: Scores) -> Scores:
    """First-order change of the loss when a channel is removed.

    ``|sum over the examples of a batch of gradient * value|``, Molchanov et al. 2019,
    arXiv:1906.10771, with a gate per channel.
    """
    return np.abs(product_sums)


@method(IMPORTANCE)
def fisher(products: Scores) -> Scores:
    """Sum over examples of the squared change of each one's loss.

    Theis et al. 2018, arXiv:1801.05787.
    """
    total: Scores = np.square(products).sum(axis=0)
    return total


@method(IMPORTANCE)
def activation_mean(activations: NDArray[np.float32]) -> Scores:
    """Mean magnitude of a channel's output, over examples and positions."""
    values = np.abs(activations.astype(np.float64))
    found: Scores = len(values) * values.mean(axis=(0, 2))
    return found


@method(IMPORTANCE)
def activation_variance(activations: NDArray[np.float32]) -> Scores:
    """Variance of a channel's output, over a batch's examples and positions."""
    found: Scores = len(activations) * activations.astype(np.float64).var(axis=(0, 2))
    return found


@method(IMPORTANCE)
def apoz(activations: NDArray[np.float32]) -> Scores:
    """Share of a channel's outputs that are positive after a ReLU.

    Hu et al. 2016, arXiv:1607.03250, one minus their average percentage of zeros.
    """
    found: Scores = len(activations) * (activations > 0.0).mean(axis=(0, 2))
    return found


@method(IMPORTANCE)
def sensitivity(loss_changes: Scores) -> Scores:
    """Change of the loss when a channel is set to zero, measured.

    One run over the examples for each channel.
    """
    return np.abs(loss_changes)


@method(IMPORTANCE, laws=("scales",))
def l1(weights: ChannelWeights) -> Scores:
    """Mean magnitude of the weights that produce a channel.

    Li et al. 2017, arXiv:1608.08710, per entry instead of per channel, so that wide
    layers are not preferred for their width.
    """
    return weights.mean(np.abs)


@method(IMPORTANCE, laws=("scales",))
def l2(weights: ChannelWeights) -> Scores:
    """Root mean square of the weights that produce a channel."""
    return np.sqrt(weights.mean(np.square))


@method(IMPORTANCE, laws=("scale-free",))
def l1_group(weights: ChannelWeights) -> Scores:
    """The criterion l1 over its mean in the pruning group.

    Groups with small weights are not cut first.
    """
    return _over_mean(l1(weights))


@method(IMPORTANCE, laws=("scale-free",))
def l2_group(weights: ChannelWeights) -> Scores:
    """The criterion l2 over its mean in the pruning group."""
    return _over_mean(l2(weights))


@method(IMPORTANCE, laws=("scales",))
def gamma(weights: ChannelWeights) -> Scores:
    """Sum of the magnitudes of a channel's norm scales, l2 without norms.

    Liu et al. 2017, arXiv:1708.06519.
    """
    return np.where(weights.normed, weights.scale_sum(), l2(weights))


@method(IMPORTANCE, laws=("scales",))
def fpgm(weights: ChannelWeights) -> Scores:
    """Mean distance to the other rows of the same weight, per entry.

    A channel that others can replace is cut first.  He et al. 2019, arXiv:1811.00250.
    """

    def distances(rows: Scores) -> Scores:
        square = (rows**2).sum(axis=1)
        gram = square[:, None] + square - 2.0 * rows @ rows.T
        far = np.sqrt(np.maximum(gram, 0.0)).mean(axis=1)
        found: Scores = far / np.sqrt(rows.shape[1])
        return found

    return weights.mean_of_rows(distances)


@method(IMPORTANCE, laws=("scale-free",))
def lamp(weights: ChannelWeights) -> Scores:
    """Energy of a channel over the sum of all energies of its group not below it.

    Lee et al. 2021, arXiv:2010.07611, Eq. 4, by channel.
    """
    energy = weights.mean(np.square)
    order = np.argsort(energy, kind="stable")
    above = np.cumsum(energy[order][::-1])[::-1]
    found = np.zeros(len(energy))
    found[order] = energy[order] / np.where(above > 0.0, above, 1.0)
    return found


@method(IMPORTANCE)
def random(draws: Scores) -> Scores:
    """Random numbers: the control that a criterion must beat.

    Runs with it have no penalty, which would shrink the channels before they are cut.
    """
    return draws


def _over_mean(scores: Scores) -> Scores:
    mean = scores.mean() if len(scores) else 0.0
    return scores / mean if mean > 0.0 else scores
