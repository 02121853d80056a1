"""The guard of a cut: the validation loss after it against that before it.

Only the clients' validation parts are used.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from fedprune.server.rounds.influence import ReportedLoss, bounded
from fedprune.server.rounds.records import ClientRecord, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Validation of a broadcast on all validation parts together.

    Attributes:
        loss: Mean loss of an example, or NaN without examples.
        accuracy: Share of correct answers, 0..1, or NaN without examples.
        count: Number of examples.
    """

    loss: float
    accuracy: float
    count: int


def pooled_score(records: Iterable[ClientRecord], multiple: float) -> Score:
    """Pool the validation of all accepted answers, each bounded around the median.

    Args:
        records: Answers; those without a validation part do not count.
        multiple: ``robust.max_weight``, which bounds the count of one client.
    """
    reported = bounded(
        [
            ReportedLoss(
                loss=v.loss_sum / v.count,
                metric=v.metric_sum / v.count,
                count=v.count,
            )
            for record in sorted(records, key=lambda r: r.client_id)
            if record.status is Status.ACCEPTED
            and (v := record.validation) is not None
            and v.count > 0
        ],
        multiple,
    )
    count = sum(one.count for one in reported)
    if count == 0:
        return Score(loss=float("nan"), accuracy=float("nan"), count=0)
    return Score(
        loss=sum(one.loss * one.count for one in reported) / count,
        accuracy=sum(one.metric * one.count for one in reported) / count,
        count=count,
    )


def is_worse(before: float, after: float, allowed: float) -> bool:
    """Return whether the loss rose by more than is allowed.

    Args:
        before: Mean validation loss of the last broadcast before the cut.
        after: That of the broadcast after the first fine-tune rounds.
        allowed: Relative increase that is accepted; an absolute slack of 0.05 keeps
            the noise of small validation parts from undoing cuts of nearly perfect
            networks.

    Returns:
        False as well when either figure is missing.
    """
    return after > before * (1.0 + allowed) + 0.05
