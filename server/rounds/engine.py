"""The seam between the server and whatever carries its questions to clients.

The server plans a round (``RoundWork``), and the same value goes to an engine and to
the end of the round.  An engine (in-process, Flower on Ray, Flower on SuperLink)
delivers, and hands back records and partial sums in any order.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Protocol

from fedprune.common.aggregate import Accumulator, Limits
from fedprune.common.codec import Expected, SideInformation
from fedprune.common.config import Robust
from fedprune.common.messages import RoundPlan, SparseDelta
from fedprune.common.spec import ModelSpec, Vector
from fedprune.server.rounds.broadcast import EncodedBroadcast
from fedprune.server.rounds.records import ClientRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One client that is asked.

    Attributes:
        client_id: Who.
        variant: Which of the shared parts it is sent.
        acknowledged: The last round in which its answer was accepted.
        max_weight: Largest weight that its answer can have, >= 1.
    """

    client_id: str
    variant: int
    acknowledged: int
    max_weight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRequest:
    """A round's questions: all that one who plays its clients must be told.

    Attributes:
        variants: Encoded shared parts of the plan; nearly always one.
        assignments: Who is sent which.
        limits: Bounds of the sums.
        max_bytes: Largest answer that is read.
        individual_updates: Whether the single deltas are needed, not only their sum.
        max_norm: Largest L2 norm of a delta that is added as it is; inf = not known,
            so that single deltas are asked for.
    """

    variants: tuple[bytes, ...]
    assignments: tuple[Assignment, ...]
    limits: Limits
    max_bytes: int
    individual_updates: bool
    max_norm: float = inf


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundWork:
    """One planned round.

    Attributes:
        request: The questions.
        plan: The plan that they all carry, without an address; with the weight mask
            that it names, if it names one.
        side_info: What server and clients hold of it, by which answers are coded.
        encoded: The network that is sent.
        robust: What limits the influence of one client.
        deadline_s: Seconds after which the round goes on without the missing.
        goal: Answers after which nobody else is waited for.
    """

    request: RoundRequest
    plan: RoundPlan
    side_info: SideInformation
    encoded: EncodedBroadcast
    robust: Robust
    deadline_s: float
    goal: int

    @property
    def spec(self) -> ModelSpec:
        """Shapes of the network that is sent."""
        return self.side_info.layout.spec

    @property
    def weights(self) -> Vector:
        """The decoded broadcast, float32[n]."""
        return self.encoded.weights

    def expected(self, assignment: Assignment) -> Expected:
        """Return what a valid answer of one client looks like."""
        return expect(self.plan, self.side_info, self.request, assignment)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndividualUpdate:
    """One accepted answer, for rules that need more than the sum.

    Attributes:
        client_id: Who answered.
        answer: The answer as it came: so it travels between processes.
        delta: What it adds, before it is clipped.
    """

    client_id: str
    answer: bytes
    delta: SparseDelta


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialAggregate:
    """What an engine hands back for some of the clients.

    Attributes:
        records: One for each of these clients.
        total: Sum of the accepted deltas.
        individual_updates: The accepted answers, when they were asked for.
        bytes_simulation: Bytes between worker and driver; 0 without workers.
    """

    records: tuple[ClientRecord, ...]
    total: Accumulator
    individual_updates: tuple[IndividualUpdate, ...] = ()
    bytes_simulation: int = 0


class Engine(Protocol):
    """Delivers questions and hands back answers."""

    def ask(self, work: RoundWork) -> Iterator[PartialAggregate]:
        """Ask every client of the round and yield the answers in parts.

        Every client is in exactly one part; one that did not answer has a record
        with status "failed" or "late".
        """
        ...


def expect(
    plan: RoundPlan,
    side_info: SideInformation,
    request: RoundRequest,
    assignment: Assignment,
) -> Expected:
    """Return what a valid answer of one client to this plan looks like."""
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
        max_bytes=request.max_bytes,
        max_examples=request.limits.max_examples,
        max_value=request.limits.max_value,
        max_weight=assignment.max_weight,
        max_norm=request.max_norm,
    )
