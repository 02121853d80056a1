"""The answers of a round, merged as an engine hands them over."""

from collections.abc import Callable

from fedprune.common.aggregate import Accumulator
from fedprune.common.errors import RoundError
from fedprune.common.profiling.activities import Activity
from fedprune.common.profiling.recorder import absorb, during, timed
from fedprune.server.rounds.answers import Answers
from fedprune.server.rounds.engine import (
    Engine,
    IndividualUpdate,
    LostWorker,
    RoundWork,
)
from fedprune.server.rounds.influence import clipped_records
from fedprune.server.rounds.records import ClientRecord
from fedprune.server.rounds.waiting.closing import Closing
from fedprune.server.rounds.waiting.late import LateUpdate


@timed(Activity.WAITING)
def collect(
    work: RoundWork,
    engine: Engine,
    lost: Callable[[LostWorker], None] = lambda _: None,
) -> Answers:
    """Ask every client and merge the partial aggregates as they arrive.

    Args:
        work: The round.
        engine: Delivers its request.
        lost: Called with each worker that is lost meanwhile, at once.

    Raises:
        RoundError: If the engine lost a client or answered for one twice: such sums
            must not be used.
    """
    total = Accumulator(work.spec.size, work.request.limits)
    records: list[ClientRecord] = []
    individual_updates: list[IndividualUpdate] = []
    arrived: list[LateUpdate] = []
    awaited: list[LateUpdate] = []
    moved, closing = 0, None
    for part in engine.ask(work):
        with during(Activity.AGGREGATION):
            total.merge(part.total)
        absorb(part.profile)
        records += part.records
        individual_updates += part.individual_updates
        moved += part.bytes_simulation
        closing = part.closing or closing
        arrived += part.arrived
        awaited += part.awaited
        for worker in part.lost:
            lost(worker)
    records.sort(key=lambda record: record.client_id)
    individual_updates.sort(key=lambda individual: individual.client_id)
    if work.request.individual_updates:
        records = list(clipped_records(records, work.robust.max_norm))
    _check_complete(work, records, closing)
    return Answers(
        records=tuple(records),
        total=total,
        individual_updates=tuple(individual_updates),
        bytes_simulation=moved,
        closing=closing,
        arrived=tuple(arrived),
        awaited=tuple(sorted(awaited, key=lambda one: one.client_id)),
    )


def _check_complete(
    work: RoundWork, records: list[ClientRecord], closing: Closing | None
) -> None:
    """Refuse answers that are not of exactly the clients that were asked."""
    asked = sorted(assignment.client_id for assignment in work.request.assignments)
    got = [record.client_id for record in records]
    heard = got if closing is None else sorted((*closing.counted, *closing.late))
    if got != asked or heard != asked:
        msg = f"round {work.plan.round}: asked {asked}, answered for {got}"
        raise RoundError(msg)
