"""The broadcast of a round: the network on its quantisation grid, whole or as a change.

Server and clients work with the decoded broadcast; the rounding of the grid stays in
the server's exact weights.  The server keeps the last broadcasts, so that a client that
has stored one of them is sent the change since that base, if it is shorter.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from fedprune.common import codec
from fedprune.common.config import Config
from fedprune.common.messages import Broadcast, GridWeights, Statistics
from fedprune.common.pruning.remap import remap_grid
from fedprune.common.spec import ModelSpec, PrunePlan, Vector, weights_digest
from fedprune.common.structure.structure import Structure
from fedprune.server.rounds.cycle import is_coded
from fedprune.server.rounds.ledger import ClientLedger
from fedprune.server.rounds.state import SentBroadcast, ServerState

REMEMBERED = 8  # broadcasts that can be the base of a change


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedBroadcast:
    """A network as it is sent.

    Attributes:
        broadcast: The broadcast, encoded without a base.
        weights: Its decoded weights, float32[n].
        grid: Its levels and steps; None for float weights.
    """

    broadcast: Broadcast
    weights: Vector
    grid: GridWeights | None


def encode_state(
    state: ServerState, structure: Structure, spec: ModelSpec, config: Config
) -> EncodedBroadcast:
    """Return the encoded broadcast of a state."""
    values = config.broadcast.values
    if is_coded(state.cursor, config.rounds, config.quantise):
        broadcast, weights = _on_codebook(state, spec, config.quantise.bits)
        return EncodedBroadcast(broadcast=broadcast, weights=weights, grid=None)
    if values != "grid":
        broadcast, weights = encode_network(
            state.plan, state.weights, state.statistics, spec, values
        )
        return EncodedBroadcast(broadcast=broadcast, weights=weights, grid=None)
    grid, weights = put_on_grid(state, structure, spec)
    broadcast = Broadcast(
        plan=state.plan,
        weights=codec.encode_full(grid, spec),
        digest=weights_digest(weights),
        statistics=state.statistics,
    )
    return EncodedBroadcast(broadcast=broadcast, weights=weights, grid=grid)


def _on_codebook(
    state: ServerState, spec: ModelSpec, bits: int
) -> tuple[Broadcast, Vector]:
    """Return a state's network on a codebook, encoded, and its decoded weights.

    Weights that lie on one stay as they are.
    """
    codec.check_finite(state.weights, spec)
    blob = codec.encode_codebook(state.weights, spec, bits)
    weights = codec.decode_weights(blob, spec)
    digest = weights_digest(weights)
    broadcast = Broadcast(
        plan=state.plan, weights=blob, digest=digest, statistics=state.statistics
    )
    return broadcast, weights


def decoded_state(
    state: ServerState, structure: Structure, spec: ModelSpec, config: Config
) -> Vector:
    """Return the weights that clients decode from a state's broadcast, float32[n]."""
    if is_coded(state.cursor, config.rounds, config.quantise):
        return _on_codebook(state, spec, config.quantise.bits)[1]
    if config.broadcast.values == "grid":
        return put_on_grid(state, structure, spec)[1]
    data = codec.encode_weights(state.weights, spec, config.broadcast.values)
    return codec.decode_weights(data, spec)


def put_on_grid(
    state: ServerState, structure: Structure, spec: ModelSpec
) -> tuple[GridWeights, Vector]:
    """Return a state's weights on the quantisation grid, and decoded, float32[n].

    The levels stay near those of the last broadcast, so that changes are short.  The
    final rounds have a fine grid: the network is small by then, and learns in small
    steps.  The final network is on a fresh one, whose levels fit into eight bits.
    """
    codec.check_finite(state.weights, spec)
    before = None
    if state.sent and not state.cursor.closing:
        before = as_sent(state.sent[-1], structure)
        before = remap_grid(before, structure, state.sent[-1].keep, state.keep)
    fine = state.cursor.final and not state.cursor.closing
    grid = codec.on_grid(state.weights, spec, before, fine=fine)
    return grid, codec.grid_values(grid, spec)


def encode_network(
    plan: PrunePlan,
    weights: Vector,
    statistics: Statistics | None,
    spec: ModelSpec,
    values: str,
) -> tuple[Broadcast, Vector]:
    """Encode a network; return its broadcast and the decoded weights, float32[n]."""
    blob = codec.encode_weights(weights, spec, values)
    decoded = codec.decode_weights(blob, spec)
    broadcast = Broadcast(
        plan=plan, weights=blob, digest=weights_digest(decoded), statistics=statistics
    )
    return broadcast, decoded


def base_for(
    ledger: ClientLedger, sent: Iterable[SentBroadcast]
) -> SentBroadcast | None:
    """Return the newest kept broadcast that a client has stored, or None."""
    found = [one for one in sent if one.round == ledger.held]
    return found[-1] if found else None


def encode_against(
    base: SentBroadcast | None,
    encoded: EncodedBroadcast,
    structure: Structure,
    spec: ModelSpec,
) -> Broadcast:
    """Return the shortest broadcast that a client with ``base`` stored can decode."""
    if base is None or encoded.grid is None:
        return encoded.broadcast
    before = as_sent(base, structure)
    name = codec.BaseName(round=base.round, name=before.name)
    keep = encoded.broadcast.plan.keep
    cut = remap_grid(before, structure, base.keep, keep)
    change = codec.encode_change(encoded.grid, spec, name, cut)
    if len(change) >= len(encoded.broadcast.weights):
        return encoded.broadcast
    return replace(encoded.broadcast, weights=change)


def remember(
    sent: tuple[SentBroadcast, ...], round_: int, encoded: EncodedBroadcast
) -> tuple[SentBroadcast, ...]:
    """Return the kept broadcasts after a round, at most 8, the newest last."""
    if encoded.grid is None:
        return ()
    keep, full = encoded.broadcast.plan.keep, encoded.broadcast.weights
    new = SentBroadcast(round=round_, keep=keep, full=full, grid=encoded.grid)
    return (*sent, new)[-REMEMBERED:]


def as_sent(sent: SentBroadcast, structure: Structure) -> GridWeights:
    """Return levels and steps of an earlier broadcast, in the shapes that it had."""
    if sent.grid is not None:
        return sent.grid
    return _read(sent.full, structure.spec(sent.keep))


@lru_cache(maxsize=2 * REMEMBERED)
def _read(full: bytes, spec: ModelSpec) -> GridWeights:
    return codec.decode_full(full, spec)
