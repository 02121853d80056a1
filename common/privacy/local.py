"""Noise that a client adds to its own answer, which tells no other what it holds.

Each quantity is brought within a bound and hidden by discrete Gaussian noise of the
client's own secret key.  What the server makes of many answers is less noisy: the noise
of their mean falls with the root of their number.
"""

from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from fedprune.common.messages import ClientUpdate, Statistics
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
)
from fedprune.common.privacy.noise import NoiseKey
from fedprune.common.privacy.spending import SHARES, Release
from fedprune.common.spec import Vector

_TAG = "client"


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
        """Return a delta with noise on each of its entries, float32[n]."""
        exact = delta.astype(np.float64)
        row = exact / max(self.clip, float(np.sqrt(exact @ exact)))
        hidden: Vector = (self._on(row, Release.DELTA) * self.clip).astype(np.float32)
        return hidden

    def on_figures(
        self, update: ClientUpdate, before: Statistics | None, *, validated: bool
    ) -> ClientUpdate:
        """Return an answer whose other quantities are hidden; its delta is as it was.

        It counts as one example, and has no running values of a network's own buffers.

        Args:
            update: The answer, not yet encoded.
            before: Moments of the broadcast, or None.
            validated: Whether the plan asks for validation: that this client has no
                example for it is not told.
        """
        scores, told = update.importance, update.statistics
        row = self._on(figures_row(update.loss, update.validation), Release.FIGURES)
        if scores is not None:
            vote = scores_row(scores, len(scores))
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
            validation=validation_of(row) if validated else update.validation,
        )

    def _on(self, row: Row, release: Release) -> Row:
        """Return a row of length 1 at most with noise on each entry."""
        fixed = np.rint(row * GRID).astype(np.int64)
        reach = REACH * GRID + 0.5 * sqrt(len(row))
        sigma = self.multiplier / sqrt(SHARES[release]) * reach
        hidden = self.key.hidden(fixed, sigma, _TAG, *self.purpose, release.value)
        found: Row = hidden / GRID
        return found
