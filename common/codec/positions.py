"""Rising positions as bytes: a bitmap, or the gaps between them as varints."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.codec.sections import squeeze, unsqueeze
from common.errors import PayloadError, Reason
from common.messages import Indices

BITMAP = 0
GAPS = 1

_FIELD = "delta.positions"
_BITS = 7  # of a varint byte that belong to the number
_LOW = 0x7F
_MORE = 0x80  # set on every byte of a varint but its last


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """Rising positions as they travel.

    Attributes:
        form: ``BITMAP`` (bit i of byte i // 8, highest bit first) or ``GAPS`` (the
            distance to the position before, less one, as little-endian varint).
        length: Bytes before deflate.
        deflated: Whether ``data`` is a deflate stream.
        data: The bytes.
    """

    form: int
    length: int
    deflated: bool
    data: bytes


def encode_positions(indices: Indices, size: int) -> Positions:
    """Return the form that is shorter after deflate; of equals the bitmap.

    Args:
        indices: int64[k], strictly rising, 0 <= index < size.
        size: Length of the vector that they point into.
    """
    mask = np.zeros(size, dtype=bool)
    mask[indices] = True
    bitmap = _squeezed(BITMAP, np.packbits(mask).tobytes())
    gaps = _squeezed(GAPS, _to_varints(np.diff(indices, prepend=-1) - 1))
    return gaps if len(gaps.data) < len(bitmap.data) else bitmap


def decode_positions(found: Positions, size: int, count: int) -> Indices:
    """Return the positions, int64[count], strictly rising and below ``size``.

    Raises:
        PayloadError: If the bytes hold other than ``count`` such positions.
    """
    width = _varint_width(size)
    low, high = count, count * width
    if found.form == BITMAP:
        low = high = (size + 7) // 8
    if not low <= found.length <= high:
        detail = f"{found.length} bytes for {count} of {size}; want {low}..{high}"
        raise PayloadError(Reason.BAD_SIZE, _FIELD, detail)
    raw = unsqueeze(found.data, _FIELD, found.length, deflated=found.deflated)
    if found.form == BITMAP:
        return _from_bitmap(raw, size, count)
    return _from_gaps(raw, size, count)


def _squeezed(form: int, raw: bytes) -> Positions:
    deflated, data = squeeze(raw)
    return Positions(form=form, length=len(raw), deflated=deflated, data=data)


def _from_bitmap(raw: bytes, size: int, count: int) -> Indices:
    indices = np.flatnonzero(np.unpackbits(np.frombuffer(raw, dtype=np.uint8)))
    if len(indices) != count:
        detail = f"{len(indices)} bits are set; want {count}, one for each value"
        raise PayloadError(Reason.BAD_SIZE, _FIELD, detail)
    if count and indices[-1] >= size:
        detail = f"bit {indices[-1]} is set; want only 0..{size - 1}"
        raise PayloadError(Reason.BAD_VALUE, _FIELD, detail)
    return indices


def _from_gaps(raw: bytes, size: int, count: int) -> Indices:
    gaps = _from_varints(np.frombuffer(raw, dtype=np.uint8), _varint_width(size))
    if len(gaps) != count:
        detail = f"{len(gaps)} gaps; want {count}, one for each value"
        raise PayloadError(Reason.BAD_SIZE, _FIELD, detail)
    # Each gap first, so that the sum of up to ``size`` of them fits into int64.
    if count and int(gaps.max()) >= size:
        detail = f"a gap of {gaps.max()}; want less than {size}"
        raise PayloadError(Reason.BAD_VALUE, _FIELD, detail)
    indices: Indices = np.cumsum(gaps + 1) - 1
    if count and int(indices[-1]) >= size:
        detail = f"position {indices[-1]}; want less than {size}"
        raise PayloadError(Reason.BAD_VALUE, _FIELD, detail)
    return indices


def _varint_width(size: int) -> int:
    """Return the bytes of the longest varint below ``size``, at least 1."""
    return max(1, -(-max(size - 1, 0).bit_length() // _BITS))


def _to_varints(numbers: Indices) -> bytes:
    """Return numbers >= 0 as varints: seven bits a byte, lowest first."""
    widths = np.ones(len(numbers), dtype=np.int64)
    rest = numbers >> _BITS
    while np.any(rest):
        widths += rest > 0
        rest >>= _BITS
    ends = np.cumsum(widths)
    out = np.zeros(int(ends[-1]) if len(ends) else 0, dtype=np.uint8)
    for place in range(int(widths.max(initial=0))):
        chosen = np.flatnonzero(widths > place)
        part = (numbers[chosen] >> (_BITS * place)) & _LOW
        part[widths[chosen] > place + 1] |= _MORE
        out[ends[chosen] - widths[chosen] + place] = part
    return out.tobytes()


def _from_varints(data: NDArray[np.uint8], width: int) -> Indices:
    """Return the numbers, int64[k]; refuse what ``_to_varints`` would not write."""
    ends = np.flatnonzero(data < _MORE) + 1
    if len(data) and (not len(ends) or ends[-1] != len(data)):
        raise PayloadError(Reason.BAD_SIZE, _FIELD, "the last gap is cut off")
    widths = np.diff(ends, prepend=0)
    if widths.max(initial=0) > width:
        detail = f"a gap of {widths.max()} bytes; want at most {width}"
        raise PayloadError(Reason.BAD_SIZE, _FIELD, detail)
    if np.any(data[ends[widths > 1] - 1] == 0):
        detail = "a gap has a zero byte at its end; want the shortest form"
        raise PayloadError(Reason.BAD_VALUE, _FIELD, detail)
    numbers = np.zeros(len(ends), dtype=np.int64)
    for place in range(int(widths.max(initial=0))):
        chosen = np.flatnonzero(widths > place)
        part = data[ends[chosen] - widths[chosen] + place] & _LOW
        numbers[chosen] |= part.astype(np.int64) << (_BITS * place)
    return numbers
