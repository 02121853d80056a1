"""The fields of an encoded delta, types checked, contents not."""

from dataclasses import dataclass

import numpy as np

from fedprune.common.codec import checks
from fedprune.common.codec.delta.options import CodingFlags, Header
from fedprune.common.codec.delta.quantise import VALUE_FORMATS
from fedprune.common.codec.frame import Bin, Bytes, packed, unpack
from fedprune.common.errors import PayloadError, Reason

_COUNT = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """The fields of an encoded delta.

    Attributes:
        header: Contexts, value format, count and shrink.
        mask: Digest of the agreed mask, empty without.
        stream: States, then words, little-endian.
        raw: Raw bits that did not fit into the states; or floats.
    """

    header: Header
    mask: bytes
    stream: bytes
    raw: Bytes

    @property
    def entries(self) -> int:
        """Bytes that grow with the number of entries."""
        return len(self.stream) + len(self.raw)


def write_fields(fields: Fields) -> bytes:
    """Return the fields as one msgpack array."""
    return b"".join(bin_of(fields).parts)


def bin_of(fields: Fields) -> Bin:
    """Return what ``write_fields`` does as an item of a message."""
    header = fields.header
    bits = np.float32(header.shrink).astype("<f4").tobytes() if header.shrink else b""
    return packed(
        [
            header.flags.pack(),
            VALUE_FORMATS[header.values].code,
            header.count,
            bits,
            fields.mask,
            fields.stream,
            fields.raw,
        ]
    )


def read_fields(data: bytes) -> Fields:
    """Return the fields of an encoded delta.

    Raises:
        PayloadError: If the bytes are not a valid delta.
    """
    items = checks.array(unpack(data, "delta"), "delta", _COUNT)
    code = checks.integer(items[1], "delta.values", 1, len(VALUE_FORMATS))
    header = Header(
        flags=CodingFlags.unpack(items[0]),
        values=next(name for name, kind in VALUE_FORMATS.items() if kind.code == code),
        count=checks.integer(items[2], "delta.count", 0, checks.MAX_COUNT),
        shrink=_shrink(items[3]),
    )
    found = Fields(
        header=header,
        mask=checks.digest(items[4], "delta.mask", optional=True),
        stream=checks.blob(items[5], "delta.stream"),
        raw=checks.blob(items[6], "delta.raw"),
    )
    _check_header(found)
    return found


def _shrink(value: object) -> np.float32:
    """Return the shrink: no bytes for 0, else a finite float32 other than 0."""
    data = checks.blob(value, "delta.shrink")
    if not data:
        return np.float32(0)
    found = checks.floats(data, "delta.shrink", "<f4", 1)[0]
    if found == 0:
        raise PayloadError(Reason.BAD_VALUE, "delta.shrink", "0; want no bytes")
    return np.float32(found)


def _check_header(fields: Fields) -> None:
    """Refuse a header whose fields contradict each other."""
    header, flags = fields.header, fields.header.flags
    if bool(fields.mask) != flags.known_positions:
        found = "present" if fields.mask else "missing"
        detail = f"{found}; the flags say otherwise"
        raise PayloadError(Reason.MISMATCH, "delta.mask", detail)
    if header.shrink and not (flags.base and VALUE_FORMATS[header.values].top):
        detail = f"{header.shrink} without weights or levels that it shifts"
        raise PayloadError(Reason.BAD_VALUE, "delta.shrink", detail)
