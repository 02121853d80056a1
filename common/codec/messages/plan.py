"""The message down: the round plan that the server sends to a client.

All clients of a round share everything but two fields, so the shared part is encoded
once (``encode_shared``) and addressed to each client (``address_plan``).
"""

from collections.abc import Callable
from dataclasses import replace

from fedprune.common.codec import checks
from fedprune.common.codec.fields import (
    MOMENTS,
    broadcast_fields,
    mask_fields,
    read_broadcast,
    read_mask,
    read_settings,
    read_statistics,
    settings_fields,
    statistics_fields,
)
from fedprune.common.codec.frame import Kind, seal, unseal
from fedprune.common.codec.messages.mask import (
    DEFAULT_MAX_WEIGHTS,
    ITEMS,
    mask_items,
    read_mask_items,
)
from fedprune.common.codec.messages.text import compress_text, read_text
from fedprune.common.errors import ConfigError, PayloadError, Reason
from fedprune.common.messages import Broadcast, Phase, RoundPlan, Statistics

_PLAN = 3
_SHARED = 14
_PHASES = tuple(phase.value for phase in Phase)
_UNADDRESSED = "unaddressed"


def encode_plan(plan: RoundPlan) -> bytes:
    """Return a round plan as one message."""
    return address_plan(encode_shared(plan), plan.client_id, plan.acknowledged)


def encode_shared(plan: RoundPlan) -> bytes:
    """Return the part that all clients of a round share: all but id and acknowledged.

    Raises:
        ConfigError: If a setting, name or size is one that clients would refuse.
    """
    teacher = plan.teacher_broadcast
    shared = seal(
        Kind.SHARED,
        [
            plan.run_id,
            int(plan.round),
            str(plan.phase),
            settings_fields(plan.settings),
            plan.structure,
            len(plan.structure_json),
            *compress_text(plan.structure_json),
            broadcast_fields(plan.broadcast),
            plan.teacher,
            None if teacher is None else broadcast_fields(teacher),
            statistics_fields(plan.teacher_statistics, MOMENTS),
            bool(plan.keep_broadcast),
            mask_fields(plan.targets),
            *mask_items(plan),
        ],
    )
    try:
        mask = plan.weight_mask
        read_shared(shared, 0 if mask is None else len(mask.keep))
    except PayloadError as error:
        msg = f"the plan of round {plan.round} would be refused: {error}"
        raise ConfigError(msg) from error
    return shared


def address_plan(shared: bytes, client_id: str, acknowledged: int) -> bytes:
    """Return the message for one client: costs copies of the shared part.

    Raises:
        ConfigError: If the client's name is one that it would refuse.
    """
    try:
        checks.name(client_id, "client_id")
    except PayloadError as error:
        raise ConfigError(str(error)) from error
    return seal(Kind.PLAN, [client_id, int(acknowledged), shared])


def decode_plan(
    data: bytes,
    max_bytes: int,
    *,
    max_weights: int = DEFAULT_MAX_WEIGHTS,
    read: Callable[[bytes, int], RoundPlan] | None = None,
) -> RoundPlan:
    """Return the plan in ``data``; trust nothing in it.

    The weights inside are still encoded: they can only be read with the shapes that
    follow from structure and prune plan (``decode_weights``, then ``check_weights``).

    Args:
        data: The message.
        max_bytes: Largest message accepted.
        max_weights: Weights of the receiver's own network, uncut: a weight mask
            that announces more is refused before it is unpacked.
        read: ``read_shared``, or what recalls its results: a process that plays many
            clients gets the same shared part again and again.

    Raises:
        PayloadError: If the bytes are not a plan of this version.
    """
    fields = checks.array(unseal(data, Kind.PLAN, max_bytes), "plan", _PLAN)
    client_id = checks.name(fields[0], "client_id")
    shared = checks.blob(fields[2], "shared")
    plan = (read or read_shared)(shared, max_weights)
    acknowledged = checks.integer(fields[1], "acknowledged", 0, plan.round - 1)
    return replace(plan, client_id=client_id, acknowledged=acknowledged)


def encode_broadcast(broadcast: Broadcast) -> bytes:
    """Return a broadcast as one message, for the client store."""
    return seal(Kind.BROADCAST, broadcast_fields(broadcast))


def decode_broadcast(data: bytes, max_bytes: int = checks.MAX_STORED) -> Broadcast:
    """Return a stored broadcast; trust nothing in ``data``.

    Raises:
        PayloadError: If the bytes are not a broadcast of this version.
    """
    return read_broadcast(unseal(data, Kind.BROADCAST, max_bytes), "broadcast")


def read_shared(shared: bytes, max_weights: int) -> RoundPlan:
    """Return the shared part as a plan without an address; trust nothing in it.

    Args:
        shared: The message of kind ``SHARED``.
        max_weights: As for ``decode_plan``.

    Raises:
        PayloadError: If the bytes are not a shared part of this version.
    """
    found = unseal(shared, Kind.SHARED, len(shared))
    extra = ITEMS if len(found) > _SHARED else 0
    items = checks.array(found, "shared", _SHARED + extra)
    teacher = checks.digest(items[9], "teacher", optional=True)
    mask, weight_mask = read_mask_items(items[_SHARED:], max_weights)
    return RoundPlan(
        run_id=checks.name(items[0], "run_id"),
        round=checks.integer(items[1], "round", 1, checks.MAX_ROUND),
        phase=Phase(checks.word(items[2], "phase", _PHASES)),
        client_id=_UNADDRESSED,
        acknowledged=0,
        settings=read_settings(items[3]),
        structure=checks.digest(items[4], "structure"),
        structure_json=read_text("structure_json", *items[5:8]),
        broadcast=read_broadcast(items[8], "broadcast"),
        teacher=teacher,
        teacher_broadcast=_read_teacher(items[10], teacher),
        teacher_statistics=_read_moments(items[11]),
        keep_broadcast=checks.boolean(items[12], "keep_broadcast"),
        targets=read_mask(items[13], "targets"),
        mask=mask,
        weight_mask=weight_mask,
    )


def _read_moments(value: object) -> Statistics | None:
    if value is None:
        return None
    return read_statistics(value, MOMENTS, checks.MAX_COUNT)


def _read_teacher(value: object, teacher: bytes) -> Broadcast | None:
    if value is None:
        return None
    broadcast = read_broadcast(value, "teacher_broadcast")
    if broadcast.digest != teacher:
        detail = f"weights {broadcast.digest.hex()}; want {teacher.hex() or 'none'}"
        raise PayloadError(Reason.MISMATCH, "teacher_broadcast.digest", detail)
    return broadcast
