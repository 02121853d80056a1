"""A finished network as one message: the content of a ``.fpz`` file.

9 model    name str, input_shape [int, ...], num_outputs int, size of structure_json,
           text structure_json, broadcast (its weights of kind 4, 7 or 10); then,
           only where name is code, the name of its run str; then, only where it says
           anything, the description, after a run of "" where there is none:
           [labels [str, ...], offset, scale, stored str], the two as a float, or as
           [float, ...] with one for each channel
"""

from dataclasses import dataclass
from math import prod
from typing import Any

from fedprune.common.codec import checks
from fedprune.common.codec.fields import (
    broadcast_fields,
    read_broadcast,
    statistics_size,
)
from fedprune.common.codec.frame import Kind, seal, unseal
from fedprune.common.codec.messages.text import compress_text, read_text
from fedprune.common.description import Description, checked
from fedprune.common.errors import PayloadError, Reason
from fedprune.common.messages import Broadcast

_FIELDS = 7
_DIMS = 8
_LARGEST = 1 << 24  # of a size, and of all entries of an example
_NOTHING = Description()


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedModel:
    """A network that is rebuilt from its architecture's code.

    Attributes:
        name: The architecture, as in ``task.model``; "python" for a factory's.
        input_shape: Shape of one example, without the batch; () = not one tensor.
        num_outputs: Outputs that it was built with, >= 0.
        structure_json: The structure of the original network.
        network: Plan, encoded weights, their digest and statistics.
        run: Name of its run, where ``name`` is code; else "".
        description: Label names and preprocessing.
    """

    name: str
    input_shape: tuple[int, ...]
    num_outputs: int
    structure_json: bytes
    network: Broadcast
    run: str = ""
    description: Description = _NOTHING


def encode_model(model: PackedModel) -> bytes:
    """Return a network as one message."""
    return seal(
        Kind.MODEL,
        [
            model.name,
            [int(size) for size in model.input_shape],
            int(model.num_outputs),
            len(model.structure_json),
            *compress_text(model.structure_json),
            broadcast_fields(model.network),
            *_last_fields(model),
        ],
    )


def _last_fields(model: PackedModel) -> list[object]:
    """Return the fields that only some files have."""
    facts = model.description
    if facts == _NOTHING:
        return [model.run] if model.run else []
    offset, scale = (
        list(x) if isinstance(x, tuple) else float(x)
        for x in (facts.offset, facts.scale)
    )
    return [model.run, [list(facts.labels), offset, scale, facts.stored]]


def decode_model(data: bytes, max_bytes: int = checks.MAX_STORED) -> PackedModel:
    """Return a network whose weights are still encoded; trust nothing in ``data``.

    Raises:
        PayloadError: If the bytes are not a valid network of this version.
    """
    items = _items(data, max_bytes)
    return PackedModel(
        name=_text(items[0], "model.name"),
        input_shape=_read_shape(items[1]),
        num_outputs=checks.integer(items[2], "model.num_outputs", 0, _LARGEST),
        structure_json=read_text("model.structure_json", *items[3:6]),
        network=read_broadcast(items[6], "model"),
        run=_read_run(items),
        description=_read_description(items),
    )


def _read_run(items: tuple[Any, ...]) -> str:
    if len(items) == _FIELDS or (len(items) > _FIELDS + 1 and items[7] == ""):
        return ""
    return _text(items[7], "model.run")


def _read_description(items: tuple[Any, ...]) -> Description:
    if len(items) <= _FIELDS + 1:
        return _NOTHING
    field = "model.description"
    try:
        found = checked(*checks.array(items[8], field, 4))
    except ValueError as error:
        raise PayloadError(Reason.BAD_VALUE, field, str(error)) from error
    if found == _NOTHING:
        raise PayloadError(Reason.BAD_FRAME, field, "says nothing; want no such field")
    return found


def model_parts(data: bytes) -> dict[str, int]:
    """Return the bytes of a model file by part, the rest as "header".

    Raises:
        PayloadError: If the bytes are not a valid network of this version.
    """
    items = _items(data, len(data))
    model = decode_model(data, len(data))
    statistics = model.network.statistics
    parts = {
        "weights": len(model.network.weights),
        "structure": len(items[5]),
        "statistics": 0 if statistics is None else statistics_size(statistics),
        "plan": (len(model.network.plan.keep) + 7) // 8,
    }
    return {**parts, "header": len(data) - sum(parts.values())}


def _items(data: bytes, max_bytes: int) -> tuple[Any, ...]:
    found = unseal(data, Kind.MODEL, max_bytes)
    more = min(max(len(found) - _FIELDS, 0), 2)
    return checks.array(found, "model", _FIELDS + more)


def _text(value: object, field: str) -> str:
    if type(value) is not str or not value.isprintable() or not value:
        detail = f"{checks.shown(value)}; want printable text"
        raise PayloadError(Reason.BAD_FRAME, field, detail)
    return value


def _read_shape(value: object) -> tuple[int, ...]:
    if type(value) is not tuple or len(value) > _DIMS:
        detail = f"{checks.shown(value)}; want 0..{_DIMS} sizes"
        raise PayloadError(Reason.BAD_FRAME, "model.input_shape", detail)
    shape = tuple(
        checks.integer(size, "model.input_shape", 1, _LARGEST) for size in value
    )
    if prod(shape) > _LARGEST:
        detail = f"{prod(shape)} entries; want at most {_LARGEST}"
        raise PayloadError(Reason.TOO_LARGE, "model.input_shape", detail)
    return shape
