"""Weight masks: selection of the entries of matrices and kernels that stay."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedprune.common.methods.kinds import MASK
from fedprune.common.methods.registry import method
from fedprune.common.spec import Mask

Matrix: TypeAlias = NDArray[np.float64]


@method(MASK)
def unstructured(matrix: Matrix) -> Matrix:
    """The entries of greatest magnitude."""
    return np.abs(matrix)


@method(MASK)
def sensitivity(matrix: Matrix) -> Matrix:
    """The entries of greatest magnitude over the standard deviation of their tensor.

    Like a threshold at a multiple of each layer's standard deviation (Han et al. 2015,
    arXiv:1506.02626): a layer of small weights is not emptied first.
    """
    spread = float(matrix.std())
    return np.abs(matrix) / (spread if spread > 0.0 else 1.0)


@method(MASK, laws=("whole",))
def blocks(matrix: Matrix, block: int) -> Matrix:
    """Whole blocks of rows and columns, by their mean square.

    A weight counts as a matrix of outputs by inputs and kernel positions; the blocks at
    its ends may be smaller.  Gray et al. 2017, block-sparse kernels.
    """
    flat = matrix.reshape(len(matrix), -1)
    rows, columns = (np.arange(length) // block for length in flat.shape)
    across = columns[-1] + 1
    number = rows[:, None] * across + columns
    total = np.bincount(number.ravel(), (flat**2).ravel())
    mean: Matrix = total / np.bincount(number.ravel())
    found: Matrix = mean[number].reshape(matrix.shape)
    return found


@method(MASK, "n:m", laws=("one step",))
def n_of_m(matrix: Matrix, kept: Mask, n: int, m: int) -> Mask:
    """The n greatest of each m neighbouring input channels.

    Sparse tensor cores support 2:4 (Mishra et al. 2021, arXiv:2104.08378).  Tensors
    whose input channels are not a multiple of m stay unmasked.  Ties: the lower channel
    stays.
    """
    if matrix.shape[1] % m:
        return kept
    groups = np.moveaxis(np.where(kept, np.abs(matrix), -1.0), 1, -1)
    grouped = groups.reshape(*groups.shape[:-1], -1, m)
    order = np.argsort(-grouped, axis=-1, kind="stable")
    best = np.zeros(grouped.shape, dtype=np.bool_)
    np.put_along_axis(best, order[..., :n], values=True, axis=-1)
    chosen: Mask = kept & np.moveaxis(best.reshape(groups.shape), -1, 1)
    return chosen
