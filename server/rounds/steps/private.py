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
from fedprune.common.privacy.hiding import Privacy
from fedprune.common.privacy.spending import Release
from fedprune.common.spec import Mask, Vector
from fedprune.server.rounds.answers import Answers, clipped_deltas
from fedprune.server.rounds.cut import is_informative, normalise
from fedprune.server.rounds.engine import RoundWork
from fedprune.server.rounds.records import ClientRecord, Status

Rows = NDArray[np.float64]

_FLOAT32 = 1 + 2.0**-20  # a delta is clipped in float32, and may be longer by as much
_GRID = 2.0**24  # steps of the fixed point in which figures are added
_LOSS = 4.0  # nats: losses of an example beyond it are clipped
_REACH = 0.5  # root mean square of a client's moments, in those of the round before
_SMALLEST = 1e-5  # variance of a channel that is all but constant


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
        reach = _FLOAT32 * self.privacy.clip * 2.0**DELTA_BITS + 0.5 * sqrt(len(part))
        hidden.delta_sum[places] = self._hide(part, reach, Release.DELTA)
        return hidden

    def _figures(
        self, accepted: Sequence[ClientRecord]
    ) -> tuple[float, Validation | None]:
        """Return training loss and validation, each client's within its bounds."""
        rows = np.array([_figures_of(record) for record in accepted])
        mean = self._mean(rows / sqrt(rows.shape[1]), Release.FIGURES)
        loss, validated, metric = mean * sqrt(rows.shape[1])
        loss = float(max(loss, 0.0)) * _LOSS
        # Whether a client has validated is its own figure: the plan decides.
        if not self.work.plan.settings.validation:
            return loss, None
        validation = Validation(
            loss_sum=float(max(validated, 0.0)) * _LOSS,
            metric_sum=float(np.clip(metric, -1.0, 1.0)),
            count=1,
        )
        return loss, validation

    def _scores(self, accepted: Sequence[ClientRecord]) -> Vector:
        """Return the mean of the votes, none of which is longer than 1."""
        rows = np.zeros((len(accepted), self.work.spec.units))
        for row, record in zip(rows, accepted, strict=True):
            if record.importance is not None and is_informative(record.importance):
                row[:] = normalise(record.importance)
        mean = self._mean(rows, Release.SCORES)
        return np.maximum(mean, 0.0).astype(np.float32)

    def _moments(
        self, accepted: Sequence[ClientRecord], before: Statistics | None
    ) -> Statistics | None:
        """Return pooled moments, as changes since those before, clipped together."""
        size = self.work.spec.moments
        told = [record.statistics for record in accepted]
        if not size:
            return None
        mean, variance = np.zeros(size), np.ones(size)
        if before is not None and before.measured:
            mean = before.mean.astype(np.float64)
            variance = np.maximum(before.variance.astype(np.float64), _SMALLEST)
        rows = np.stack(
            [
                np.zeros(2 * size) if one is None else _changes(one, mean, variance)
                for one in told
            ]
        )
        reach = _REACH * sqrt(2 * size)
        lengths = np.sqrt((rows * rows).sum(axis=1))
        rows *= np.minimum(1.0, reach / np.maximum(lengths, reach))[:, None]
        moved = self._mean(rows / reach, Release.MOMENTS) * reach
        offset, squares = moved[:size], moved[size:]
        left = np.maximum(1.0 + squares - offset**2, _SMALLEST)
        return Statistics(
            num_examples=1,
            mean=(mean + offset * np.sqrt(variance)).astype(np.float32),
            variance=(variance * left).astype(np.float32),
        )

    def _mean(self, rows: Rows, release: Release) -> Rows:
        """Return the mean of rows of length 1 at most, with noise on each entry."""
        fixed = np.rint(rows * _GRID).astype(np.int64).sum(axis=0)
        reach = _GRID + 0.5 * sqrt(rows.shape[1])
        hidden: Rows = self._hide(fixed, reach, release) / _GRID / len(rows)
        return hidden

    def _hide(
        self, exact: NDArray[np.int64], reach: float, release: Release
    ) -> NDArray[np.int64]:
        """Add noise that covers what one client moves a sum by, at most."""
        plan = self.work.plan
        sigma = self.privacy.spending.of(release) * reach
        purpose = (plan.run_id, str(plan.round), release.value)
        return self.privacy.key.hidden(exact, sigma, *purpose)


def _figures_of(record: ClientRecord) -> tuple[float, float, float]:
    """Return training loss, validation loss and metric, each within -1..1."""
    loss = float(np.clip(record.loss / _LOSS, 0.0, 1.0))
    told = record.validation
    if told is None or not told.count:
        return loss, 0.0, 0.0
    validated = float(np.clip(told.loss_sum / told.count / _LOSS, 0.0, 1.0))
    metric = float(np.clip(told.metric_sum / told.count, -1.0, 1.0))
    return loss, validated, metric


def _changes(told: Statistics, mean: Rows, variance: Rows) -> Rows:
    """Return a client's moments in the unit of those before, float64[2 * moments]."""
    offset = (told.mean.astype(np.float64) - mean) / np.sqrt(variance)
    squares = told.variance.astype(np.float64) / variance + offset**2 - 1.0
    return np.concatenate([offset, squares])
