"""The seam between the server and whatever carries its questions to clients.

The server says whom it asks and what; an engine (in-process, Flower on Ray, Flower on
SuperLink) delivers, and hands back records and partial sums in any order.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

from fedprune.common.aggregate import Accumulator, Limits
from fedprune.common.messages import (
    ClientRecord,
    Expected,
    ModelSpec,
    RoundPlan,
    Vector,
)
from fedprune.common.sparsity.masks import without_positions


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
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
class Asking:
    """One round's questions.

    Attributes:
        round: The round.
        variants: Encoded shared parts of the plan; nearly always one.
        orders: Who is sent which.
        limits: Bounds of the sums.
        max_bytes: Largest answer that is read.
        singles: Whether the single updates are needed, not only their sum.
        deadline_s: Seconds after which the round goes on without the missing.
        goal: Answers after which nobody else is waited for.
        max_norm: Largest L2 norm of a delta that is added as it is; inf = not known,
            so that single updates are asked for.
    """

    round: int
    variants: tuple[bytes, ...]
    orders: tuple[Order, ...]
    limits: Limits
    max_bytes: int
    singles: bool
    deadline_s: float
    goal: int
    max_norm: float = inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What an engine hands back for some of the clients.

    Attributes:
        records: One for each of these clients.
        total: Sum of the accepted deltas.
        singles: (client id, answer) of accepted answers, when they were asked for.
        bytes_simulation: Bytes between worker and driver; 0 without workers.
    """

    records: tuple[ClientRecord, ...]
    total: Accumulator
    singles: tuple[tuple[str, bytes], ...] = field(default=())
    bytes_simulation: int = 0


class Engine(Protocol):
    """Delivers questions and hands back answers."""

    def ask(
        self, asking: Asking, plan: RoundPlan, spec: ModelSpec, weights: Vector
    ) -> Iterator[Part]:
        """Ask every client of ``asking.orders`` and yield the answers in parts.

        ``plan``, ``spec`` and ``weights`` (the decoded broadcast) are what a valid
        answer is judged by.

        Every client is in exactly one part; one that did not answer has a record
        with status "failed" or "late".
        """
        ...


def expect(
    plan: RoundPlan, spec: ModelSpec, weights: Vector, asking: Asking, order: Order
) -> Expected:
    """Return what a valid answer of one client to this plan looks like.

    ``plan.weight_mask`` is the mask that the client holds, whatever it was sent.
    """
    # The closing round trains nothing, so an entry there is no honest change.
    density = plan.settings.update_density if plan.settings.epochs else 0.0
    return Expected(
        run_id=plan.run_id,
        round=plan.round,
        client_id=order.client_id,
        plan=plan.broadcast.plan.digest,
        base=plan.broadcast.digest,
        base_weights=weights,
        spec=spec,
        values=plan.settings.values,
        update_density=density,
        scored=bool(plan.settings.importance),
        measured=plan.settings.measure,
        max_bytes=asking.max_bytes,
        max_examples=asking.limits.max_examples,
        max_value=asking.limits.max_value,
        max_weight=order.max_weight,
        max_norm=asking.max_norm,
        mask=without_positions(plan.weight_mask, density),
    )
