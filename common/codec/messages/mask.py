"""A weight mask in a message, or in a client store.

A plan under a mask ends with two more items: its digest, and the mask or nil where the
client has stored it: ``[plan digest, parent digest | empty, weights int, section
bitmap]`` (``entropy/byte_runs.py``).
"""

from collections.abc import Sequence

import numpy as np

from fedprune.common.codec import checks
from fedprune.common.codec.entropy.byte_runs import decode_section, encode_section
from fedprune.common.codec.frame import Kind, seal, unseal
from fedprune.common.errors import PayloadError, Reason
from fedprune.common.messages import RoundPlan
from fedprune.common.spec import Mask, WeightMask

ITEMS = 2  # of a plan under a mask
DEFAULT_MAX_WEIGHTS = 1 << 26  # where the receiver does not give its own number
_MASK = 5


def mask_items(plan: RoundPlan) -> list[object]:
    """Return the items that a plan under a mask ends with; none without a mask."""
    if not plan.mask:
        return []
    mask = plan.weight_mask
    return [plan.mask, None if mask is None else _fields(mask)]


def read_mask_items(
    items: Sequence[object], max_weights: int
) -> tuple[bytes, WeightMask | None]:
    """Return the digest and the mask of such items, checked against each other.

    Raises:
        PayloadError: If they are not a valid mask, it announces more than
            ``max_weights`` weights, or it has another digest.
    """
    if not items:
        return b"", None
    digest = checks.digest(items[0], "mask")
    if items[1] is None:
        return digest, None
    mask = _read(items[1], max_weights)
    if mask.digest != digest:
        detail = f"{mask.digest.hex()}; want {digest.hex()}"
        raise PayloadError(Reason.BAD_DIGEST, "weight_mask", detail)
    return digest, mask


def encode_mask(mask: WeightMask) -> bytes:
    """Return a mask as one message, for the client store."""
    return seal(Kind.MASK, _fields(mask))


def decode_mask(
    data: bytes,
    max_bytes: int = checks.MAX_STORED,
    *,
    max_weights: int = DEFAULT_MAX_WEIGHTS,
) -> WeightMask:
    """Return a stored mask; trust nothing in ``data``.

    Args:
        data: The message.
        max_bytes: Largest message accepted.
        max_weights: Most weights that it may cover, >= 1.

    Raises:
        PayloadError: If the bytes are not a mask of this version, or it announces
            more weights.
    """
    return _read(unseal(data, Kind.MASK, max_bytes), max_weights)


def _fields(mask: WeightMask) -> list[object]:
    bits = np.packbits(mask.keep).tobytes()
    return [mask.plan, mask.parent, len(mask.keep), *encode_section(bits)]


def _read(value: object, max_weights: int) -> WeightMask:
    field = "weight_mask"
    items = checks.array(value, field, _MASK)
    # A few bytes can announce billions: refused before any is allocated.
    count = checks.integer(items[2], f"{field}.weights", 1, max_weights)
    bits = decode_section(
        checks.blob(items[4], f"{field}.keep"),
        f"{field}.keep",
        -(-count // 8),
        coded=checks.boolean(items[3], f"{field}.coded"),
    )
    return WeightMask(
        plan=checks.digest(items[0], f"{field}.plan"),
        parent=checks.digest(items[1], f"{field}.parent", optional=True),
        keep=_unpacked(bits, count),
    )


def _unpacked(bits: bytes, count: int) -> Mask:
    found = np.unpackbits(np.frombuffer(bits, np.uint8)).astype(np.bool_)
    if found[count:].any():
        raise PayloadError(Reason.BAD_VALUE, "weight_mask.keep", "padding bits are set")
    return found[:count]
