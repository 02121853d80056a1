"""Virtual time: a simulation's rounds close by the rule of devices, and no clock.

An ordinary client answers 60 virtual seconds after the request, a straggler so many
times as late, and what was lost never arrives.  Answers that arrive at the same time
come in an order that is drawn anew in each round.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from fedprune.common.aggregate import Accumulator
from fedprune.server.rounds.answers import late_answer
from fedprune.server.rounds.engine import (
    Engine,
    IndividualUpdate,
    PartialAggregate,
    RoundWork,
)
from fedprune.server.rounds.influence import scaled_delta
from fedprune.server.rounds.records import ClientRecord, Status
from fedprune.server.rounds.waiting.closing import NEVER, Arrival, Closing, close
from fedprune.server.rounds.waiting.late import LateUpdate, late_update, network_of
from fedprune.simulations.faults.plan import ROUND_S, FaultPlan


class VirtualTime:
    """Closes the rounds of another engine in virtual time.

    Where an answer may arrive too late, the single answers are collected and only
    those in time are summed; elsewhere sums pass as they come.

    Args:
        engine: Plays the clients.
        faults: What goes wrong.
        clients: Ids of all clients of the run.
    """

    def __init__(
        self, engine: Engine, faults: FaultPlan, clients: Sequence[str]
    ) -> None:
        self._engine = engine
        self._faults = faults
        self._slow = faults.stragglers(clients)

    def ask(self, work: RoundWork) -> Iterator[PartialAggregate]:
        """Ask every client; yield their aggregates, and the end of the waiting."""
        request = work.request
        selects = (
            bool(self._slow)
            or len(request.assignments) > work.patience.goal
            or (request.uses_late and work.patience.deadline_s < ROUND_S)
        )
        singly = replace(
            request, individual_updates=request.individual_updates or selects
        )
        records: list[ClientRecord] = []
        updates: list[IndividualUpdate] = []
        for part in self._engine.ask(replace(work, request=singly)):
            records += part.records
            updates += part.individual_updates
            total = Accumulator(0, request.limits) if selects else part.total
            yield replace(part, records=(), individual_updates=(), total=total)
        arrivals = self._arrivals(work, records, selects=selects)
        closed = close(arrivals, work.patience)
        closing = replace(closed, virtual=True)
        counted = _Counted(work=work, records=records, updates=updates, closing=closing)
        yield PartialAggregate(
            records=counted.outcomes(),
            total=counted.total() if selects else Accumulator(0, request.limits),
            individual_updates=(
                counted.in_time() if request.individual_updates else ()
            ),
            closing=closing,
            awaited=counted.awaited(arrivals) if request.uses_late else (),
        )

    def _arrivals(
        self, work: RoundWork, records: Sequence[ClientRecord], *, selects: bool
    ) -> list[Arrival]:
        """Return the arrivals; those at the same time in an order that is drawn."""
        round_, attempt = work.plan.round, work.request.attempt
        found = []
        for record in records:
            name = record.client_id
            slow = self._faults.faults.slowdown if name in self._slow else 1.0
            never = record.status is Status.LATE
            arrival = Arrival(
                client_id=name,
                seconds=NEVER if never else ROUND_S * slow,
                accepted=record.status is Status.ACCEPTED,
            )
            turn = self._faults.turn(round_, name, attempt) if selects else 0.0
            found.append((turn, name, arrival))
        return [arrival for *_, arrival in sorted(found, key=lambda one: one[:2])]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """The answers of a round, and the end of its waiting.

    Attributes:
        work: The round.
        records: Outcome of every client, as if each were waited for.
        updates: Accepted answers, where they are there one by one.
        closing: The end of the waiting.
    """

    work: RoundWork
    records: Sequence[ClientRecord]
    updates: Sequence[IndividualUpdate]
    closing: Closing

    def outcomes(self) -> tuple[ClientRecord, ...]:
        """Return the records, those of the late ones as of clients not heard."""
        late, patience = frozenset(self.closing.late), self.work.patience
        return tuple(
            late_answer(r.client_id, self.closing, patience, r.bytes_down)
            if r.client_id in late
            else r
            for r in self.records
        )

    def in_time(self) -> tuple[IndividualUpdate, ...]:
        """Return the accepted answers that had arrived."""
        late = frozenset(self.closing.late)
        return tuple(one for one in self.updates if one.client_id not in late)

    def awaited(self, arrivals: Sequence[Arrival]) -> tuple[LateUpdate, ...]:
        """Return the accepted answers that will arrive after the round."""
        records = {record.client_id: record for record in self.records}
        deltas = {one.client_id: one for one in self.updates}
        late, plan = frozenset(self.closing.late), self.work.plan
        return tuple(
            late_update(
                records[one.client_id],
                deltas[one.client_id].delta,
                plan.round,
                network_of(plan),
                away_s=one.seconds - self.closing.seconds,
            )
            for one in arrivals
            if one.client_id in late and one.accepted and one.seconds < NEVER
        )

    def total(self) -> Accumulator:
        """Return the sum of the accepted answers that had arrived, as workers add."""
        records = {record.client_id: record for record in self.records}
        total = Accumulator(self.work.spec.size, self.work.request.limits)
        for one in self.in_time():
            record = records[one.client_id]
            total.add(scaled_delta(one.delta, record.factor), record.num_examples)
        return total
