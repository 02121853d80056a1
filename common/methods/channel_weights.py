"""The weights of some channels: the input of criteria of importance."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedprune.common.spec import Mask

Elementwise: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]
_BLOCK = 1 << 16  # entries that stay in the cache of a processor core as float64


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows of one tensor along the dimension of its channels.

    Attributes:
        unit: Number of the unit of each row, int64[rows]; -1 = of another group.
        stored: The rows as the network has them, floating[rows, entries].
    """

    unit: NDArray[np.int64]
    stored: NDArray[np.floating]

    @property
    def values(self) -> NDArray[np.float64]:
        """All rows, float64[rows, entries], read-only."""
        return _exact(self.stored)

    def blocks(self) -> Iterator[NDArray[np.float64]]:
        """Yield some rows at a time, in order, float64[some, entries], read-only."""
        rows, entries = self.stored.shape
        # numpy adds up a row of a transposed tensor in another order if it is alone.
        least = max(_BLOCK // max(entries, 1), 2)
        for block in np.array_split(self.stored, max(rows // least, 1)):
            yield _exact(block)


def _exact(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    values = rows.astype(np.float64)
    values.flags.writeable = False  # a criterion that writes expects to change weights
    return values


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelWeights:
    """The weights that produce and scale some channels.

    Channels that are cut together, as those of one attention head or of one
    normalisation group, are one unit: each of them has the numbers of its unit.

    Attributes:
        channels: Number of channels.
        producers: Tensors that produce them.
        norms: Norm scales that multiply them, one entry a row.
        unit: Number of the unit of each channel, int64[channels]; -1 = a channel
            without weights, whose numbers are 0.
    """

    channels: int
    producers: tuple[Rows, ...]
    norms: tuple[Rows, ...]
    unit: NDArray[np.int64]

    def mean(self, function: Elementwise) -> NDArray[np.float64]:
        """Return the mean of ``function`` over the entries that produce each channel.

        Args:
            function: float64[rows, entries] -> the same shape, entry by entry; it gets
                some rows of a tensor at a time.
        """
        total, entries = np.zeros(self._units), np.zeros(self._units)
        for rows in self.producers:
            sums = [function(block).sum(axis=1) for block in rows.blocks()]
            total += self._add(rows, np.concatenate(sums))
            widths = np.full(len(rows.stored), float(rows.stored.shape[1]))
            entries += self._add(rows, widths)
        return self._spread(total / np.maximum(entries, 1.0))

    def mean_of_rows(self, function: Elementwise) -> NDArray[np.float64]:
        """Return the mean over producers of a number for each of their rows.

        Args:
            function: float64[rows, entries] of a whole tensor -> float64[rows].
        """
        total, count = np.zeros(self._units), np.zeros(self._units)
        for rows in self.producers:
            total += self._add(rows, function(rows.values))
            count += self._add(rows, np.ones(len(rows.stored)))
        return self._spread(total / np.maximum(count, 1.0))

    def scale_sum(self) -> NDArray[np.float64]:
        """Return the sum of the magnitudes of each channel's norm scales."""
        total = np.zeros(self._units)
        for rows in self.norms:
            total += self._add(rows, np.abs(rows.values).sum(axis=1))
        return self._spread(total)

    @property
    def normed(self) -> Mask:
        """Channels that a norm scales, bool[channels]."""
        found = np.zeros(self._units)
        for rows in self.norms:
            found[rows.unit[rows.unit >= 0]] = 1.0
        normed: Mask = self._spread(found) > 0.0
        return normed

    @property
    def _units(self) -> int:
        return int(self.unit.max(initial=-1)) + 1

    def _add(self, rows: Rows, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        mine = rows.unit >= 0
        found = np.bincount(rows.unit[mine], scores[mine], self._units)
        return found.astype(np.float64, copy=False)

    def _spread(self, found: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the number of its unit for each channel, float64[channels]."""
        return np.append(found, 0.0)[self.unit]
