"""Broadcasts that a client has stored: the bases of later changes.

A message may hold only the change since an earlier broadcast, its base.  Each broadcast
that was decoded is stored, as the integers of its quantisation grid, by round and by
the digest of these: a file that is lost, damaged or of another run can never lead to
another network, only to the request to send everything.
"""

from dataclasses import dataclass
from functools import cached_property

from fedprune.client.rounds.store import ClientStore
from fedprune.common import codec
from fedprune.common.codec import BaseName, SideInformation
from fedprune.common.errors import IntegrityError, PayloadError, Reason
from fedprune.common.messages import Broadcast, GridWeights
from fedprune.common.pruning.plan import check_plan
from fedprune.common.pruning.remap import remap_grid
from fedprune.common.spec import Mask, ModelSpec, PrunePlan, Vector
from fedprune.common.structure.structure import Structure


@dataclass(frozen=True, kw_only=True)
class DecodedBroadcast:
    """A broadcast that has been decoded.

    Attributes:
        came: Its encoded weights, as they were received.
        spec: Shapes of the network.
        weights: The decoded weights, float32[n].
        grid: The levels and steps that they are made of; None for float weights.
    """

    came: bytes
    spec: ModelSpec
    weights: Vector
    grid: GridWeights | None = None

    @cached_property
    def side_info(self) -> SideInformation:
        """The side information that it gives, without a weight mask."""
        return SideInformation.of(self.spec, self.weights)

    @cached_property
    def full(self) -> bytes:
        """The weights encoded without a base."""
        if self.grid is None or codec.base_name(self.came, self.spec) is None:
            return self.came
        return codec.encode_full(self.grid, self.spec)


@dataclass(frozen=True, slots=True, kw_only=True)
class _StoredBroadcast:
    """An earlier broadcast that is stored here.

    Attributes:
        grid: Its levels and steps.
        keep: Keep mask of its prune plan.
    """

    grid: GridWeights
    keep: Mask


def receive_broadcast(
    broadcast: Broadcast, structure: Structure, store: ClientStore
) -> DecodedBroadcast:
    """Decode a broadcast, whole or as the change since a stored base.

    Args:
        broadcast: The broadcast as it was received; its plan has been checked.
        structure: The original network.
        store: The stored broadcasts.

    Raises:
        PayloadError: If it does not belong to this network, or its decoded weights
            have another digest.
        IntegrityError: If its base is not stored here.
    """
    spec = structure.spec(broadcast.plan.keep)
    if not codec.is_grid(broadcast.weights):
        weights = codec.decode_weights(broadcast.weights, spec)
        codec.check_weights(weights, broadcast.digest)
        return DecodedBroadcast(came=broadcast.weights, spec=spec, weights=weights)
    base = codec.base_name(broadcast.weights, spec)
    if base is None:
        grid = codec.decode_full(broadcast.weights, spec)
    else:
        stored = _load(base, structure, store)
        cut = remap_grid(stored.grid, structure, stored.keep, broadcast.plan.keep)
        grid = codec.decode_change(broadcast.weights, spec, stored.grid, cut)
    weights = codec.grid_values(grid, spec)
    codec.check_weights(weights, broadcast.digest)
    return DecodedBroadcast(
        came=broadcast.weights, spec=spec, weights=weights, grid=grid
    )


def store_broadcast(
    decoded: DecodedBroadcast, plan: PrunePlan, round_: int, store: ClientStore
) -> None:
    """Store a broadcast as a base for the changes of later rounds."""
    grid = decoded.grid
    if grid is not None:
        store.save_broadcast(round_, grid.name, lambda: codec.encode_stored(plan, grid))


def _load(base: BaseName, structure: Structure, store: ClientStore) -> _StoredBroadcast:
    """Return a stored broadcast.

    Raises:
        IntegrityError: If it is missing or damaged.
    """

    def shapes(plan: PrunePlan) -> ModelSpec:
        check_plan(structure, plan)
        return structure.spec(plan.keep)

    def read(data: bytes) -> _StoredBroadcast:
        plan, grid = codec.decode_stored(data, shapes)
        if grid.name != base.name:
            raise PayloadError(Reason.BAD_DIGEST, "base", f"want {base.name.hex()}")
        return _StoredBroadcast(grid=grid, keep=plan.keep)

    stored = store.load_broadcast(base.round, base.name, read)
    if stored is None:
        which = f"the broadcast of round {base.round} ({base.name.hex()})"
        msg = f"{which} is not stored here, or damaged: send everything"
        raise IntegrityError(msg)
    return stored
