"""The records of a ``.wandb`` file, in which Weights & Biases keeps a run.

The file is a LevelDB log: after a header of seven bytes, blocks of 32 KiB hold chunks
``crc32 (4), length (2), kind (1), data``; a record is one whole chunk or a first, some
middle and a last one, and holds a message of the package's own protocol.
"""

import struct
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

_BLOCK = 32768
_FILE_HEADER, _CHUNK_HEADER = 7, 7
_FULL, _LAST = 1, 4


def read_wandb(path: Path) -> Iterator[Any]:
    """Yield the records of a file, as ``wandb_internal_pb2.Record``."""
    # Its classes are made when it is imported: no type checker sees them.
    kinds: Any = import_module("wandb.proto.wandb_internal_pb2")
    for data in _records(path.read_bytes()):
        record = kinds.Record()
        record.ParseFromString(data)
        yield record


def _records(data: bytes) -> Iterator[bytes]:
    place, parts = _FILE_HEADER, b""
    while place + _CHUNK_HEADER <= len(data):
        left = _BLOCK - place % _BLOCK
        if left < _CHUNK_HEADER:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        place += _CHUNK_HEADER
        parts += data[place : place + length]
        place += length
        if kind in (_FULL, _LAST):
            yield parts
            parts = b""
