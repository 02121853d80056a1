"""Runs of equal-typed values inside a message: planes of bytes, deflated if shorter."""

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import PayloadError, Reason

_RAW_DEFLATE = -15  # no zlib header and no Adler sum: the frame has a digest
_LEVEL = 6
_MEMORY = 9
# On quantised deltas, weights and gaps a search for repeats finds next to none and
# takes 4-10 times as long; runs of zeros and skewed bytes are all there is to win.
_NUMBERS = (zlib.Z_RLE, zlib.Z_HUFFMAN_ONLY)
_TEXT = (zlib.Z_DEFAULT_STRATEGY,)
_SMALL = 1 << 18  # bytes; above, the codes of a piece of its own always pay


def squeeze(*pieces: bytes, text: bool = False) -> tuple[bool, bytes]:
    """Return whether deflate made the joined pieces shorter, and the shorter bytes.

    Args:
        pieces: Any bytes; where their statistics differ, a piece of its own gets
            Huffman codes of its own if that pays.
        text: Whether words repeat in them, as in JSON.
    """
    raw = b"".join(pieces)
    splits = [list(pieces)]
    if len(pieces) > 1 and len(raw) < _SMALL:
        splits.append([raw])
    best, deflated = raw, False
    for split in splits:
        for strategy in _TEXT if text else _NUMBERS:
            short = _deflate(split, strategy)
            if len(short) < len(best):
                best, deflated = short, True
    return deflated, best


def unsqueeze(data: bytes, field: str, expected: int, *, deflated: bool) -> bytes:
    """Return the ``expected`` bytes of a section; a bomb stops one byte later.

    Raises:
        PayloadError: If the section holds another number of bytes, is not a deflate
            stream, or goes on behind its end.
    """
    if deflated and len(data) >= expected:
        detail = f"{len(data)} deflated bytes for {expected}; want fewer"
        raise PayloadError(Reason.BAD_SIZE, field, detail)
    if deflated:
        data = _inflate(data, field, expected)
    if len(data) != expected:
        detail = f"{len(data)} bytes; want {expected}"
        raise PayloadError(Reason.BAD_SIZE, field, detail)
    return data


def _deflate(pieces: list[bytes], strategy: int) -> bytes:
    squeezer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW_DEFLATE, _MEMORY, strategy)
    out: list[bytes] = []
    for piece in pieces:
        out += [squeezer.flush(zlib.Z_BLOCK)] if out else []
        out.append(squeezer.compress(piece))
    return b"".join([*out, squeezer.flush()])


def _inflate(data: bytes, field: str, expected: int) -> bytes:
    stream = zlib.decompressobj(_RAW_DEFLATE)
    try:
        raw = stream.decompress(data, expected + 1)
    except zlib.error as error:
        detail = "not a deflate stream"
        raise PayloadError(Reason.BAD_FRAME, field, detail) from error
    if len(raw) > expected:
        detail = f"inflates to more than the wanted {expected} bytes"
        raise PayloadError(Reason.BAD_SIZE, field, detail)
    if not stream.eof:
        raise PayloadError(Reason.BAD_FRAME, field, "its deflate stream is cut off")
    if stream.unused_data:
        detail = f"{len(stream.unused_data)} bytes after its deflate stream"
        raise PayloadError(Reason.BAD_SIZE, field, detail)
    return raw


def to_planes(values: NDArray[Any]) -> list[bytes]:
    """Return little-endian numbers as planes: all first bytes, all second bytes, ...

    Sign and exponent bytes are alike among themselves, so planes deflate better.
    """
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    planes = little.view(np.uint8).reshape(len(values), little.itemsize).T
    return [plane.tobytes() for plane in planes]


def from_planes(data: bytes, dtype: str) -> NDArray[Any]:
    """Return the numbers whose joined planes these are; ``dtype`` as in "<f4"."""
    width = np.dtype(dtype).itemsize
    planes = np.frombuffer(data, dtype=np.uint8).reshape(width, -1)
    return np.ascontiguousarray(planes.T).view(dtype).reshape(-1)
