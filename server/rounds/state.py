"""The server's state between two rounds, as one value; a checkpoint stores it."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from fedprune.common.config import Config
from fedprune.common.messages import GridWeights, Statistics
from fedprune.common.privacy.hiding import Privacy
from fedprune.common.pruning.latency import LatencyTable
from fedprune.common.spec import Mask, PrunePlan, Vector, WeightMask
from fedprune.common.structure.structure import Structure
from fedprune.common.tasks.fresh import FreshNetwork
from fedprune.server.rounds.cycle import Cursor
from fedprune.server.rounds.ledger import Ledgers
from fedprune.server.rounds.records import Validations
from fedprune.server.rounds.waiting.absence import Absences
from fedprune.server.rounds.waiting.late import LateUpdate
from fedprune.server.rounds.waiting.pace import Pace

Draw: TypeAlias = Callable[[Mask], FreshNetwork]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """The parts of a run that are the same in all rounds.

    Attributes:
        run_id: Name of the run; a message of another run is refused.
        config: The configuration.
        structure: The original network.
        clients: Ids of all clients, in order.
        latency: Table for a latency in the budget, or None.
        enrolled: Client id -> number of examples at enrolment, up to which the number
            in later answers counts.
        higher_is_better: Direction of the task's headline metric.
        draw: Draws the network that keeps a mask with fresh weights, or None where
            none are wanted (``prune.restart``).
        privacy: What hides the clients, or None where nothing does.
    """

    run_id: str
    config: Config
    structure: Structure
    clients: tuple[str, ...]
    latency: LatencyTable | None = None
    enrolled: Mapping[str, int] = field(default_factory=dict)
    higher_is_better: bool = True
    draw: Draw | None = None
    privacy: Privacy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerState:
    """The state of the server's optimiser (``server/rounds/steps/optimizer.py``).

    Attributes:
        momentum: Average of the mean deltas, float32[n].
        variance: Average of their squares, float32[n], >= 0; None for "momentum".
    """

    momentum: Vector
    variance: Vector | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A network as it was sent: a teacher, or the network that a rollback restores.

    Attributes:
        round: The round that sent it.
        plan: Its prune plan.
        weights: The decoded broadcast, float32[n].
        digest: Digest of those weights.
        statistics: Moments and running values that belong to it, or None.
        validations: Its validation on each client, or None where it was not measured.
        optimizer: State of the server's optimiser when it was sent, or None.
    """

    round: int
    plan: PrunePlan
    weights: Vector
    digest: bytes
    statistics: Statistics | None
    validations: Validations | None = None
    optimizer: OptimizerState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SentBroadcast:
    """An earlier broadcast, as clients have stored it.

    Attributes:
        round: The round that sent it.
        keep: Keep mask of its prune plan, bool[units].
        full: Its weights encoded without a base.
        grid: The decoded levels and steps, where available: not after a resume.
    """

    round: int
    keep: Mask
    full: bytes
    grid: GridWeights | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Counts over a whole run; bytes are lengths of real messages.

    ``virtual_seconds`` is the time that a simulation's rounds would have waited.
    """

    bytes_up: int = 0
    bytes_down: int = 0
    bytes_fixed: int = 0
    bytes_simulation: int = 0
    messages_up: int = 0
    refused: int = 0
    failed: int = 0
    rollbacks: int = 0
    late: int = 0
    late_used: int = 0
    virtual_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """The server between two rounds.

    Attributes:
        round: Rounds completed.
        cursor: Place of the next round in the cycle.
        plan: The current prune plan.
        weights: Exact weights, float32[n of the cut network]; the broadcast rounds
            them to its quantisation grid, and the rounding stays here.
        statistics: Last pooled batch-norm moments, and running values; None if there
            are neither.
        importance: Moving average over cycles, float32[original units], or None.
        dense: The last broadcast before the first cut, or None: the reference of
            ``prune.max_accuracy_drop``.
        previous: The last broadcast before the last cut, or None: the guard compares
            losses with it, and a rollback restores it.
        zero_shares: Share of exactly zero units in the broadcast at the end of each
            sparsify phase.
        ledgers: What each client has stored.
        totals: Counts so far.
        sent: The last broadcasts on a grid, the newest last: bases of later changes.
        mask: The weight mask that all later weights are under, or None.
        norm: Median L2 norm of the deltas of the last round, which the next ones are
            clipped by; None = the next round is clipped by its own.
        optimizer: State of the server's optimiser, or None before its first step and
            without one.
        restarted: The round that ended with fresh weights, 0 for none.
        undone: The round that ended with the last rollback, 0 for none.
        absences: The clients that were late when they were asked last.
        pace: Seconds that the last rounds took to the last answer that counts.
        pending: Late answers that are known to arrive, where they are used.
    """

    round: int
    cursor: Cursor
    plan: PrunePlan
    weights: Vector
    statistics: Statistics | None = None
    importance: Vector | None = None
    dense: Snapshot | None = None
    previous: Snapshot | None = None
    zero_shares: tuple[float, ...] = ()
    ledgers: Ledgers = field(default_factory=lambda: Ledgers.of({}))
    totals: Totals = field(default_factory=Totals)
    sent: tuple[SentBroadcast, ...] = ()
    mask: WeightMask | None = None
    norm: float | None = None
    optimizer: OptimizerState | None = None
    restarted: int = 0
    undone: int = 0
    absences: Absences = field(default_factory=dict)
    pace: Pace = ()
    pending: tuple[LateUpdate, ...] = ()

    @property
    def keep(self) -> Mask:
        """Keep mask of the current plan."""
        return self.plan.keep


def new_state(
    structure: Structure,
    weights: Vector,
    cursor: Cursor,
    plan: PrunePlan,
    statistics: Statistics | None = None,
) -> ServerState:
    """Return the state before round 1.

    Its statistics are running values, and moments where modules are frozen.
    """
    spec = structure.spec(plan.keep)
    if len(weights) != spec.size:
        msg = f"{len(weights)} weights for a network of {spec.size}"
        raise ValueError(msg)
    return ServerState(
        round=0, cursor=cursor, plan=plan, weights=weights, statistics=statistics
    )


def spread(values: Vector, keep: Mask) -> Vector:
    """Return values of the kept units as values of all units, 0 for cut ones."""
    out = np.zeros(len(keep), dtype=np.float32)
    out[keep] = values
    return out


def model_sha256(snapshot: Snapshot) -> str:
    """Return the SHA-256 of a network: plan, weights and statistics."""
    state = hashlib.sha256()
    state.update(np.packbits(snapshot.plan.keep).tobytes())
    state.update(snapshot.weights.astype("<f4").tobytes())
    if snapshot.statistics is not None:
        state.update(snapshot.statistics.mean.astype("<f4").tobytes())
        state.update(snapshot.statistics.variance.astype("<f4").tobytes())
        state.update(snapshot.statistics.running.astype("<f4").tobytes())
    return state.hexdigest()
