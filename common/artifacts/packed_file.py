"""``*.fpz``: a pruned, quantised, entropy-coded network in one file.

Written with the project's entropy coder (``codec/messages/model.py``): plan and
structure are inside, so a network is rebuilt from its architecture's code and this file
alone, with exactly the weights that were written.
"""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from fedprune.common import codec
from fedprune.common.artifacts.model_file import read_whole
from fedprune.common.codec import PackedModel
from fedprune.common.description import Description
from fedprune.common.errors import ConfigError, IntegrityError, PayloadError, Reason
from fedprune.common.messages import Broadcast, Statistics
from fedprune.common.models.flat import model_spec, set_state, set_weights
from fedprune.common.pruning.plan import apply_plan, check_plan
from fedprune.common.spec import ModelSpec, PrunePlan, Vector, weights_digest
from fedprune.common.structure.announced import at_most, size_limit
from fedprune.common.structure.structure import Structure
from fedprune.common.system.atomic import write_bytes_atomic

ENDING = ".fpz"

_CODEBOOK = "codebook"


@dataclass(frozen=True, kw_only=True)
class Packed:
    """The content of a file, decoded and checked.

    Attributes:
        model: The message; its weights are still encoded.
        structure: The original network.
        spec: Shapes of the cut network.
        weights: Its weights, float32[n].
    """

    model: PackedModel
    structure: Structure
    spec: ModelSpec
    weights: Vector


def quantise_network(weights: Vector, spec: ModelSpec, values: str) -> bytes:
    """Return weights as one message of kind ``values``.

    Args:
        weights: float32[spec.size], finite.
        spec: Shapes of the network.
        values: "grid", "float32", or "codebookB" with B = 1..6 bits.

    Raises:
        ConfigError: If there is no such kind, or it cannot represent a weight.
        DataError: If a weight is not finite.
    """
    if values in ("grid", "float32"):
        return codec.encode_weights(weights, spec, values)
    bits = values.removeprefix(_CODEBOOK)
    if values.startswith(_CODEBOOK) and bits in map(str, range(1, codec.MOST_BITS + 1)):
        codec.check_finite(weights, spec)
        return codec.encode_codebook(weights, spec, int(bits))
    msg = (
        f'values is "{values}"; want "grid", "float32" or "codebook1" to '
        f'"codebook{codec.MOST_BITS}"'
    )
    raise ConfigError(msg)


def write_packed(path: Path, model: PackedModel) -> None:
    """Write a file, whole or not at all.

    Raises:
        FedPruneError: If it cannot be written.
    """
    write_bytes_atomic(path, codec.encode_model(model))


def pack(  # noqa: PLR0913 - the parts of a file
    *,
    name: str,
    input_shape: tuple[int, ...],
    num_outputs: int,
    structure: Structure,
    plan: PrunePlan,
    blob: bytes,
    statistics: Statistics | None,
    run: str = "",
    description: Description,
) -> PackedModel:
    """Return the content of a file.

    Args:
        name: The architecture, as in ``task.model``.
        input_shape: Shape of one example.
        num_outputs: Outputs that it was built with.
        structure: The original network.
        plan: The plan that the network was cut by.
        blob: Its weights (``quantise_network``).
        statistics: Its moments and running values, or None.
        run: Name of the run, where ``name`` is code (``fedprune.common.trust``).
        description: Label names and preprocessing.
    """
    weights = codec.decode_weights(blob, structure.spec(plan.keep))
    return PackedModel(
        name=name,
        input_shape=input_shape,
        num_outputs=num_outputs,
        structure_json=structure.to_json(),
        network=Broadcast(
            plan=plan,
            weights=blob,
            digest=weights_digest(weights),
            statistics=statistics,
        ),
        run=run,
        description=description,
    )


def read_packed(path: Path, max_bytes: int | None = None) -> Packed:
    """Read a file; trust nothing in it.

    Args:
        path: The file.
        max_bytes: Largest dense network, in bytes; None = 256 MiB, or 64 bytes for
            each byte of a larger file.

    Raises:
        IntegrityError: If it is damaged, or its parts contradict each other.
    """
    data = read_whole(path)
    try:
        return unpack(data, max_bytes)
    except PayloadError as error:
        msg = f"{path}: {error}"
        raise IntegrityError(msg) from error


def unpack(data: bytes, max_bytes: int | None = None) -> Packed:
    """Return the content of a file's bytes; ``max_bytes`` as for ``read_packed``.

    Raises:
        PayloadError: If they are damaged, or the parts contradict each other.
    """
    model = codec.decode_model(data)
    limit = at_most(size_limit(len(data), max_bytes))
    structure = Structure.from_json(model.structure_json, limit)
    check_plan(structure, model.network.plan)
    spec = structure.spec(model.network.plan.keep)
    weights = codec.decode_weights(model.network.weights, spec)
    codec.check_weights(weights, model.network.digest)
    _check_moments(model, spec)
    return Packed(model=model, structure=structure, spec=spec, weights=weights)


def _check_moments(model: PackedModel, spec: ModelSpec) -> None:
    statistics = model.network.statistics
    count = 0 if statistics is None else len(statistics.mean)
    running = 0 if statistics is None else len(statistics.running)
    if (count, running) != (spec.moments, spec.running_size):
        detail = f"{count} moments and {running} running values; want {spec.moments}"
        detail += f" and {spec.running_size}"
        raise PayloadError(Reason.BAD_SIZE, "statistics", detail)


def build_packed(path: Path, packed: Packed, network: nn.Module) -> nn.Module:
    """Return the network of a file, in eval mode.

    Args:
        path: The file, for messages.
        packed: Its content.
        network: The uncut network that its architecture's code makes.

    Raises:
        IntegrityError: If the architecture's code makes another network now.
    """
    apply_plan(network, packed.structure, packed.model.network.plan.keep)
    running = [buffer.name for buffer in packed.spec.running]
    if model_spec(network, packed.spec.units, running) != packed.spec:
        msg = f"{path}: its tensors are not those of the network {packed.model.name}"
        raise IntegrityError(msg)
    set_weights(network, packed.weights)
    set_state(network, packed.model.network.statistics, running)
    return network.eval()
