"""One plan opened: its parts read, checked against each other, and kept."""

from dataclasses import dataclass, replace

from fedprune.client.rounds.broadcasts import Taken, hold_on, take
from fedprune.client.rounds.mask import open_mask
from fedprune.client.rounds.store import ClientStore
from fedprune.client.rounds.workbench import Workbench
from fedprune.common import codec
from fedprune.common.errors import IntegrityError, PayloadError, Reason
from fedprune.common.messages import Broadcast, ModelSpec, RoundPlan, Vector, WeightMask
from fedprune.common.pruning.plan import check_plan
from fedprune.common.structure.structure import Structure


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A plan whose parts have been read and checked against each other.

    Attributes:
        plan: The plan.
        structure: The original network.
        spec: Shapes of the network that was sent.
        taken: Its broadcast, read.
        mask: The weight mask that it is under, or None.
    """

    plan: RoundPlan
    structure: Structure
    spec: ModelSpec
    taken: Taken
    mask: WeightMask | None = None

    @property
    def weights(self) -> Vector:
        """The decoded broadcast, float32[n]."""
        return self.taken.weights

    @property
    def broadcast(self) -> Broadcast:
        """The broadcast in an encoding that stands alone, whichever way it came."""
        return replace(self.plan.broadcast, weights=self.taken.full)


def open_plan(plan: RoundPlan, bench: Workbench, store: ClientStore) -> Opened:
    """Read structure, plan and weights; keep what the server will not send again."""
    name = f"structure-{plan.structure.hex()}.json"
    text = plan.structure_json or store.load_shared(name)
    if text is None:
        msg = f"structure {plan.structure.hex()} is not held here: send it again"
        raise IntegrityError(msg)
    structure = bench.structure(plan.structure, text)
    if structure.digest != plan.structure:
        detail = f"digest {structure.digest.hex()}; want {plan.structure.hex()}"
        raise PayloadError(Reason.BAD_DIGEST, "structure", detail)
    if plan.structure_json:
        store.save_shared(name, text)
    check_plan(structure, plan.broadcast.plan)
    if plan.targets is not None and len(plan.targets) != structure.units:
        detail = f"{len(plan.targets)} units; want {structure.units}"
        raise PayloadError(Reason.BAD_SIZE, "targets", detail)
    spec = structure.spec(plan.broadcast.plan.keep)
    taken = bench.taken(plan.broadcast, lambda: take(plan.broadcast, structure, store))
    hold_on(taken, plan.broadcast.plan, plan.round, store)
    mask = open_mask(plan, spec, store)
    opened = Opened(plan=plan, structure=structure, spec=spec, taken=taken, mask=mask)
    if plan.keep_broadcast:
        keep_teacher(opened.broadcast, store)
    return opened


def keep_teacher(broadcast: Broadcast, store: ClientStore) -> None:
    """Store a broadcast by its digest: later rounds are taught by it."""
    name = f"broadcast-{broadcast.digest.hex()}.bin"
    store.save_shared(name, codec.encode_broadcast(broadcast))
