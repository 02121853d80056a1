"""Broadcasts that a client holds: what changes are told from.

A message may hold only what changed since an earlier broadcast.  Each one that was read
is kept, as plain integers, by round and by the digest of these: a file that is
lost, damaged or of another run can never lead to another network, only to the request
to be sent everything.
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
    """A broadcast that has been read.

    Attributes:
        came: Its weights as they came.
        spec: Their shapes.
        weights: What they decode to, float32[n].
        grid: The integers behind them, or None where there are none.
    """

    came: bytes
    spec: ModelSpec
    weights: Vector
    grid: GridWeights | None = None

    @cached_property
    def side_info(self) -> SideInformation:
        """What server and client hold of it, without a mask."""
        return SideInformation.of(self.spec, self.weights)

    @cached_property
    def full(self) -> bytes:
        """The weights in an encoding that stands alone."""
        if self.grid is None or codec.base_name(self.came, self.spec) is None:
            return self.came
        return codec.encode_full(self.grid, self.spec)


@dataclass(frozen=True, slots=True, kw_only=True)
class _StoredBroadcast:
    """An earlier broadcast.

    Attributes:
        grid: Its integers.
        keep: Keep mask of its prune plan.
    """

    grid: GridWeights
    keep: Mask


def receive_broadcast(
    broadcast: Broadcast, structure: Structure, store: ClientStore
) -> DecodedBroadcast:
    """Read a broadcast, whole or as what changed.

    Args:
        broadcast: What came; its plan has been checked.
        structure: The original network.
        store: Where earlier broadcasts lie.

    Raises:
        PayloadError: If it is none of this network, or decodes to other weights than
            were promised.
        IntegrityError: If the broadcast that it starts from is not held here.
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
        held = _load(base, structure, store)
        cut = remap_grid(held.grid, structure, held.keep, broadcast.plan.keep)
        grid = codec.decode_change(broadcast.weights, spec, held.grid, cut)
    weights = codec.grid_values(grid, spec)
    codec.check_weights(weights, broadcast.digest)
    return DecodedBroadcast(
        came=broadcast.weights, spec=spec, weights=weights, grid=grid
    )


def store_broadcast(
    decoded: DecodedBroadcast, plan: PrunePlan, round_: int, store: ClientStore
) -> None:
    """Keep a broadcast for the changes of later rounds."""
    grid = decoded.grid
    if grid is not None:
        store.save_broadcast(round_, grid.name, lambda: codec.encode_stored(plan, grid))


def _load(base: BaseName, structure: Structure, store: ClientStore) -> _StoredBroadcast:
    """Return a broadcast that is held here.

    Raises:
        IntegrityError: If it is not, or not whole.
    """

    def read(data: bytes) -> _StoredBroadcast:
        plan = codec.stored_plan(data)
        check_plan(structure, plan)
        grid = codec.decode_stored(data, structure.spec(plan.keep))
        if grid.name != base.name:
            raise PayloadError(Reason.BAD_DIGEST, "held", f"want {base.name.hex()}")
        return _StoredBroadcast(grid=grid, keep=plan.keep)

    held = store.load_broadcast(base.round, base.name, read)
    if held is None:
        which = f"the broadcast of round {base.round} ({base.name.hex()})"
        msg = f"{which} is not held here, or not whole: send everything"
        raise IntegrityError(msg)
    return held
