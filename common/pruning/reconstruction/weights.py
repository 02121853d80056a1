"""Weights behind a cut: each layer's input is rebuilt from the channels that are left.

A channel that is cut is replaced by the best linear map of those that are kept (least
squares over the examples of all clients), which the next layer's weights absorb.  The
idea of rebuilding what a layer reads by least squares is that of He et al. 2017,
arXiv:1707.06168, Eq. 1; there it needs the examples, here the covariances of their
channels, averaged over positions, are enough.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from fedprune.common.messages import Covariances
from fedprune.common.pruning.reconstruction.inputs import places
from fedprune.common.spec import Mask, Vector
from fedprune.common.structure.structure import Structure
from fedprune.common.system.device import one_thread

# Added to the correlation of each kept channel with itself (ridge): keeps channels
# that are nearly alike from large weights of opposite sign.
RIDGE = 1e-2

Matrix = NDArray[np.float64]


def reconstruct(
    weights: Vector, structure: Structure, old: Mask, new: Mask, found: Covariances
) -> Vector:
    """Return the weights of the network ``old``, ready to lose what ``new`` cuts.

    Only weights and biases of layers that read a cut channel change; a layer that
    keeps none of its inputs, or whose input was not measured, stays as it is.

    The bias takes the part of the mean that the map leaves.  A layer without one has
    the map that leaves least of mean and deviation together, unless the network has
    batch norm: that takes the mean out of what it normalises.

    Args:
        weights: Of the network ``old``, float32[n].
        structure: The structure of the original network.
        old: What ``weights`` keep, bool[units].
        new: What is left after the cut, bool[units], within ``old``.
        found: Pooled covariances of the inputs of the network ``old``.
    """
    changed = weights.copy()
    tensors = _tensors(changed, structure, old)
    for place in places(structure, old):
        mean = found.mean[place.channels].astype(np.float64)
        deviation = found.deviation[place.channels].astype(np.float64)
        left = new[place.read.kept(old)]
        if left.all() or not left.any() or not deviation.any():
            continue
        correlation = square(found.correlation[place.pairs], len(mean))
        bias = tensors.get(f"{place.read.module}.bias")
        if bias is None and not structure.moments:
            correlation, deviation = _about_zero(correlation, deviation, mean)
        rule = _rule(correlation, deviation, left)
        columns = place.read.columns_in(old)
        lost = _absorb(tensors[place.read.tensor], columns, rule, left)
        if bias is not None:
            rest = mean[~left] - (mean[left][:, None] * rule).sum(axis=0)
            bias += (lost * rest).sum(axis=1).astype(np.float32)
    return changed


def _tensors(flat: Vector, structure: Structure, keep: Mask) -> dict[str, Vector]:
    """Return views of flat weights by tensor, in the shapes of the cut network."""
    found, start = {}, 0
    for tensor in structure.spec(keep).tensors:
        end = start + tensor.size
        found[tensor.name] = flat[start:end].reshape(tensor.shape)
        start = end
    return found


def square(pairs: Vector, count: int) -> Matrix:
    """Return a correlation matrix, float64[count, count], of its lower triangle.

    It is made positive semidefinite: what clients say need not be.
    """
    full = np.eye(count)
    full[np.tril_indices(count, -1)] = pairs
    full = np.tril(full) + np.tril(full, -1).T
    with one_thread():
        values, vectors = torch.linalg.eigh(torch.from_numpy(full))
        if values[0] >= 0.0:
            return full
        known: Matrix = ((vectors * values.clamp(min=0.0)) @ vectors.T).numpy()
    scale = np.sqrt(np.maximum(known.diagonal(), 1e-12))
    found: Matrix = known / np.outer(scale, scale)
    return found


def _about_zero(
    correlation: Matrix, deviation: Matrix, mean: Matrix
) -> tuple[Matrix, Matrix]:
    """Return similarities and lengths of channels about zero, not about their means.

    Products of the results are second moments, as those of the arguments are
    covariances.
    """
    length = np.sqrt(deviation**2 + mean**2)
    scale = np.divide(1.0, length, out=np.zeros_like(length), where=length > 0)
    alike = correlation * np.outer(deviation, deviation) + np.outer(mean, mean)
    return alike * np.outer(scale, scale), length


def _rule(correlation: Matrix, deviation: Matrix, left: Mask) -> Matrix:
    """Return the weights of the kept channels in each cut one, float64[kept, cut]."""
    inner = correlation[np.ix_(left, left)] + RIDGE * np.eye(int(left.sum()))
    wanted = correlation[np.ix_(left, ~left)]
    with one_thread():
        solved = torch.linalg.solve(torch.from_numpy(inner), torch.from_numpy(wanted))
    alike: Matrix = solved.numpy()
    # A kept channel that is constant tells nothing of others.
    scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    found: Matrix = scale[left][:, None] * alike * deviation[~left][None, :]
    return found


def _absorb(
    weight: Vector, columns: NDArray[np.int64], rule: Matrix, left: Mask
) -> Matrix:
    """Add what the cut channels carried to the kept ones, in place.

    Returns:
        Sum of each output's weights of each cut channel, float64[outputs, cut].
    """
    read = weight[:, columns].astype(np.float64)  # outputs, channels, repeat, ...
    cut = read[:, ~left]
    added = np.einsum("og...,kg->ok...", cut, rule)
    weight[:, columns[left]] = (read[:, left] + added).astype(np.float32)
    found: Matrix = cut.reshape(*cut.shape[:2], -1).sum(axis=2)
    return found
