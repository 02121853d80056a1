"""Opening a plan: its parts are decoded, checked against each other and stored."""

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
from fedprune.common.models.training import is_inside
from fedprune.common.pruning.plan import check_plan
from fedprune.common.sparsity.known_positions import known_positions
from fedprune.common.spec import ModelSpec, Vector, WeightMask, digest_of
from fedprune.common.structure.structure import Structure


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedPlan:
    """A round plan whose parts have been decoded and checked against each other.

    Attributes:
        plan: The plan.
        structure: The original network.
        decoded: The decoded broadcast.
        side_info: Side information of the answer's encoding.
        mask: The weight mask of the network, or None.
    """

    plan: RoundPlan
    structure: Structure
    decoded: DecodedBroadcast
    side_info: SideInformation
    mask: WeightMask | None = None

    @property
    def spec(self) -> ModelSpec:
        """Shapes of the network that was sent."""
        return self.decoded.spec

    @property
    def weights(self) -> Vector:
        """The decoded broadcast, float32[n]."""
        return self.decoded.weights

    @property
    def broadcast(self) -> Broadcast:
        """The broadcast encoded without a base, also where it came with one."""
        return replace(self.plan.broadcast, weights=self.decoded.full)


def open_plan(plan: RoundPlan, cache: ModelCache, store: ClientStore) -> OpenedPlan:
    """Decode structure, plan and weights; store what the server will not send again.

    Raises:
        PayloadError: If the parts of the plan contradict each other, or contradict
            this client's own network or configuration.
        IntegrityError: If the plan leaves out something that is not stored here: it
            must be sent again.
    """
    cache.follow(plan.settings.seed, plan.settings.validation)
    plan = replace(plan, settings=_own_methods(plan.settings, cache.task.config))
    structure = _structure(plan, cache, store)
    check_plan(structure, plan.broadcast.plan)
    if plan.targets is not None and len(plan.targets) != structure.units:
        detail = f"{len(plan.targets)} units; want {structure.units}"
        raise PayloadError(Reason.BAD_SIZE, "targets", detail)
    spec = structure.spec(plan.broadcast.plan.keep)
    _check_frozen(plan.settings, spec, cache)
    decoded = cache.decoded(
        plan.broadcast, lambda: receive_broadcast(plan.broadcast, structure, store)
    )
    store_broadcast(decoded, plan.broadcast.plan, plan.round, store)
    mask = open_mask(plan, spec, store)
    opened = OpenedPlan(
        plan=plan,
        structure=structure,
        decoded=decoded,
        side_info=_side_information(decoded, plan, mask),
        mask=mask,
    )
    if plan.keep_broadcast:  # the teacher of later rounds
        store_teacher(plan.broadcast.digest, lambda: opened.broadcast, store)
    return opened


def _check_frozen(settings: TrainSettings, spec: ModelSpec, cache: ModelCache) -> None:
    """Refuse frozen modules that the own network lacks, or that leave none to train."""
    if not settings.frozen:
        return
    unknown = [name for name in settings.frozen if name not in cache.modules]
    if unknown:
        detail = f"{unknown[0]!r} is no module with weights of this network"
        raise PayloadError(Reason.MISMATCH, "settings.frozen", detail)
    if all(is_inside(tensor.name, settings.frozen) for tensor in spec.tensors):
        detail = "all weights; want some that are trained"
        raise PayloadError(Reason.BAD_VALUE, "settings.frozen", detail)


def _own_methods(settings: TrainSettings, own: Config) -> TrainSettings:
    """Return the settings with a user's own functions as this client names them.

    Raises:
        PayloadError: If the plan asks for a function that this client's configuration
            does not name.
    """
    return replace(
        settings,
        importance=resolve(IMPORTANCE, settings.importance, own.prune.importance),
        penalty=resolve(PENALTY, settings.penalty, own.client.penalty),
        choice=resolve(CHOICE, settings.choice, own.update.choice),
    )


def _side_information(
    decoded: DecodedBroadcast, plan: RoundPlan, mask: WeightMask | None
) -> SideInformation:
    """Return the side information, with the positions that need not travel."""
    size = decoded.side_info.layout.spec.size
    places = known_positions(plan, mask, size, plan.settings.choice)
    return (
        decoded.side_info if places is None else replace(decoded.side_info, mask=places)
    )


def store_teacher(
    digest: bytes, make: Callable[[], Broadcast], store: ClientStore
) -> None:
    """Store a broadcast by its digest, unless it is stored already."""
    store.save_shared(
        _teacher_file(digest),
        codec.decode_broadcast,
        lambda: codec.encode_broadcast(make()),
    )


def stored_teacher(digest: bytes, store: ClientStore) -> Broadcast:
    """Return the stored broadcast of a teacher.

    Raises:
        IntegrityError: If it is not stored here.
    """
    found = store.load_shared(_teacher_file(digest), codec.decode_broadcast)
    if found is None:
        msg = f"teacher {digest.hex()} is not stored here: send it again"
        raise IntegrityError(msg)
    return found


def _teacher_file(digest: bytes) -> str:
    return f"broadcast-{digest.hex()}.bin"


def _structure(plan: RoundPlan, cache: ModelCache, store: ClientStore) -> Structure:
    """Return the structure that a plan names, and store it when it has come.

    Raises:
        PayloadError: If it has another digest, or is not valid.
        IntegrityError: If the plan leaves it out, and it is not stored here.
    """

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
        msg = f"structure {plan.structure.hex()} is not stored here: send it again"
        raise IntegrityError(msg)
    structure = cache.structure(plan.structure, text)
    if came:
        store.save_shared(name, checked, lambda: came)
    return structure
