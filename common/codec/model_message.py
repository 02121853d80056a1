"""A finished network as one message: the content of a ``.fpz`` file.

9 model    name str, input_shape [int, ...], num_outputs int, size of structure_json,
           text structure_json, broadcast (its weights of kind 4, 7 or 10)
"""

from dataclasses import dataclass

from common.codec import checks
from common.codec.frame import Kind, seal, unseal
from common.codec.parts import broadcast_fields, read_broadcast
from common.codec.plan_message import MAX_STORED, MAX_STRUCTURE
from common.codec.text import squeeze_text, unsqueeze_text
from common.errors import PayloadError, Reason
from common.messages import Broadcast

_FIELDS = 7
_DIMS = 8
_LARGEST = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedModel:
    """A network that rebuilds itself from its architecture's code.

    Attributes:
        name: The architecture, as in ``task.model``; "python" for a factory's.
        input_shape: Shape of one example, without the batch.
        num_outputs: Outputs that it was built with, >= 0.
        structure_json: The structure of the original network.
        network: Plan, encoded weights, their digest and statistics.
    """

    name: str
    input_shape: tuple[int, ...]
    num_outputs: int
    structure_json: bytes
    network: Broadcast


def encode_model(model: PackedModel) -> bytes:
    """Return a network as one message."""
    return seal(
        Kind.MODEL,
        [
            model.name,
            [int(size) for size in model.input_shape],
            int(model.num_outputs),
            len(model.structure_json),
            *squeeze_text(model.structure_json),
            broadcast_fields(model.network),
        ],
    )


def decode_model(data: bytes, max_bytes: int = MAX_STORED) -> PackedModel:
    """Return a network whose weights are still encoded; trust nothing in ``data``.

    Raises:
        PayloadError: If the bytes are no network of this version.
    """
    items = checks.array(unseal(data, Kind.MODEL, max_bytes), "model", _FIELDS)
    if type(items[0]) is not str or not items[0].isprintable() or not items[0]:
        detail = f"{checks.shown(items[0])}; want printable text"
        raise PayloadError(Reason.BAD_FRAME, "model.name", detail)
    return PackedModel(
        name=items[0],
        input_shape=_read_shape(items[1]),
        num_outputs=checks.integer(items[2], "model.num_outputs", 0, _LARGEST),
        structure_json=unsqueeze_text(
            checks.blob(items[5], "model.structure_json"),
            "model.structure_json",
            checks.integer(items[3], "model.structure_json.size", 0, MAX_STRUCTURE),
            coded=checks.boolean(items[4], "model.structure_json.coded"),
        ),
        network=read_broadcast(items[6], "model"),
    )


def model_parts(data: bytes) -> dict[str, int]:
    """Return the bytes of a model file by part, the rest as "header".

    Raises:
        PayloadError: If the bytes are no network of this version.
    """
    items = checks.array(unseal(data, Kind.MODEL, len(data)), "model", _FIELDS)
    model = decode_model(data, len(data))
    statistics = model.network.statistics
    parts = {
        "weights": len(model.network.weights),
        "structure": len(items[5]),
        "statistics": 0 if statistics is None else 8 * len(statistics.mean),
        "plan": (len(model.network.plan.keep) + 7) // 8,
    }
    return {**parts, "header": len(data) - sum(parts.values())}


def _read_shape(value: object) -> tuple[int, ...]:
    if type(value) is not tuple or not 0 < len(value) <= _DIMS:
        detail = f"{checks.shown(value)}; want 1..{_DIMS} sizes"
        raise PayloadError(Reason.BAD_FRAME, "model.input_shape", detail)
    return tuple(
        checks.integer(size, "model.input_shape", 1, _LARGEST) for size in value
    )
