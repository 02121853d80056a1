"""Noise that a client adds to its own answer, which tells no other what it holds.

Each quantity is brought within a bound and hidden by discrete Gaussian noise of the
client's own secret key.  What the server makes of many answers is less noisy: the noise
of their mean falls with the root of their number.
"""

from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from fedprune.common.errors import DataError
from fedprune.common.messages import ClientUpdate, Statistics, Validation
from fedprune.common.privacy.bounded import (
    GRID,
    REACH,
    Row,
    figures_row,
    known_moments,
    loss_of,
    moments_of,
    moments_row,
    scores_of,
    scores_row,
    validation_of,
    within,
)
from fedprune.common.privacy.noise import NoiseKey
from fedprune.common.privacy.spending import SHARES, Release
from fedprune.common.spec import Vector

_TAG = "client"
_NO_VALIDATION = Validation(loss_sum=0.0, metric_sum=0.0, count=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalNoise:
    """Noise on the answer of one client in one round.

    Attributes:
        key: Secret key of the client's machine.
        multiplier: Standard deviation of the noise on each entry of the delta, over
            ``clip``; that of other quantities follows ``SHARES``.
        clip: Largest L2 norm of the delta.
        purpose: Run, round and client.
    """

    key: NoiseKey
    multiplier: float
    clip: float
    purpose: tuple[str, ...]

    def on_delta(self, delta: Vector) -> Vector:
        """Return a delta with noise on each of its entries, float32[n].

        Raises:
            DataError: If it is not finite.
        """
        exact = delta.astype(np.float64)
        with np.errstate(invalid="ignore"):  # refused below
            row = within(exact, self.clip)
        hidden: Vector = (self._on(row, Release.DELTA) * self.clip).astype(np.float32)
        return hidden

    def on_figures(
        self,
        update: ClientUpdate,
        before: Statistics | None,
        *,
        validated: bool,
        units: int,
    ) -> ClientUpdate:
        """Return an answer whose other quantities are hidden; its delta is as it was.

        It counts as one example, and has no running values of a network's own buffers.

        Args:
            update: The answer, not yet encoded.
            before: Moments of the broadcast, or None.
            validated: Whether the plan asks for validation: that this client has no
                example for it is not told, and without the question nothing is.
            units: Units that the plan asks for votes on, 0 = for none: that this
                client abstains, as one of a single class does, is not told either.

        Raises:
            DataError: If a quantity is not finite.
        """
        scores, told = None, update.statistics
        row = self._on(figures_row(update.loss, update.validation), Release.FIGURES)
        if units:
            vote = scores_row(update.importance, units)
            scores = scores_of(self._on(vote, Release.SCORES))
        if told is not None:
            known = known_moments(before, len(told.mean))
            changes = self._on(moments_row(told, known), Release.MOMENTS)
            told = moments_of(changes, known)
        return replace(
            update,
            num_examples=1,
            loss=loss_of(row),
            importance=scores,
            statistics=told,
            validation=validation_of(row) if validated else _NO_VALIDATION,
        )

    def _on(self, row: Row, release: Release) -> Row:
        """Return a row of length 1 at most with noise on each entry.

        Raises:
            DataError: If an entry is not finite: as an integer it would be a number
                like any other.
        """
        if not np.all(np.isfinite(row)):
            msg = f"client {self.purpose[-1]} diverged: its answer is not finite "
            raise DataError(msg + f"({release}); want a lower client.lr")
        fixed = np.rint(row * GRID).astype(np.int64)
        reach = REACH * GRID + 0.5 * sqrt(len(row))
        sigma = self.multiplier / sqrt(SHARES[release]) * reach
        hidden = self.key.hidden(fixed, sigma, _TAG, *self.purpose, release.value)
        found: Row = hidden / GRID
        return found
