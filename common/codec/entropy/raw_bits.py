"""Raw bits, which no model can shorten: in the first states, then as bytes."""

import numpy as np
from numpy.typing import NDArray

from fedprune.common.codec.entropy.rans import Words
from fedprune.common.errors import PayloadError, Reason

_FIELD = "delta.raw"
_WORD = np.dtype("<u2")

Bits = NDArray[np.uint8]  # one bit each


def pack_fields(values: NDArray[np.integer], widths: NDArray[np.uint8]) -> Bits:
    """Return fields as bits, highest first: all of 1 bit, then all of 2 bits, ..."""
    parts = [np.zeros(0, dtype=np.uint8)]
    for width in range(1, int(widths.max(initial=0)) + 1):
        chosen = values[widths == width].astype(np.uint8)
        bits = np.empty((len(chosen), width), dtype=np.uint8)
        for place in range(width):
            bits[:, place] = chosen >> np.uint8(width - 1 - place) & np.uint8(1)
        parts.append(bits.reshape(-1))
    return np.concatenate(parts)


def unpack_fields(bits: Bits, widths: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the fields that ``pack_fields`` packed, uint8[n]."""
    values = np.zeros(len(widths), dtype=np.uint8)
    start = 0
    for width in range(1, int(widths.max(initial=0)) + 1):
        chosen = widths == width
        count = int(np.count_nonzero(chosen))
        part = bits[start : start + width * count].reshape(count, width)
        start += width * count
        found = np.zeros(count, dtype=np.uint8)
        for place in range(width):
            found += part[:, place] << np.uint8(width - 1 - place)
        values[chosen] = found
    return values


def split_raw(data: bytes, lanes: int) -> tuple[Words, bytes]:
    """Return the bits that the lanes begin with, and the bytes that are left over."""
    first = data[: _WORD.itemsize * lanes]
    words = np.frombuffer(first.ljust(_WORD.itemsize * lanes, b"\0"), dtype=_WORD)
    return words.astype(np.uint16), data[_WORD.itemsize * lanes :]


def join_raw(first: Words, rest: bytes | memoryview, size: int) -> bytes:
    """Return the ``size`` bytes that ``split_raw`` split.

    Raises:
        PayloadError: If there are more or fewer, or unused ones are not 0.
    """
    head = first.astype(_WORD).tobytes()
    wanted = max(size - len(head), 0)
    if len(rest) != wanted:
        detail = f"{len(rest)} bytes; want {wanted}"
        raise PayloadError(Reason.BAD_SIZE, _FIELD, detail)
    if any(head[size:]):
        detail = "a lane begins with unused bits other than 0"
        raise PayloadError(Reason.BAD_VALUE, _FIELD, detail)
    return head[:size] + rest


def to_bytes(bits: Bits) -> bytes:
    """Return bits as bytes, padded with 0."""
    return np.packbits(bits).tobytes()


def to_bits(data: bytes, count: int) -> Bits:
    """Return ``count`` bits; refuse padding that is not 0."""
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8))
    if np.any(bits[count:]):
        raise PayloadError(Reason.BAD_VALUE, _FIELD, "padding that is not 0")
    return bits[:count]
