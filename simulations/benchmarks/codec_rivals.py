"""What others would send for the same integers, in bytes, lossless.

Every rival pays for positions and levels; scales cost it one byte for each row that
has one, as much as before our entropy coder.  None knows the broadcast weights.
"""

import zlib

import numpy as np
import zstandard

from common.messages import QuantisedDelta

_ZSTD_LEVEL = 3
_INDEX, _VALUE = 4, 1  # bytes of an entry of a coordinate list


def rivals(delta: QuantisedDelta) -> dict[str, float]:
    """Return the bytes of each rival by name."""
    scales = int(np.count_nonzero(delta.scales))
    levels = delta.values.astype(np.int8).tobytes()
    bitmap = _bitmap(delta)
    zstd = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
    deflated = min(len(_deflate(bitmap)), len(_deflate(_gap_bytes(delta))))
    return {
        "zstd": len(zstd.compress(bitmap + levels)) + scales,
        "Golomb": _golomb(delta) + len(levels) + scales,
        "raw list": (_INDEX + _VALUE) * len(levels) + scales,
        "deflate": deflated + min(len(_deflate(levels)), len(levels)) + scales,
    }


def _bitmap(delta: QuantisedDelta) -> bytes:
    mask = np.zeros(delta.size, dtype=bool)
    mask[delta.indices] = True
    return np.packbits(mask).tobytes()


def _gaps(delta: QuantisedDelta) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.diff(delta.indices, prepend=-1) - 1


def _gap_bytes(delta: QuantisedDelta) -> bytes:
    """Return gaps in planes of bytes: all the low ones, then the next."""
    gaps = _gaps(delta).astype("<u4")
    planes = gaps.view(np.uint8).reshape(len(gaps), _INDEX).T
    return b"".join(p.tobytes() for p in planes if np.any(p))


def _deflate(data: bytes) -> bytes:
    return zlib.compress(data, 6)


def _golomb(delta: QuantisedDelta) -> float:
    """Return the bytes of Golomb-Rice gaps under their best parameter."""
    gaps = _gaps(delta)
    bits = min(int((gaps >> k).sum()) + (k + 1) * len(gaps) for k in range(24))
    return bits / 8
