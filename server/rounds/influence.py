"""Bounds on the influence of one client: on its weight, delta, moments and losses.

Honest clients stay within every bound (docs/notebook/trust-and-validation.md); the
values of a valid but false message are clipped to what an honest client could report.
The clipped part is lost: it is not in the client's residual.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median_low

import numpy as np
from numpy.typing import NDArray

from fedprune.common.errors import PayloadError, Reason
from fedprune.common.messages import SparseDelta, Statistics
from fedprune.common.spec import Mask, Vector
from fedprune.server.rounds.records import ClientRecord, Status

_MAD = 1.4826  # of a normal distribution, standard deviation over median distance
_SLACK = 0.1  # losses this near to the median are never clipped
_LARGEST = 65504.0  # of a float16, in which moments travel
_HALF_ROUNDING = 2.0**-10  # of a float16, relative
_LARGEST_MEAN = 2.0**12  # batch-norm input means beyond this are faults
_BLOCK = 1 << 18  # values that are squared at once: 2 MB, which a cache holds


def weight_caps(
    enrolled: Mapping[str, int], cohort: Sequence[str], multiple: float, most: int
) -> dict[str, int]:
    """Return the largest weight of each client of a cohort, >= 1.

    ``min(enrolled, multiple * median enrolment of the cohort, most)``: the number of
    examples in an answer counts up to the number at enrolment, and that up to a
    multiple of the cohort's median.

    Medians are the lower ones, here and below: of two clients the smaller counts.  No
    bound holds against a majority.

    Args:
        enrolled: Client id -> examples that it enrolled with.
        cohort: Clients that are asked.
        multiple: ``robust.max_weight``; 0 = no bound by the cohort.
        most: ``robust.max_examples``.
    """
    counts = {client: min(enrolled.get(client, most), most) for client in cohort}
    usual = median_low(counts.values()) if counts else 0
    bound = max(int(multiple * usual), 1) if multiple > 0.0 else most
    return {client: max(min(count, bound), 1) for client, count in counts.items()}


def clip_factor(norm: float, longest: float) -> float:
    """Return the factor that clips a delta of this norm, 0 <= factor <= 1."""
    return 1.0 if norm <= longest else longest / norm


def scaled_delta(delta: SparseDelta, factor: float) -> SparseDelta:
    """Return ``factor`` times a delta; the same one for a factor of 1."""
    if factor == 1.0:
        return delta
    values = (delta.values.astype(np.float64) * factor).astype(np.float32)
    return SparseDelta(size=delta.size, indices=delta.indices, values=values)


def clipped_records(
    records: Iterable[ClientRecord], multiple: float
) -> tuple[ClientRecord, ...]:
    """Return the records with factors that clip to the cohort's own median norm.

    Args:
        records: All answers of a round; the median is that of the accepted ones.
        multiple: ``robust.max_norm``; 0 = no delta is clipped.
    """
    found = tuple(records)
    accepted = (r for r in found if r.status is Status.ACCEPTED)
    longest = longest_norm(accepted, multiple)
    return tuple(
        replace(record, factor=clip_factor(record.norm, longest)) for record in found
    )


def longest_norm(accepted: Iterable[ClientRecord], multiple: float) -> float:
    """Return the L2 norm that a round's own median allows; inf = nothing is clipped.

    Args:
        accepted: Its accepted answers.
        multiple: ``robust.max_norm``.
    """
    return multiple * median_norm(accepted) if multiple > 0.0 else math.inf


def delta_norm(delta: SparseDelta) -> float:
    """Return the L2 norm of a delta."""
    values = delta.values
    parts = (values[at : at + _BLOCK] for at in range(0, len(values), _BLOCK))
    # Not by BLAS, whose sums depend on its number of threads: weights depend on it.
    return math.sqrt(sum(float(np.sum(np.square(x, dtype=np.float64))) for x in parts))


def median_norm(records: Iterable[ClientRecord]) -> float:
    """Return the median L2 norm of the deltas before clipping, 0 without deltas."""
    norms = [record.norm for record in records]
    return float(median_low(norms)) if norms else 0.0


def check_moments(statistics: Statistics) -> None:
    """Refuse moments that no honest activations have.

    Raises:
        PayloadError: If a mean or variance is out of range.
    """
    mean, variance = np.abs(statistics.mean), statistics.variance
    if not (np.all(mean <= _LARGEST_MEAN) and np.all(variance <= _LARGEST)):
        detail = f"a mean beyond {_LARGEST_MEAN:g} or a variance beyond {_LARGEST:g}"
        raise PayloadError(Reason.BAD_VALUE, "statistics", detail)


def pooled_moments(
    records: Iterable[ClientRecord], multiple: float
) -> Statistics | None:
    """Pool the batch-norm moments of the accepted answers; None when there are none.

    The variance is that of all examples together: mean(var + mean**2) - mean(mean)**2.
    Before that each client's means and variances are clipped, channel by channel, to
    the median of the clients +- ``multiple`` of their robust standard deviations
    (1.4826 times the median distance to it).  So a false value counts as much as the
    spread of honest clients: next to nothing where their data is alike.  Two clients
    have no majority: nothing is clipped below three.

    A channel that is the same constant at most clients is not clipped, for a variance
    of nothing would divide what the others have there (a rare category, the pixels of a
    rare class) by nothing.  Pooling itself bounds a false value then: it moves that
    constant, normalised, by ``sqrt(s / (1 - s))`` at most for a share ``s``.

    Args:
        records: Answers; each weighs as much as its delta does (``num_examples``).
        multiple: ``robust.max_moment``; 0 = nothing is clipped.
    """
    measured, found = _reported(records, lambda one: one.mean)
    if not measured:
        return None
    mean = np.stack([s.mean.astype(np.float64) for s in found])
    variance = np.stack([s.variance.astype(np.float64) for s in found])
    free = _same_constant(mean, np.stack([one.constant for one in found]))
    mean = np.where(free, mean, clip_columns(mean, multiple))
    variance = np.where(free, variance, clip_columns(variance, multiple))
    centre = np.median(mean, axis=0)
    share = _shares([r.num_examples for r in measured])
    offset = mean - centre
    middle = (share * offset).sum(axis=0)
    spread = (share * (variance + offset**2)).sum(axis=0) - middle**2
    return Statistics(
        num_examples=sum(r.num_examples for r in measured),
        mean=(centre + middle).astype(np.float32),
        variance=np.maximum(spread, 0.0).astype(np.float32),
    )


def _same_constant(mean: NDArray[np.float64], constant: Mask) -> Mask:
    """Return the channels that are one and the same constant at most clients, bool[n].

    Args:
        mean: float64[clients, n].
        constant: Channels of one value at each client, bool[clients, n].
    """
    centre = np.median(mean, axis=0)
    same = np.abs(mean - centre) <= _HALF_ROUNDING * np.abs(centre)
    most: Mask = (constant & same).mean(axis=0) > 0.5  # noqa: PLR2004 - a majority
    return most


def averaged_running(records: Iterable[ClientRecord], multiple: float) -> Vector | None:
    """Average the running values of the accepted answers; None when there are none.

    Args:
        records: Answers, which weigh and are clipped as in ``pooled_moments``.
        multiple: ``robust.max_moment``; 0 = nothing is clipped.
    """
    trained, found = _reported(records, lambda one: one.running)
    if not trained:
        return None
    values = np.stack([one.running.astype(np.float64) for one in found])
    values = clip_columns(values, multiple)
    centre = np.median(values, axis=0)
    share = _shares([r.num_examples for r in trained])
    middle = (share * (values - centre)).sum(axis=0)
    average: Vector = (centre + middle).astype(np.float32)
    return average


def _reported(
    records: Iterable[ClientRecord], part: Callable[[Statistics], Vector]
) -> tuple[list[ClientRecord], list[Statistics]]:
    """Return the answers with a part of the statistics, by client, and their own."""
    pairs = [
        (record, record.statistics)
        for record in sorted(records, key=lambda record: record.client_id)
        if record.statistics is not None and len(part(record.statistics))
    ]
    return [record for record, _ in pairs], [one for _, one in pairs]


def clip_columns(values: NDArray[np.float64], multiple: float) -> NDArray[np.float64]:
    """Clip each column to its median +- ``multiple`` robust standard deviations.

    Two clients have no majority: nothing is clipped below three, nor by 0.

    Args:
        values: A row for each client, float64[clients, n].
        multiple: ``robust.max_moment``.
    """
    if multiple <= 0.0 or len(values) <= 2:  # noqa: PLR2004 - see above
        return values
    centre = np.median(values, axis=0)
    reach = multiple * _MAD * np.median(np.abs(values - centre), axis=0)
    clipped: NDArray[np.float64] = np.clip(values, centre - reach, centre + reach)
    return clipped


def _shares(weights: Sequence[int]) -> NDArray[np.float64]:
    column = np.asarray(weights, dtype=np.float64)[:, None]
    return column / max(float(column.sum()), 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedLoss:
    """Mean loss and headline metric that one client reports.

    Attributes:
        loss: Mean loss of an example.
        metric: Mean headline metric, such as the share of correct answers.
        count: Number of examples, >= 1.
    """

    loss: float
    metric: float
    count: int


def bounded(reported: Sequence[ReportedLoss], multiple: float) -> list[ReportedLoss]:
    """Return the reports, each clipped around the median one.

    Losses and metrics are clipped to the median +- (twice its magnitude + 0.1), counts
    to ``multiple`` times the median count; ``multiple`` 0 = unchanged.
    """
    if multiple <= 0.0 or not reported:
        return list(reported)
    losses = median_low(one.loss for one in reported)
    metrics = median_low(one.metric for one in reported)
    most = max(int(multiple * median_low(one.count for one in reported)), 1)
    return [
        ReportedLoss(
            loss=_near(one.loss, losses),
            metric=_near(one.metric, metrics),
            count=min(one.count, most),
        )
        for one in reported
    ]


def pooled(reported: Sequence[ReportedLoss], multiple: float) -> ReportedLoss | None:
    """Return the means over all examples of what clients report, each bounded.

    Args:
        reported: Their reports.
        multiple: As for ``bounded``.

    Returns:
        The means and the number of examples, or None without an example.
    """
    found = bounded(reported, multiple)
    count = sum(one.count for one in found)
    if count == 0:
        return None
    return ReportedLoss(
        loss=sum(one.loss * one.count for one in found) / count,
        metric=sum(one.metric * one.count for one in found) / count,
        count=count,
    )


def _near(value: float, usual: float) -> float:
    """Return a value within twice the magnitude of the usual one and a slack."""
    reach = 2.0 * abs(usual) + _SLACK
    return min(max(value, usual - reach), usual + reach)
