"""Everything the server knows between two rounds, as one value."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from fedprune.common.config import Config
from fedprune.common.messages import GridWeights, Statistics
from fedprune.common.pruning.latency import LatencyTable
from fedprune.common.spec import Mask, PrunePlan, Vector, WeightMask
from fedprune.common.structure.structure import Structure
from fedprune.server.rounds.cycle import Cursor


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What stays the same in all rounds of a run.

    Attributes:
        run_id: Name of the run; a message of another run is refused.
        config: The configuration.
        structure: The original network.
        clients: Ids of all clients, in order.
        latency: What a latency in the budget is measured by, or None.
        enrolled: Client id -> examples that it enrolled with: what it claims later
            counts up to that.
    """

    run_id: str
    config: Config
    structure: Structure
    clients: tuple[str, ...]
    latency: LatencyTable | None = None
    enrolled: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A network as it was sent: a teacher, and what a rollback goes back to.

    Attributes:
        round: The round that sent it.
        plan: Its prune plan.
        weights: The decoded broadcast, float32[n].
        digest: Digest of those weights.
        statistics: Batch-norm moments that go with it, or None.
        loss: Its mean validation loss; NaN when nobody validated.
    """

    round: int
    plan: PrunePlan
    weights: Vector
    digest: bytes
    statistics: Statistics | None
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLedger:
    """What the server knows that one client holds.

    Attributes:
        acknowledged: Last round whose answer was accepted, 0 for none.
        structure: Whether it holds the structure.
        teacher: Digest of the broadcast that it keeps as a teacher, or empty.
        held: Round of the last broadcast that it surely holds, 0 for none.
    """

    acknowledged: int = 0
    structure: bool = False
    teacher: bytes = b""
    held: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SentBroadcast:
    """An earlier broadcast, as clients hold it.

    Attributes:
        round: The round that sent it.
        keep: Keep mask of its prune plan, bool[units].
        full: Its encoding that stands alone.
        grid: What that decodes to, where it is at hand: not after a resume.
    """

    round: int
    keep: Mask
    full: bytes
    grid: GridWeights | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Counts over a whole run; bytes are lengths of real messages."""

    bytes_up: int = 0
    bytes_down: int = 0
    bytes_fixed: int = 0
    bytes_simulation: int = 0
    messages_up: int = 0
    refused: int = 0
    failed: int = 0
    rollbacks: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """The server between two rounds.

    Attributes:
        round: Rounds completed.
        cursor: What the next round is for.
        plan: The current prune plan.
        weights: Exact weights, float32[n of the cut network]; what is sent is these
            on the broadcast's grid, so what the grid loses stays here.
        statistics: Last pooled batch-norm moments, or None.
        importance: Moving average over cycles, float32[original units], or None.
        dense: The last broadcast before the first cut, or None.
        previous: The last broadcast before the last cut, or None: what the guard
            compares with and goes back to.
        zero_shares: Share of exactly zero units in the broadcast at the end of each
            sparsify phase.
        ledgers: What each client holds.
        totals: Counts so far.
        sent: The last broadcasts on a grid, the newest last: what the next one is put
            near to, and what clients are told changes from.
        mask: The weight mask that all later weights are under, or None.
        mask_holders: Clients that hold it.
        norm: Median L2 norm of the deltas of the last round, which the next ones are
            measured by; None = those of the next round by their own.
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
    ledgers: Mapping[str, ClientLedger] = field(default_factory=dict)
    totals: Totals = field(default_factory=Totals)
    sent: tuple[SentBroadcast, ...] = ()
    mask: WeightMask | None = None
    mask_holders: frozenset[str] = frozenset()
    norm: float | None = None

    @property
    def keep(self) -> Mask:
        """Keep mask of the current plan."""
        return self.plan.keep


def new_state(
    structure: Structure, weights: Vector, cursor: Cursor, plan: PrunePlan
) -> ServerState:
    """Return the state before round 1."""
    spec = structure.spec(plan.keep)
    if len(weights) != spec.size:
        msg = f"{len(weights)} weights for a network of {spec.size}"
        raise ValueError(msg)
    return ServerState(round=0, cursor=cursor, plan=plan, weights=weights)


def spread(values: Vector, keep: Mask) -> Vector:
    """Put values of the kept units at their places among all units, 0 elsewhere."""
    out = np.zeros(len(keep), dtype=np.float32)
    out[keep] = values
    return out


def note_accepted(
    ledgers: Mapping[str, ClientLedger], client_id: str, round_: int, teacher: bytes
) -> dict[str, ClientLedger]:
    """Return the ledger after a client's answer was accepted."""
    old = ledgers.get(client_id, ClientLedger())
    fresh = replace(
        old,
        acknowledged=round_,
        structure=True,
        teacher=teacher or old.teacher,
        held=round_,
    )
    return {**ledgers, client_id: fresh}


def model_sha256(snapshot: Snapshot) -> str:
    """Return the SHA-256 of a network: plan, weights and statistics."""
    state = hashlib.sha256()
    state.update(np.packbits(snapshot.plan.keep).tobytes())
    state.update(snapshot.weights.astype("<f4").tobytes())
    if snapshot.statistics is not None:
        state.update(snapshot.statistics.mean.astype("<f4").tobytes())
        state.update(snapshot.statistics.variance.astype("<f4").tobytes())
    return state.hexdigest()
