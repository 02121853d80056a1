"""Bytes of the same integers under other lossless codecs.

Every rival encodes positions and levels; scales cost one byte for each row that has
one, as before our entropy coder.  The broadcast weights are side information of none
but NNCodec in its second figure.
"""

import json
import subprocess
import tempfile
import zlib
from pathlib import Path

import numpy as np
import zstandard
from numpy.typing import NDArray

from fedprune.common.errors import FedPruneError
from fedprune.common.messages import QuantisedDelta
from fedprune.common.spec import ModelSpec, Vector

NNCODEC = Path("build/nncodec/bin/python")  # made by ``make rival-nncodec``
_LEVELS = 127

_ZSTD_LEVEL = 3
_INDEX, _VALUE = 4, 1  # bytes of an entry of a coordinate list


def rivals(delta: QuantisedDelta) -> dict[str, float]:
    """Return the name and bytes of each rival."""
    scales = _scale_bytes(delta)
    levels = _level_bytes(delta)
    zstd = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
    return {
        "zstd": len(zstd.compress(_bitmap(delta) + levels)) + scales,
        "Golomb": _golomb(delta) + len(levels) + scales,
        "raw list": (_INDEX + _VALUE) * len(levels) + scales,
        "deflate": first_codec(delta),
    }


def first_codec(delta: QuantisedDelta) -> int:
    """Return the bytes of bitmap or gaps, and levels, deflated where that is shorter.

    It is the codec of updates before the entropy coder; its own header is not counted
    here.
    """
    levels = _level_bytes(delta)
    places = (_bitmap(delta), _gap_bytes(delta))
    shortest = min(len(_deflate(data)) for data in places)
    return shortest + min(len(_deflate(levels)), len(levels)) + _scale_bytes(delta)


def _scale_bytes(delta: QuantisedDelta) -> int:
    return int(np.count_nonzero(delta.scales))


def _level_bytes(delta: QuantisedDelta) -> bytes:
    return delta.values.astype(np.int8).tobytes()


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


def nncodec(delta: QuantisedDelta, spec: ModelSpec, base: Vector) -> dict[str, int]:
    """Return the bytes of NNCodec "alone", and with the "base" as side information.

    The base, float32[spec.size], is passed as int8 levels of each row, the best form
    for its temporal contexts.  Empty where its environment is not present.

    Raises:
        FedPruneError: If it fails, or does not decode to the integers.
    """
    if not NNCODEC.exists():
        return {}
    dense = np.zeros(delta.size, dtype=np.int32)
    dense[delta.indices] = delta.values.astype(np.int32)
    arrays = _named("update", dense, spec) | _named("base", _levels(base, spec), spec)
    script = Path(__file__).with_name("nncodec_script.py")
    with tempfile.TemporaryDirectory(prefix="fedprune-") as folder:
        _write(Path(folder), arrays)
        call = [str(NNCODEC.absolute()), "-I", str(script), folder]
        done = subprocess.run(  # noqa: S603 - our own script
            call, capture_output=True, text=True, check=False, cwd=folder
        )
    if done.returncode != 0:
        msg = f"NNCodec failed: {done.stderr.strip()[-300:]}"
        raise FedPruneError(msg)
    sizes: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return {name: size + _scale_bytes(delta) for name, size in sizes.items()}


def _write(folder: Path, arrays: dict[str, NDArray[np.int32]]) -> None:
    index = json.dumps({name: array.shape for name, array in arrays.items()})
    (folder / "index.json").write_text(index, "utf-8")
    data = b"".join(array.astype("<i4").tobytes() for array in arrays.values())
    (folder / "integers.bin").write_bytes(data)


def _named(
    part: str, flat: NDArray[np.int32], spec: ModelSpec
) -> dict[str, NDArray[np.int32]]:
    ends = np.cumsum([tensor.size for tensor in spec.tensors])[:-1]
    pieces = zip(spec.tensors, np.split(flat, ends), strict=True)
    return {f"{part}/{t.name}": piece.reshape(t.shape) for t, piece in pieces}


def _levels(base: Vector, spec: ModelSpec) -> NDArray[np.int32]:
    """Return int8 levels of each row, as int32."""
    ends = np.cumsum([tensor.size for tensor in spec.tensors])[:-1]
    found = []
    for tensor, piece in zip(spec.tensors, np.split(base, ends), strict=True):
        rows = piece.reshape(tensor.rows, -1)
        largest = np.abs(rows).max(axis=1, keepdims=True)
        steps = np.where(largest > 0, largest / _LEVELS, 1)
        found.append(np.rint(rows / steps).astype(np.int32).ravel())
    return np.concatenate(found)
