"""Choices: the selection of the entries of a delta that a client sends."""

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedprune.common import native
from fedprune.common.methods.kinds import CHOICE
from fedprune.common.methods.registry import method
from fedprune.common.native import Pool
from fedprune.common.spec import Indices, Mask, Vector

if TYPE_CHECKING:
    from fedprune.common.codec import Layout

Bits: TypeAlias = NDArray[np.float64]

_POOL = 2  # candidates for each entry that is sent
_MOST_STEPS = 16
_SETTLED = 100  # a selection is final when fewer than one in so many change


@method(CHOICE)
def magnitude(total: Vector, count: int) -> Mask:
    """The entries of largest magnitude, over all tensors together.

    Of equals the one with the smaller index.  Stich et al. 2018, arXiv:1809.07599,
    Alg. 1.

    >>> magnitude(np.float32([1, -3, 0, 3, 2]), 2).tolist()
    [False, True, False, True, False]
    """
    out: Mask = np.zeros(len(total), dtype=np.bool_)
    out[largest(total, count)[0]] = True
    return out


@method(CHOICE)
def rate(total: Vector, count: int, layout: "Layout", value_bits: float) -> Mask:
    """The entries with the most energy for their bits on the wire.

    Rule: an entry of value v at a position of odds p costs ``value_bits + log2(1 /
    p)``; the ``count`` largest ``v**2 / cost`` are kept, of equals the smaller index,
    out of the ``2 * count`` largest magnitudes.  The odds are those of the row times
    those of the column over those of the tensor, counted on the entries chosen before:
    the largest at first, then again until at most one in 100 changes, or 16 times.

    >>> from fedprune.common.codec import Layout
    >>> from fedprune.common.spec import ModelSpec, TensorSpec
    >>> tensor = TensorSpec(name="w", shape=(3, 4))
    >>> layout = Layout(ModelSpec(tensors=(tensor,), moments=0, units=0))
    >>> total = np.float32([9, 9, 9, 8, 0, 0, 0, 0, 0, 0, 0, 8.1])
    >>> np.flatnonzero(rate(total, 4, layout, 1.0)).tolist()
    [0, 1, 2, 3]
    """
    if not 0 < count < len(total):
        return np.full(len(total), count > 0)
    pool, values = largest(total, min(_POOL * count, len(total)))
    first, _ = largest(values, count)
    chosen = np.zeros(len(pool), dtype=np.bool_)
    chosen[first] = True
    largest_ones = pool[first]
    counts = (layout.row_counts(largest_ones), layout.column_counts(largest_ones))
    candidates = _Candidates(layout, pool, values)
    for _ in range(_MOST_STEPS):
        changed, counts = candidates.choose(chosen, counts, count, value_bits)
        if changed * _SETTLED <= count:
            break
    out: Mask = np.zeros(len(total), dtype=np.bool_)
    out[pool] = chosen
    return out


@method(CHOICE)
def shared(common: Bits, count: int) -> Mask:
    """The same entries for all clients, drawn anew in each round.

    Every entry has a sender at each client, so that robust rules are exact, and no
    positions travel; what is not drawn waits in the residual.  Konečný et al. 2016,
    arXiv:1610.05492, section 2 (random mask).

    >>> shared(np.array([0.3, 0.1, 0.9]), 2).tolist()
    [True, True, False]
    """
    return _largest(-common, count)


def largest(values: Vector, count: int) -> tuple[Indices, Vector]:
    """Return the ``count`` largest magnitudes, of equals the first.

    Returns:
        Their rising positions, int64[count], and the values there, float32[count].
    """
    if count >= len(values):
        return np.arange(len(values)), values
    kernels = native.kernels()
    if kernels is not None and count:
        return kernels.largest(values, count)
    found = np.flatnonzero(_largest(np.abs(values), count))
    return found, values[found]


def _largest(scores: NDArray[np.floating], count: int) -> Mask:
    """Return a mask of the ``count`` largest scores, of equals the first, bool[n]."""
    if not 0 < count < len(scores):
        return np.full(len(scores), count > 0)
    # A partition finds the threshold in O(n); only its ties need an order.
    threshold = np.partition(scores, len(scores) - count)[len(scores) - count]
    chosen: Mask = scores > threshold
    ties = np.flatnonzero(scores == threshold)
    chosen[ties[: count - int(chosen.sum())]] = True
    return chosen


Counts: TypeAlias = tuple[Indices, Indices]  # chosen entries of each row, each column


class _Candidates:
    """The candidates of a selection, row by row: their energy and columns.

    Args:
        layout: Rows and columns of the network.
        pool: Rising positions, int64[m].
        values: Their values, float32[m].
    """

    def __init__(self, layout: "Layout", pool: Indices, values: Vector) -> None:
        self._layout = layout
        self._energy = _energy(values)
        self._bounds = np.searchsorted(pool, layout.bounds)
        self._columns = layout.columns_of(pool)
        self._scores = np.empty(len(pool), dtype=np.float32)

    def choose(
        self, chosen: Mask, counts: Counts, count: int, value_bits: float
    ) -> tuple[int, Counts]:
        """Choose anew, in place, by the odds of these counts.

        Returns:
            The number of candidates that changed, and the new counts.
        """
        rows, columns = self._bits(counts)
        kernels = native.kernels()
        if kernels is not None:
            given = (self._bounds, self._energy, self._columns)
            pool = Pool(*given, chosen.view(np.uint8), self._scores)
            return kernels.rate_step(pool, rows, columns, value_bits, count)
        bits = np.repeat(rows, np.diff(self._bounds)) + columns[self._columns]
        cost = np.float32(value_bits) + np.maximum(bits, np.float32(0))
        found = _largest(self._energy / cost, count)
        changed = int(np.count_nonzero(found != chosen))
        chosen[:] = found
        of_rows = np.diff(np.searchsorted(np.flatnonzero(found), self._bounds))
        of_columns = np.bincount(self._columns[found], minlength=len(columns))
        return changed, (of_rows, of_columns)

    def _bits(self, counts: Counts) -> tuple[Vector, Vector]:
        """Return the bits of a position by its row and by its column, float32."""
        layout, (rows, columns) = self._layout, counts
        starts = layout.table[:, 1]
        tensors = np.add.reduceat(rows, starts)
        of_tensors = _rarity(tensors, np.add.reduceat(layout.lengths, starts))
        of_columns = _rarity(columns, layout.column_lengths)
        of_columns -= np.repeat(of_tensors, layout.table[:, 3])
        of_rows = _rarity(rows, layout.lengths)
        return of_rows.astype(np.float32), of_columns.astype(np.float32)


def _energy(values: Vector) -> Vector:
    """Return the squares of values relative to the largest, float32[m].

    Relative by a power of two: any scale gives the same choice.
    """
    exponent = int(np.frexp(np.abs(values).max(initial=0))[1])
    half = -exponent // 2
    # Two factors, as one may be beyond float32.
    found: Vector = values * np.float32(2.0**half)
    found *= np.float32(2.0 ** (-exponent - half))
    found *= found
    return found


def _rarity(counts: Indices, lengths: Indices) -> Bits:
    """Return ``log2(1 / share of chosen positions)`` of each part, float64[parts]."""
    # Half an entry more, as in the entropy coder's models: an empty row costs more than
    # others, and still has finite cost.
    found: Bits = np.log2((lengths + 1.0) / (counts + 0.5))
    return found
