"""The weights of some channels: the input of criteria of importance."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedprune.common.spec import Mask

Elementwise: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows of one tensor along the dimension of its channels.

    Attributes:
        channel: Number of the channel of each row, int64[rows]; -1 = of another group.
        values: float64[rows, entries].
    """

    channel: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelWeights:
    """The weights that produce and scale some channels.

    Attributes:
        channels: Number of channels.
        producers: Tensors that produce them.
        norms: Norm scales that multiply them, one entry a row.
    """

    channels: int
    producers: tuple[Rows, ...]
    norms: tuple[Rows, ...]

    def mean(self, function: Elementwise) -> NDArray[np.float64]:
        """Return the mean of ``function`` over the entries that produce each channel.

        Args:
            function: float64[rows, entries] -> the same shape.
        """
        total, entries = np.zeros(self.channels), np.zeros(self.channels)
        for rows in self.producers:
            total += self._add(rows, function(rows.values).sum(axis=1))
            widths = np.full(len(rows.values), float(rows.values.shape[1]))
            entries += self._add(rows, widths)
        found: NDArray[np.float64] = total / np.maximum(entries, 1.0)
        return found

    def mean_of_rows(self, function: Elementwise) -> NDArray[np.float64]:
        """Return the mean over producers of a number for each of their rows.

        Args:
            function: float64[rows, entries] of a whole tensor -> float64[rows].
        """
        total, count = np.zeros(self.channels), np.zeros(self.channels)
        for rows in self.producers:
            total += self._add(rows, function(rows.values))
            count += self._add(rows, np.ones(len(rows.values)))
        found: NDArray[np.float64] = total / np.maximum(count, 1.0)
        return found

    def scale_sum(self) -> NDArray[np.float64]:
        """Return the sum of the magnitudes of each channel's norm scales."""
        total = np.zeros(self.channels)
        for rows in self.norms:
            total += self._add(rows, np.abs(rows.values).sum(axis=1))
        return total

    @property
    def normed(self) -> Mask:
        """Channels that a norm scales, bool[channels]."""
        found = np.zeros(self.channels, dtype=np.bool_)
        for rows in self.norms:
            found[rows.channel[rows.channel >= 0]] = True
        return found

    def _add(self, rows: Rows, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        mine = rows.channel >= 0
        found = np.bincount(rows.channel[mine], scores[mine], self.channels)
        return found.astype(np.float64, copy=False)
