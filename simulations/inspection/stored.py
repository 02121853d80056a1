"""Content of the files that a client keeps between rounds: its store."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedprune.client.rounds.steps.generations import decode_generation
from fedprune.common import codec
from fedprune.common.artifacts.model_file import read_whole
from fedprune.common.codec.checks import MAX_STORED
from fedprune.common.codec.frame import Kind, kind_of
from fedprune.common.errors import IntegrityError
from fedprune.common.spec import PrunePlan
from fedprune.server.report.text import count, percent, size

Rows: TypeAlias = list[tuple[str, str]]

_NAME = re.compile(
    r"(?:held-(?P<round>\d{1,10})|broadcast|mask)-(?P<digest>[0-9a-f]{32})\.bin"
)
_GENERATION = {"residual", "positions", "values", "scales", "keep"}
_HEAD = 5  # bytes in which version and kind stand
_ARRAY = re.compile(rb"[\x90-\x9f]\x02|\xdc..\x02", re.DOTALL)  # a message, version 2
_FLOAT16 = 2  # bytes of an entry of a residual


def read_message(path: Path) -> tuple[str, Rows] | None:
    """Return kind and content of a message in a client store; None of another file.

    A message is recognised by its first bytes, whatever its name; a damaged one by its
    name.

    Raises:
        IntegrityError: If it cannot be read, or is not what its name says.
        PayloadError: If it is broken.
    """
    if path.suffix == ".bin" and (_NAME.fullmatch(path.name) or _is_message(path)):
        return _message(path)
    return None


def read_residual(path: Path, tensors: Mapping[str, object]) -> tuple[str, Rows] | None:
    """Return the error feedback of a trained round; None of another file.

    Args:
        path: A safetensors file.
        tensors: Its tensors by their names.

    Raises:
        IntegrityError: If it is not as it was written.
    """
    if set(tensors) != _GENERATION:
        return None
    found = decode_generation(read_whole(path))
    if found is None:
        msg = f"{path}: not a whole residual of a round: its digest differs"
        raise IntegrityError(msg)
    entries, sent = len(found.residual), len(found.sent.indices)
    norm = float(np.linalg.norm(found.residual))
    kept_back = f"{count(entries)} entries, {size(_FLOAT16 * entries)} as bfloat16"
    return "residual of a client", [
        ("round", str(found.round)),
        ("channels", f"{int(found.keep.sum())} of {len(found.keep)} kept"),
        ("sent", f"{count(sent)} of {count(entries)} entries, {found.sent.kind}"),
        ("residual", f"{kept_back}, {percent(_zeros(found.residual))} zeros"),
        ("norm", f"{norm:.4g}"),
    ]


def _is_message(path: Path) -> bool:
    with path.open("rb") as file:
        return _ARRAY.match(file.read(_HEAD)) is not None


def _message(path: Path) -> tuple[str, Rows]:
    data = read_whole(path)
    kind = kind_of(data) or Kind.STORED
    what, read = _KINDS.get(kind, (f"message of kind {kind.name.lower()}", _other))
    digest, rows = read(data)
    named = _NAME.fullmatch(path.name)
    if named and digest and named["digest"] != digest:
        msg = f"{path}: its digest is {digest}; its name says another one"
        raise IntegrityError(msg)
    if named and named["round"]:
        rows = [("round", str(int(named["round"]))), *rows]
    return what, rows


def _grid(data: bytes) -> tuple[str, Rows]:
    plan, grid = codec.decode_stored(data)
    rows = [
        *_plan(plan),
        ("weights", f"{count(len(grid.levels))}, {percent(_zeros(grid.levels))} zeros"),
        ("form", f"levels of a quantisation grid, {count(len(grid.codes))} steps"),
        ("digest", grid.name.hex()),
    ]
    return grid.name.hex(), rows


def _teacher(data: bytes) -> tuple[str, Rows]:
    found = codec.decode_broadcast(data)
    kind = kind_of(found.weights)
    rows = [
        *_plan(found.plan),
        ("weights", f"{size(len(found.weights))}, encoded"),
        ("form", "unknown" if kind is None else kind.name.lower()),
        ("statistics", "none" if found.statistics is None else "moments"),
        ("digest", found.digest.hex()),
    ]
    return found.digest.hex(), rows


def _mask(data: bytes) -> tuple[str, Rows]:
    mask = codec.decode_mask(data)
    rows = [
        ("plan", mask.plan.hex()),
        ("parent", mask.parent.hex() or "none: the first mask"),
        ("weights", f"{count(int(mask.keep.sum()))} of {count(len(mask.keep))} kept"),
        ("digest", mask.digest.hex()),
    ]
    return mask.digest.hex(), rows


def _other(data: bytes) -> tuple[str, Rows]:
    fields = codec.unseal(data, kind_of(data) or Kind.STORED, MAX_STORED)
    return "", [("fields", str(len(fields)))]


def _plan(plan: PrunePlan) -> Rows:
    return [
        ("plan", plan.digest.hex()),
        ("structure", plan.structure.hex()),
        ("channels", f"{int(plan.keep.sum())} of {len(plan.keep)} kept"),
    ]


def _zeros(values: NDArray[Any]) -> float:
    return float(np.mean(values == 0)) if len(values) else 0.0


_KINDS: Mapping[Kind, tuple[str, Callable[[bytes], tuple[str, Rows]]]] = {
    Kind.STORED: ("stored broadcast", _grid),
    Kind.BROADCAST: ("stored broadcast of a teacher", _teacher),
    Kind.MASK: ("stored weight mask", _mask),
}
