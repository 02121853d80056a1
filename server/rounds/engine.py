"""The interface between the server and the engines that run a round's clients.

The server plans a round (``RoundWork``), which an engine and the end of the round
receive.  An engine (in-process, Flower on Ray, Flower on SuperLink) delivers the round
request, and returns partial aggregates in any order.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from typing import Protocol

from fedprune.common import codec
from fedprune.common.aggregate import Accumulator, Limits
from fedprune.common.codec import Expected, SideInformation
from fedprune.common.config import Robust
from fedprune.common.messages import RoundPlan, SparseDelta
from fedprune.common.profiling.activities import Profile
from fedprune.common.spec import ModelSpec, Vector
from fedprune.server.rounds.broadcast import EncodedBroadcast
from fedprune.server.rounds.records import ClientRecord
from fedprune.server.rounds.waiting.closing import Closing, Patience
from fedprune.server.rounds.waiting.late import LateUpdate


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One client that is asked.

    Attributes:
        client_id: Id of the client.
        variant: Index of the variant that it is sent.
        acknowledged: The last round in which its answer was accepted, 0 for none.
        max_weight: Largest weight of its answer in the mean, in examples, >= 1.
    """

    client_id: str
    variant: int
    acknowledged: int
    max_weight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRequest:
    """All that an engine needs to ask the clients of one round.

    Attributes:
        variants: Encoded plans without an address; nearly always one.
        assignments: The clients, each with its variant.
        limits: Bounds of the sums.
        max_bytes: Length of the largest answer that is read, bytes.
        individual_updates: Whether the single deltas are needed, not only their sum.
        max_norm: Largest L2 norm of a delta that is added unclipped; inf = not known,
            so that single deltas are needed.
        covariances: Channels and pairs whose covariances clients tell; (0, 0) = none.
        uses_late: Whether answers that arrive after the round are used.
        attempt: Number of the attempt of the round, from 0.
    """

    variants: tuple[bytes, ...]
    assignments: tuple[Assignment, ...]
    limits: Limits
    max_bytes: int
    individual_updates: bool
    max_norm: float = inf
    covariances: tuple[int, int] = (0, 0)
    uses_late: bool = False
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundWork:
    """One planned round.

    Attributes:
        request: The request that an engine delivers.
        plan: The plan behind all variants, without an address; with the weight mask
            that it names, if it names one.
        side_info: Side information of the answers' encoding.
        encoded: The network that is sent.
        robust: Limits on the influence of one client.
        patience: How long the round waits, and for how many.
    """

    request: RoundRequest
    plan: RoundPlan
    side_info: SideInformation
    encoded: EncodedBroadcast
    robust: Robust
    patience: Patience

    @property
    def spec(self) -> ModelSpec:
        """Shapes of the network that is sent."""
        return self.side_info.layout.spec

    @property
    def weights(self) -> Vector:
        """The decoded broadcast, float32[n]."""
        return self.encoded.weights

    def expected(self, assignment: Assignment) -> Expected:
        """Return the properties of a valid answer of one client."""
        return expect(self.plan, self.side_info, self.request, assignment)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndividualUpdate:
    """One accepted answer, for aggregation rules that need more than the sum.

    Attributes:
        client_id: Id of the client.
        read: Returns its delta, before clipping.
        answer: The answer as it was received, if it travels between processes.
    """

    client_id: str
    read: Callable[[], SparseDelta]
    answer: bytes = b""

    @property
    def delta(self) -> SparseDelta:
        """Its delta before clipping."""
        return self.read()


def decoded_update(client_id: str, delta: SparseDelta) -> IndividualUpdate:
    """Return an accepted answer whose delta stays in this process."""
    return IndividualUpdate(client_id=client_id, read=lambda: delta)


def encoded_update(answer: bytes, expected: Expected) -> IndividualUpdate:
    """Return an accepted answer that is decoded where its delta is asked for.

    The answers of all clients fit into memory where their deltas may not.
    """
    return IndividualUpdate(
        client_id=expected.client_id,
        read=lambda: codec.decode_update(answer, expected).sparse,
        answer=answer,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LostWorker:
    """A worker of a simulation that ended or fell silent in the middle of its clients.

    Attributes:
        worker: Its process and host.
        reason: How it was lost, one line.
        clients: Ids of its clients, which another worker plays again.
    """

    worker: str
    reason: str
    clients: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialAggregate:
    """The answers of some of a round's clients, with the sum of their deltas.

    Attributes:
        records: One for each of these clients.
        total: Sum of the accepted deltas.
        individual_updates: The accepted answers, when the request needs them.
        bytes_simulation: Bytes between workers and driver; 0 without workers.
        lost: Workers that were lost meanwhile; their clients are in other aggregates.
        profile: What another process spent on it, where the run is profiled, or None.
        closing: The end of the round's waiting, in one of the round's aggregates, or
            None.
        arrived: Answers of earlier rounds that arrived meanwhile, if late ones are
            used, of clients that this round did not ask.
        awaited: Answers of this round that are known to arrive after it, if late ones
            are used: those of a simulation.
    """

    records: tuple[ClientRecord, ...]
    total: Accumulator
    individual_updates: tuple[IndividualUpdate, ...] = ()
    bytes_simulation: int = 0
    lost: tuple[LostWorker, ...] = ()
    profile: Profile | None = None
    closing: Closing | None = None
    arrived: tuple[LateUpdate, ...] = ()
    awaited: tuple[LateUpdate, ...] = ()


class Engine(Protocol):
    """Delivers a round request to clients and returns their answers."""

    def ask(self, work: RoundWork) -> Iterator[PartialAggregate]:
        """Ask every client of the round and yield partial aggregates.

        Every client is in exactly one of them; one that did not answer has a record
        with status "failed" or "late".
        """
        ...


def expect(
    plan: RoundPlan,
    side_info: SideInformation,
    request: RoundRequest,
    assignment: Assignment,
) -> Expected:
    """Return the properties of a valid answer of one client to this plan."""
    return Expected(
        run_id=plan.run_id,
        round=plan.round,
        client_id=assignment.client_id,
        plan=plan.broadcast.plan.digest,
        base=plan.broadcast.digest,
        side_info=side_info,
        values=plan.settings.values,
        update_density=plan.settings.density_sent,
        scored=bool(plan.settings.importance),
        measured=plan.settings.measure,
        trained=plan.settings.epochs > 0,
        max_bytes=request.max_bytes,
        max_examples=request.limits.max_examples,
        max_value=request.limits.max_value,
        max_weight=assignment.max_weight,
        max_norm=request.max_norm,
        covariances=request.covariances,
    )
