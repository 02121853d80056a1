"""One plan opened: its parts read, checked against each other, and kept."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from fedprune.client.rounds.broadcasts import (
    DecodedBroadcast,
    receive_broadcast,
    store_broadcast,
)
from fedprune.client.rounds.mask import open_mask
from fedprune.client.rounds.model_cache import ModelCache
from fedprune.client.rounds.store import ClientStore
from fedprune.common import codec
from fedprune.common.codec import SideInformation
from fedprune.common.config import Config
from fedprune.common.errors import IntegrityError, PayloadError, Reason
from fedprune.common.messages import Broadcast, RoundPlan, TrainSettings
from fedprune.common.methods.kinds import CHOICE, IMPORTANCE, PENALTY
from fedprune.common.methods.registry import resolve
from fedprune.common.pruning.plan import check_plan
from fedprune.common.sparsity.masks import without_positions
from fedprune.common.spec import ModelSpec, Vector, WeightMask, digest_of
from fedprune.common.structure.structure import Structure


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A plan whose parts have been read and checked against each other.

    Attributes:
        plan: The plan.
        structure: The original network.
        taken: Its broadcast, read.
        side_info: What server and client hold of it, by which the answer is coded.
        mask: The weight mask that it is under, or None.
    """

    plan: RoundPlan
    structure: Structure
    taken: DecodedBroadcast
    side_info: SideInformation
    mask: WeightMask | None = None

    @property
    def spec(self) -> ModelSpec:
        """Shapes of the network that was sent."""
        return self.taken.spec

    @property
    def weights(self) -> Vector:
        """The decoded broadcast, float32[n]."""
        return self.taken.weights

    @property
    def broadcast(self) -> Broadcast:
        """The broadcast in an encoding that stands alone, whichever way it came."""
        return replace(self.plan.broadcast, weights=self.taken.full)


def open_plan(plan: RoundPlan, cache: ModelCache, store: ClientStore) -> Opened:
    """Read structure, plan and weights; keep what the server will not send again.

    Raises:
        PayloadError: If the plan does not fit itself or what this client knows.
        IntegrityError: If the server believes that this client holds something that
            it does not: it must be sent again.
    """
    cache.follow(plan.settings.seed, plan.settings.validation)
    plan = replace(plan, settings=_own_methods(plan.settings, cache.task.config))
    structure = _structure(plan, cache, store)
    check_plan(structure, plan.broadcast.plan)
    if plan.targets is not None and len(plan.targets) != structure.units:
        detail = f"{len(plan.targets)} units; want {structure.units}"
        raise PayloadError(Reason.BAD_SIZE, "targets", detail)
    spec = structure.spec(plan.broadcast.plan.keep)
    taken = cache.taken(
        plan.broadcast, lambda: receive_broadcast(plan.broadcast, structure, store)
    )
    store_broadcast(taken, plan.broadcast.plan, plan.round, store)
    mask = open_mask(plan, spec, store)
    opened = Opened(
        plan=plan,
        structure=structure,
        taken=taken,
        side_info=_side_information(taken, mask, plan.settings),
        mask=mask,
    )
    if plan.keep_broadcast:  # later rounds are taught by it
        store_teacher(plan.broadcast.digest, lambda: opened.broadcast, store)
    return opened


def _own_methods(settings: TrainSettings, own: Config) -> TrainSettings:
    """Return the settings with code as this client's own configuration names it.

    Raises:
        PayloadError: If the plan asks for code that it does not name.
    """
    return replace(
        settings,
        importance=resolve(IMPORTANCE, settings.importance, own.prune.importance),
        penalty=resolve(PENALTY, settings.penalty, own.client.penalty),
        choice=resolve(CHOICE, settings.choice, own.update.choice),
    )


def _side_information(
    taken: DecodedBroadcast, mask: WeightMask | None, settings: TrainSettings
) -> SideInformation:
    """Return what both ends hold, with the mask if no positions travel."""
    places = without_positions(mask, settings.density_sent)
    return taken.side_info if places is None else replace(taken.side_info, mask=places)


def store_teacher(
    digest: bytes, make: Callable[[], Broadcast], store: ClientStore
) -> None:
    """Store a broadcast by its digest, unless it lies there."""
    store.save_shared(
        _teacher_file(digest),
        codec.decode_broadcast,
        lambda: codec.encode_broadcast(make()),
    )


def stored_teacher(digest: bytes, store: ClientStore) -> Broadcast:
    """Return a broadcast that was kept.

    Raises:
        IntegrityError: If it is not held here.
    """
    found = store.load_shared(_teacher_file(digest), codec.decode_broadcast)
    if found is None:
        msg = f"teacher {digest.hex()} is not held here: send it again"
        raise IntegrityError(msg)
    return found


def _teacher_file(digest: bytes) -> str:
    return f"broadcast-{digest.hex()}.bin"


def _structure(plan: RoundPlan, cache: ModelCache, store: ClientStore) -> Structure:
    """Return the structure that a plan is about, and keep it when it has come."""

    def checked(text: bytes) -> bytes:
        found = digest_of(text)
        if found != plan.structure:
            detail = f"digest {found.hex()}; want {plan.structure.hex()}"
            raise PayloadError(Reason.BAD_DIGEST, "structure", detail)
        return text

    name = f"structure-{plan.structure.hex()}.json"
    came = plan.structure_json
    text = checked(came) if came else store.load_shared(name, checked)
    if text is None:
        msg = f"structure {plan.structure.hex()} is not held here: send it again"
        raise IntegrityError(msg)
    structure = cache.structure(plan.structure, text)
    if came:
        store.save_shared(name, checked, lambda: came)
    return structure
