"""Answers without the clients in them: sums with noise in place of single figures.

Each quantity of an answer is brought within a bound, added up, and hidden by noise that
covers one client's whole part.  The records then say the same noised means for each
client, so that every later step - moments, importance, validation, events, report - is
made of what has been hidden.  Central differential privacy: the operator of the server,
who adds the noise, is trusted with the single answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from fedprune.common.aggregate import DELTA_BITS, Accumulator
from fedprune.common.messages import Statistics, Validation
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
from fedprune.common.privacy.hiding import Privacy
from fedprune.common.privacy.spending import Release
from fedprune.common.spec import Mask, Vector
from fedprune.server.rounds.answers import Answers, clipped_deltas
from fedprune.server.rounds.engine import RoundWork
from fedprune.server.rounds.records import ClientRecord, Status


def without_rare(answers: Answers, work: RoundWork, senders: int) -> Answers:
    """Return the answers with a sum of those entries alone that many clients sent.

    Args:
        answers: The answers, with their single updates.
        work: The round.
        senders: ``privacy.senders``.
    """
    total = Accumulator(work.spec.size, work.request.limits)
    counts = np.zeros(work.spec.size, dtype=np.int64)
    for record, delta in clipped_deltas(answers):
        total.add(delta, record.num_examples)
        counts[delta.indices] += 1
    if work.side_info.mask is not None:  # all send its entries, zeros too
        counts[work.side_info.mask] = len(answers.accepted)
    total.delta_sum[counts < senders] = 0
    return replace(answers, total=total, individual_updates=())


def withhold_clients(answers: Answers) -> Answers:
    """Return the answers of an attempt that failed: nothing of them is shown."""
    records = tuple(_blank(record) for record in answers.records)
    total = Accumulator(len(answers.total.delta_sum), answers.total.limits)
    return replace(answers, records=records, total=total, individual_updates=())


def _blank(record: ClientRecord) -> ClientRecord:
    """Return a record without what the client measured."""
    if record.status is not Status.ACCEPTED:
        return record
    return ClientRecord(
        client_id=record.client_id,
        status=record.status,
        bytes_down=record.bytes_down,
        bytes_up=record.bytes_up,
        bytes_fixed=record.bytes_fixed,
        num_examples=1,
        residual_lost=record.residual_lost,
    )


def hide_clients(
    answers: Answers, work: RoundWork, before: Statistics | None, privacy: Privacy
) -> Answers:
    """Return the answers with noised sums in place of the clients' own figures.

    Args:
        answers: All answers of the round; each weighs 1, and its delta is clipped.
        work: The round.
        before: Moments that are known to everybody, or None.
        privacy: Key and noise.
    """
    hider = _Hider(answers=answers, work=work, privacy=privacy)
    shown = hider.shown(before)
    records = tuple(
        replace(
            _blank(record),
            norm=privacy.clip,
            loss=shown.loss,
            importance=shown.importance,
            validation=shown.validation,
            statistics=shown.statistics,
        )
        if record.status is Status.ACCEPTED
        else record
        for record in answers.records
    )
    return replace(answers, records=records, total=hider.total(), individual_updates=())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """The noised figures of a round."""

    loss: float
    importance: Vector | None
    validation: Validation | None
    statistics: Statistics | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hider:
    """The noised means of one round's answers."""

    answers: Answers
    work: RoundWork
    privacy: Privacy

    def shown(self, before: Statistics | None) -> _Shown:
        accepted, settings = self.answers.accepted, self.work.plan.settings
        if not accepted:
            return _Shown(loss=0.0, importance=None, validation=None, statistics=None)
        loss, validation = self._figures(accepted)
        return _Shown(
            loss=loss,
            importance=self._scores(accepted) if settings.importance else None,
            validation=validation,
            statistics=self._moments(accepted, before) if settings.measure else None,
        )

    def total(self) -> Accumulator:
        """Return the sum of the clipped deltas with noise on every entry they may have.

        Where all clients send the same entries the others need none.
        """
        exact = self.answers.total
        hidden = Accumulator(len(exact.delta_sum), exact.limits)
        hidden.num_examples = exact.num_examples
        hidden.num_clients = exact.num_clients
        if self.work.plan.settings.epochs == 0 or not exact.num_clients:
            return hidden
        places: Mask | slice = slice(None)
        if self.work.side_info.mask is not None:
            places = self.work.side_info.mask
        part = exact.delta_sum[places]
        # Each entry was rounded once: a client moves the sum by that much more.
        reach = REACH * self.privacy.clip * 2.0**DELTA_BITS + 0.5 * sqrt(len(part))
        hidden.delta_sum[places] = self._hide(part, reach, Release.DELTA)
        return hidden

    def _figures(
        self, accepted: Sequence[ClientRecord]
    ) -> tuple[float, Validation | None]:
        """Return training loss and validation."""
        rows = [figures_row(record.loss, record.validation) for record in accepted]
        mean = self._mean(np.stack(rows), Release.FIGURES)
        # Whether a client has validated is its own figure: the plan decides.
        asked = self.work.plan.settings.validation
        return loss_of(mean), validation_of(mean) if asked else None

    def _scores(self, accepted: Sequence[ClientRecord]) -> Vector:
        units = self.work.spec.units
        rows = [scores_row(record.importance, units) for record in accepted]
        return scores_of(self._mean(np.stack(rows), Release.SCORES))

    def _moments(
        self, accepted: Sequence[ClientRecord], before: Statistics | None
    ) -> Statistics | None:
        """Return pooled moments."""
        size = self.work.spec.moments
        if not size:
            return None
        known = known_moments(before, size)
        rows = [moments_row(record.statistics, known) for record in accepted]
        return moments_of(self._mean(np.stack(rows), Release.MOMENTS), known)

    def _mean(self, rows: Row, release: Release) -> Row:
        """Return the mean of rows of length 1 at most, with noise on each entry."""
        fixed = np.rint(rows * GRID).astype(np.int64).sum(axis=0)
        reach = GRID + 0.5 * sqrt(rows.shape[1])
        hidden: Row = self._hide(fixed, reach, release) / GRID / len(rows)
        return hidden

    def _hide(
        self, exact: NDArray[np.int64], reach: float, release: Release
    ) -> NDArray[np.int64]:
        """Add noise that covers what one client moves a sum by, at most."""
        plan = self.work.plan
        sigma = self.privacy.spending.of(release) * reach
        purpose = (plan.run_id, str(plan.round), release.value)
        return self.privacy.key.hidden(exact, sigma, *purpose)
