"""An answer that arrived after its round had closed."""

from dataclasses import dataclass

from fedprune.common.messages import RoundPlan, SparseDelta
from fedprune.server.rounds.records import ClientRecord


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LateUpdate:
    """The delta of an answer that was accepted, and that its round did not wait for.

    Attributes:
        client_id: Id of the client.
        round: The round that asked it.
        network: The network that it trained (``network_of``).
        delta: Its delta, before clipping.
        num_examples: Its weight in the mean, in examples, >= 1.
        norm: L2 norm of the delta.
        bytes_up: Length of the answer, bytes.
        bytes_fixed: As of a ``ClientRecord``.
        residual_lost: As of a ``ClientRecord``.
        away_s: Seconds from the end of the last waiting until it arrives, >= 0.
    """

    client_id: str
    round: int
    network: bytes
    delta: SparseDelta
    num_examples: int
    norm: float
    bytes_up: int
    bytes_fixed: int = 0
    residual_lost: bool = False
    away_s: float = 0.0


def network_of(plan: RoundPlan) -> bytes:
    """Return what names the network of a round, whose changes can be added up.

    The prune plan, the round that drew fresh weights or took a cut back last, and the
    weight mask.
    """
    since = plan.settings.since.to_bytes(8, "big")
    return plan.broadcast.plan.digest + since + plan.mask


def late_update(
    record: ClientRecord,
    delta: SparseDelta,
    round_: int,
    network: bytes,
    *,
    away_s: float = 0.0,
) -> LateUpdate:
    """Return a late answer.

    Args:
        record: The outcome of the client, as if the round had waited for it.
        delta: Its delta, before clipping.
        round_: The round that asked.
        network: The network of that round (``network_of``).
        away_s: Seconds from the end of the waiting until it arrives, >= 0.
    """
    return LateUpdate(
        client_id=record.client_id,
        round=round_,
        network=network,
        delta=delta,
        num_examples=record.num_examples,
        norm=record.norm,
        bytes_up=record.bytes_up,
        bytes_fixed=record.bytes_fixed,
        residual_lost=record.residual_lost,
        away_s=away_s,
    )
