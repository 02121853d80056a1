"""``*.safetensors``: the tensors of a network, and its metadata."""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from fedprune.common.artifacts.description_file import read_description
from fedprune.common.errors import IntegrityError
from fedprune.common.parsing import SHOWS_KIND, other_kind, parse_json
from fedprune.common.spec import DIGEST_SIZE, digest_of
from fedprune.common.system.atomic import write_bytes_atomic
from fedprune.common.text import printable

Tensors = dict[str, NDArray[np.generic]]

MODEL_FORMAT = "fedprune-model/1"
MODEL_KEYS = ("plan", "structure", "model", "input_shape", "num_outputs")

_LARGEST = 1 << 24  # outputs, and entries of an example
_DIMS = 8
_NUMBER = re.compile(r"[0-9]{1,8}")
_HEAD = 8  # bytes of the length of the header
_ARRAYS = (".npz", ".npy")
_PICKLE_SUFFIXES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin")
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def encode_tensors(
    tensors: Mapping[str, NDArray[np.generic]], metadata: Mapping[str, str]
) -> bytes:
    """Return safetensors bytes; equal input in any order makes equal bytes.

    The library writes metadata in an order that changes from process to process,
    so the header's metadata is set here.
    """
    plain = {name: _in_order(tensors[name]) for name in sorted(tensors)}
    data = safetensors.numpy.save(plain)
    length = int.from_bytes(data[:_HEAD], "little")
    header: dict[str, object] = json.loads(data[_HEAD : _HEAD + length])
    header.pop("__metadata__", None)
    whole = {"__metadata__": dict(sorted(metadata.items())), **header}
    text = json.dumps(whole, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(_HEAD, "little") + text + data[_HEAD + length :]


def write_model_file(
    path: Path,
    tensors: Mapping[str, NDArray[np.generic]],
    metadata: Mapping[str, str],
) -> None:
    """Write a network's tensors; ``format`` and ``digest`` are added.

    Args:
        path: The file, conventionally ``*.safetensors``.
        tensors: Weights and running statistics with their names, finite.
        metadata: At least ``MODEL_KEYS``, all text.

    Raises:
        IntegrityError: If a key is missing or a tensor has a NaN or an infinity.
        FedPruneError: If the file cannot be written.
    """
    whole = {**metadata, "format": MODEL_FORMAT, "digest": tensors_digest(tensors)}
    _check_metadata(path, whole)
    _check_finite(path, tensors)
    write_bytes_atomic(path, encode_tensors(tensors, whole))


def read_model_file(path: Path) -> tuple[Tensors, dict[str, str]]:
    """Read what ``write_model_file`` wrote; trust nothing in it.

    Returns:
        The named tensors, and the metadata.

    Raises:
        IntegrityError: If the file is a pickle, truncated, changed, foreign, or has
            numbers that are not finite.
    """
    tensors, metadata = read_tensors_file(path)
    _check_metadata(path, metadata)
    if metadata.get("digest") != tensors_digest(tensors):
        msg = f"{path}: the tensors are not those that were written (digest differs)"
        raise IntegrityError(msg)
    return tensors, metadata


def read_tensors_file(path: Path) -> tuple[Tensors, dict[str, str]]:
    """Read any safetensors file: named tensors, and its text metadata.

    Raises:
        IntegrityError: If the file is a pickle, truncated, not safetensors, names a
            tensor twice, or has numbers that are not finite.
    """
    data = read_whole(path)
    refuse_pickle(path, data)
    metadata = _read_metadata(path, data)
    try:
        tensors: Tensors = dict(safetensors.numpy.load(data))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        msg = f"{path}: not a whole safetensors file: {error}"
        raise IntegrityError(msg) from error
    _check_finite(path, tensors)
    return tensors, metadata


def refuse_pickle(path: Path, data: bytes) -> None:
    """Refuse a pickled model, with how to convert it, and files that are no model.

    Raises:
        IntegrityError: If name or first bytes are those of a pickle, of arrays, of a
            picture, of a text or of ONNX.
    """
    if path.suffix.lower() in _ARRAYS:
        msg = f"{path} holds data (NumPy arrays), no model; as data: task.data=npz:FILE"
        raise IntegrityError(msg)
    # A safetensors header of 640 bytes begins like a pickle, but its ninth byte is {.
    pickled = data.startswith(_PICKLE_STARTS) and data[8:9] != b"{"
    if pickled or path.suffix.lower() in _PICKLE_SUFFIXES:
        msg = (
            f"{path} is a pickle, and reading one can run code; want safetensors. "
            "Convert it once, where you trust it: "
            "safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
        )
        raise IntegrityError(msg)
    if other := other_kind(path.name, data[:SHOWS_KIND]):
        msg = f"{path}: not a whole safetensors file but {other}; want a model "
        msg += "(.safetensors, .fpz), a run folder or one of its files"
        raise IntegrityError(msg)


def tensors_digest(tensors: Mapping[str, NDArray[np.generic]]) -> str:
    """Return the hex digest of names, types, shapes and bytes, sorted by names."""
    parts: list[bytes] = []
    for name in sorted(tensors):
        array = _in_order(tensors[name])
        parts += [name.encode(), f"{array.dtype.str}{array.shape}".encode()]
        parts.append(array.tobytes())
    return digest_of(*parts).hex()


def read_digest(path: Path, key: str, value: object) -> bytes:
    """Return a 16-byte digest written as hex.

    Raises:
        IntegrityError: If ``value`` is not a digest; names file and key.
    """
    try:
        digest = bytes.fromhex(str(value))
    except ValueError:
        digest = b""
    if len(digest) != DIGEST_SIZE:
        shown = printable(repr(value), 80)
        msg = f"{path}: {key} is {shown}; want {DIGEST_SIZE} bytes as hex"
        raise IntegrityError(msg)
    return digest


def _in_order(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the array in C order; ``ascontiguousarray`` would add a dimension to 0."""
    return np.asarray(array, order="C")


def read_whole(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        IntegrityError: If it is empty or cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror or error}"
        raise IntegrityError(msg) from error
    if not data:
        msg = f"{path}: the file is empty"
        raise IntegrityError(msg)
    return data


def _read_metadata(path: Path, data: bytes) -> dict[str, str]:
    """Return the header's text metadata; the library does not refuse duplicates."""
    if len(data) < _HEAD:
        msg = f"{path}: not a whole safetensors file: {len(data)} bytes"
        raise IntegrityError(msg)
    length = int.from_bytes(data[:_HEAD], "little")
    try:
        # A length beyond the file makes a header that is not JSON: refused below.
        header = parse_json(data[_HEAD : _HEAD + length], _without_duplicates)
        metadata = header.get("__metadata__", {})
        return {str(key): str(value) for key, value in metadata.items()}
    except (ValueError, AttributeError) as error:
        msg = f"{path}: not a whole safetensors file: {error}"
        raise IntegrityError(msg) from error


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    out = dict(pairs)
    if len(out) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        ((twice, _),) = counts.most_common(1)
        msg = f"the header names {printable(repr(twice), 80)} twice"
        raise ValueError(msg)
    return out


def _check_finite(path: Path, tensors: Mapping[str, NDArray[np.generic]]) -> None:
    for name, array in tensors.items():
        if not np.issubdtype(array.dtype, np.floating):
            continue
        bad = int(array.size - np.count_nonzero(np.isfinite(array)))
        if bad:
            msg = f"{path}: tensor '{name}' holds {bad} non-finite values; want 0"
            raise IntegrityError(msg)


def _check_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    if metadata.get("format") != MODEL_FORMAT:
        found = printable(repr(metadata.get("format")), 80)
        msg = f"{path}: metadata 'format' is {found}; want {MODEL_FORMAT!r}"
        raise IntegrityError(msg)
    missing = [key for key in MODEL_KEYS if key not in metadata]
    if missing:
        msg = f"{path}: metadata lacks {', '.join(missing)}"
        raise IntegrityError(msg)
    for key in ("plan", "structure"):
        read_digest(path, key, metadata[key])
    read_input_shape(path, metadata)
    read_description(path, metadata)
    outputs = metadata["num_outputs"]
    if not _NUMBER.fullmatch(outputs) or int(outputs) > _LARGEST:
        msg = f"{path}: num_outputs is {outputs[:40]!r}; want 0..{_LARGEST}"
        raise IntegrityError(msg)


def read_input_shape(path: Path, metadata: Mapping[str, str]) -> tuple[int, ...]:
    """Return the shape of one example, without the batch.

    Raises:
        IntegrityError: If the metadata has none.
    """
    try:
        shape = parse_json(metadata["input_shape"])
    except ValueError:
        shape = None
    if not isinstance(shape, list) or not all(
        type(size) is int and size > 0 for size in shape
    ):
        found = metadata["input_shape"][:40]
        msg = f"{path}: input_shape is {found!r}; want a JSON list of sizes"
        raise IntegrityError(msg)
    if len(shape) > _DIMS or math.prod(shape) > _LARGEST:
        found = metadata["input_shape"][:40]
        msg = f"{path}: input_shape is {found}; want at most {_LARGEST} entries"
        raise IntegrityError(msg)
    return tuple(shape)
