"""Answers of a round: each is accepted or refused whole; aggregation to one delta."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import floor

import numpy as np

from fedprune.common import codec
from fedprune.common.aggregate import Accumulator
from fedprune.common.codec import Expected
from fedprune.common.errors import FedPruneError
from fedprune.common.messages import SparseDelta
from fedprune.common.methods.kinds import AGGREGATION
from fedprune.common.methods.method import Method, finite_numbers
from fedprune.common.methods.registry import find
from fedprune.common.profiling.activities import Activity
from fedprune.common.profiling.recorder import during
from fedprune.common.spec import Vector
from fedprune.common.text import error_line
from fedprune.server.rounds.engine import IndividualUpdate, RoundWork
from fedprune.server.rounds.influence import (
    check_moments,
    clip_factor,
    delta_norm,
    scaled_delta,
)
from fedprune.server.rounds.records import ClientRecord, Status
from fedprune.server.rounds.waiting.closing import Closing, Patience, why_late
from fedprune.server.rounds.waiting.late import LateUpdate

_CLOSE = 1e-9  # 0.29 of 100 clients are 29


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """All answers of one round, in the order of the clients' ids.

    Attributes:
        records: One record of each client that was asked.
        total: Sum of the accepted deltas.
        individual_updates: The accepted deltas, where the round asked for them; the
            sum is not used then.
        bytes_simulation: Bytes between workers and driver.
        closing: The end of the waiting, or None where it was not measured.
        arrived: Late answers of earlier rounds that arrived meanwhile.
        awaited: Late answers of this round that are known to arrive after it.
    """

    records: tuple[ClientRecord, ...]
    total: Accumulator
    individual_updates: tuple[IndividualUpdate, ...] = ()
    bytes_simulation: int = 0
    closing: Closing | None = None
    arrived: tuple[LateUpdate, ...] = ()
    awaited: tuple[LateUpdate, ...] = ()

    @property
    def accepted(self) -> tuple[ClientRecord, ...]:
        """Records of the accepted answers."""
        return tuple(r for r in self.records if r.status is Status.ACCEPTED)


def accept_answer(
    data: bytes,
    expected: Expected,
    total: Accumulator,
    *,
    bytes_down: int,
    seconds: float,
) -> tuple[ClientRecord, SparseDelta | None]:
    """Add one answer to the sum, or refuse it whole with a reason.

    Args:
        data: The answer as it was received; nothing in it is trusted.
        expected: Properties of a valid answer.
        total: Changed only when the answer is accepted.
        bytes_down: Length of the message that the client was sent, bytes.
        seconds: Seconds between request and answer.

    Returns:
        The client's record, and its delta if it was accepted, for rules that need
        more than the sum.
    """
    try:
        with during(Activity.DECODING):
            update = codec.decode_update(data, expected)
            delta = update.sparse
            if update.statistics is not None:
                check_moments(update.statistics)
            weight = min(update.num_examples, expected.max_weight)
            norm = delta_norm(delta)
            factor = clip_factor(norm, expected.max_norm)
        with during(Activity.AGGREGATION):
            total.add(scaled_delta(delta, factor), weight)
    except FedPruneError as error:
        return refusal(expected.client_id, str(error), data, bytes_down), None
    except Exception as error:  # bytes from outside may reveal any fault of this code
        return refusal(expected.client_id, error_line(error), data, bytes_down), None
    record = ClientRecord(
        client_id=expected.client_id,
        status=Status.ACCEPTED,
        bytes_down=bytes_down,
        bytes_up=len(data),
        bytes_fixed=update.fixed,
        num_examples=weight,
        norm=norm,
        factor=factor,
        loss=update.loss,
        seconds=seconds,
        importance=update.importance,
        validation=update.validation,
        statistics=update.statistics,
        covariances=update.covariances,
    )
    return record, delta


def refusal(client_id: str, why: str, data: bytes, bytes_down: int) -> ClientRecord:
    """Return the record of a refused answer."""
    return ClientRecord(
        client_id=client_id,
        status=Status.REFUSED,
        reason=f"refused update of client {client_id}: {why}",
        bytes_down=bytes_down,
        bytes_up=len(data),
    )


def failure(client_id: str, why: str, bytes_down: int) -> ClientRecord:
    """Return the record of a client that could not answer."""
    return ClientRecord(
        client_id=client_id,
        status=Status.FAILED,
        reason=f"client {client_id} failed: {why}",
        bytes_down=bytes_down,
    )


def late_answer(
    client_id: str, closing: Closing, patience: Patience, bytes_down: int
) -> ClientRecord:
    """Return the record of a client whose answer had not arrived in time."""
    return ClientRecord(
        client_id=client_id,
        status=Status.LATE,
        reason=why_late(client_id, closing, patience),
        bytes_down=bytes_down,
    )


def aggregate(answers: Answers, work: RoundWork) -> Vector:
    """Return one delta made of those of the clients, float32[n].

    Raises:
        ConfigError: If the rule does not return a finite number for each weight.
    """
    rule = find(AGGREGATION, work.robust.aggregate)
    if "deltas" in rule.needs:
        found = _of_deltas(rule, answers, work)
        return finite_numbers(rule, found, work.spec.size).astype(
            np.float32, copy=False
        )
    found = finite_numbers(rule, rule(total=summed(answers, work)), work.spec.size)
    return found.astype(np.float32, copy=False)


def summed(answers: Answers, work: RoundWork) -> Accumulator:
    """Return the sum of the accepted deltas, of single ones after clipping."""
    if not answers.individual_updates:
        return answers.total
    total = Accumulator(work.spec.size, work.request.limits)
    for record, delta in clipped_deltas(answers):
        total.add(delta, record.num_examples)
    return total


def _of_deltas(rule: Method, answers: Answers, work: RoundWork) -> object:
    """Apply a rule that needs each client's delta."""
    found, size = list(clipped_deltas(answers)), work.spec.size
    deltas = np.zeros((len(found), size), dtype=np.float32)
    sent = np.zeros((len(found), size), dtype=np.bool_)
    known = work.side_info.mask
    for number, (_, delta) in enumerate(found):
        deltas[number, delta.indices] = delta.values
        # Where positions do not travel, an entry of zero has been sent too.
        sent[number, delta.indices if known is None else known] = True
    examples = np.array([record.num_examples for record, _ in found], dtype=np.float64)
    one: object = rule(
        deltas=deltas,
        sent=sent,
        num_examples=examples,
        hostile=floor(work.robust.hostile * len(found) + _CLOSE),
    )
    return one


def clipped_deltas(answers: Answers) -> Iterator[tuple[ClientRecord, SparseDelta]]:
    """Yield each delta after clipping, in the order of the clients' ids."""
    records = {record.client_id: record for record in answers.accepted}
    for individual in answers.individual_updates:
        record = records[individual.client_id]
        yield record, scaled_delta(individual.delta, record.factor)
