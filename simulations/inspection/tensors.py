"""The tensors of a model file in the order of its network."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedprune.common.artifacts.load import read_structure
from fedprune.common.errors import IntegrityError

Tensors = Mapping[str, NDArray[np.generic]]

_DIGITS = re.compile(r"([0-9]+)")


def in_order(
    path: Path, tensors: Tensors, metadata: Mapping[str, str]
) -> list[tuple[str, NDArray[np.generic]]]:
    """Return names and tensors in the order of the network's modules.

    A safetensors file has an order of its own.  Buffers follow the weights of their
    module; what the structure does not name comes last, and without a structure all are
    sorted by their names, ``block.2`` before ``block.10``.

    Args:
        path: The file.
        tensors: Name -> tensor.
        metadata: Its metadata, which has the structure or names that beside it.
    """
    places = _places(path, metadata)
    modules: dict[str, int] = {}
    for name, place in places.items():
        modules.setdefault(name.rpartition(".")[0], place)

    def key(name: str) -> tuple[int, int, list[tuple[int, str]]]:
        last = len(places)
        first = modules.get(name.rpartition(".")[0], last)
        return first, places.get(name, last), _natural(name)

    return [(name, tensors[name]) for name in sorted(tensors, key=key)]


def _places(path: Path, metadata: Mapping[str, str]) -> dict[str, int]:
    """Return the place of each weight; none where the structure is not at hand."""
    if "structure" not in metadata:
        return {}  # a checkpoint
    try:
        structure = read_structure(path, metadata)
    except (IntegrityError, OSError):
        return {}
    return {tensor.name: place for place, tensor in enumerate(structure.tensors)}


def _natural(name: str) -> list[tuple[int, str]]:
    parts = _DIGITS.split(name)
    return [(int(p[:18]) if p.isascii() and p.isdigit() else -1, p) for p in parts]
