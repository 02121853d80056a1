"""Preprocessing inside of an ONNX file, and facts about the network in its metadata.

Metadata keys, all text: ``labels`` (a JSON list), ``preprocessing`` and ``input`` in
words, ``metric`` and ``metric_value``, ``fedprune_version``.  A file without its
preprocessing has also ``offset`` and ``scale``.
"""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fedprune.common.artifacts.description_file import numbers_text
from fedprune.common.description import (
    Description,
    by_channel,
    input_text,
    is_scaled,
    preprocessing_text,
)
from fedprune.common.system.atomic import write_bytes_atomic
from fedprune.common.version import __version__
from fedprune.simulations.export.onnx_file import rename_values

_PREPARED = "fedprune.prepared"


def finish_onnx(
    source: Path,
    target: Path,
    description: Description,
    *,
    measured: Mapping[str, str],
    raw: bool = False,
) -> dict[str, str]:
    """Write an ONNX file again, with preprocessing and metadata.

    The input stays float32, for every runtime and every language can make that of
    pixels, and the file computes ``(input - offset) * scale`` as training did.

    Args:
        source: The file of the bare network.
        target: The file that is written, atomically.
        description: Label names and preprocessing.
        measured: Further metadata.
        raw: Leave the preprocessing out.

    Returns:
        The metadata.
    """
    onnx: Any = import_module("onnx")
    proto = onnx.load(str(source))
    inside = not raw and _can_prepare(onnx, proto.graph, description)
    if inside:
        _prepend(onnx, proto.graph, description)
    metadata = {
        **measured,
        "input": _inputs(onnx, proto.graph, description if inside else None),
        "preprocessing": place_text(description, inside=inside),
        "fedprune_version": __version__,
    }
    if description.labels:
        metadata["labels"] = json.dumps(list(description.labels), ensure_ascii=False)
    if is_scaled(description) and not inside:
        metadata["offset"] = numbers_text(description.offset)
        metadata["scale"] = numbers_text(description.scale)
    metadata = dict(sorted(metadata.items()))
    onnx.helper.set_model_props(proto, metadata)
    proto.graph.input[0].doc_string = f"{metadata['input']}; {_first(metadata)}"
    write_bytes_atomic(target, proto.SerializeToString())
    return metadata


def has_preprocessing(metadata: Mapping[str, str], description: Description) -> bool:
    """Return whether a file with such metadata does the preprocessing itself."""
    return is_scaled(description) and "offset" not in metadata


def _first(metadata: Mapping[str, str]) -> str:
    return f"preprocessing {metadata['preprocessing']}"


def _can_prepare(onnx: Any, graph: Any, description: Description) -> bool:  # noqa: ANN401 - onnx has no types
    """Return whether the network takes one tensor of floats, and scaled ones."""
    kinds = [item.type.tensor_type.elem_type for item in graph.input]
    return is_scaled(description) and kinds == [onnx.TensorProto.FLOAT]


def _prepend(onnx: Any, graph: Any, description: Description) -> None:  # noqa: ANN401
    """Put two nodes before a network: first minus offset, then times scale."""
    given = graph.input[0].name
    shape = [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]
    rename_values(graph, {given: _PREPARED})
    graph.input[0].name = given
    numbers = {
        "fedprune.offset": description.offset,
        "fedprune.scale": description.scale,
    }
    for name, value in numbers.items():
        array = by_channel(value, shape).astype(np.float32)
        graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    steps = (
        ("Sub", [given, "fedprune.offset"], "fedprune.shifted"),
        ("Mul", ["fedprune.shifted", "fedprune.scale"], _PREPARED),
    )
    nodes = [onnx.helper.make_node(k, i, [o], name=o) for k, i, o in steps]
    later = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *later])


def place_text(description: Description, *, inside: bool) -> str:
    """Return the preprocessing in words, and whether the file does it."""
    text = preprocessing_text(description)
    if not is_scaled(description):
        return text
    return f"inside the file: {text}" if inside else f"before the file: {text}"


def _inputs(onnx: Any, graph: Any, inside: Description | None) -> str:  # noqa: ANN401
    """Return name, type and shape of every input in words."""
    text = "; ".join(value_text(onnx, item) for item in graph.input)
    if inside is None or inside.stored == "float32":
        return text
    return f"{text}, {input_text(inside)} as floats"


def value_text(onnx: Any, item: Any) -> str:  # noqa: ANN401 - onnx has no types
    """Return name, type and shape of an input or output in words."""
    form = item.type.WhichOneof("value") or "unknown"
    if form != "tensor_type":  # a sequence, a map, ...
        return f"{item.name} {form.removesuffix('_type')}"
    tensor = item.type.tensor_type
    kind = type_of(onnx, tensor.elem_type).name
    if not tensor.HasField("shape"):
        return f"{item.name} {kind} of any shape"
    sizes = [
        x.dim_param or (str(x.dim_value) if x.HasField("dim_value") else "?")
        for x in tensor.shape.dim
    ]
    return f"{item.name} {kind} [{', '.join(sizes)}]"


def type_of(onnx: Any, number: int) -> np.dtype[Any]:  # noqa: ANN401 - onnx has no types
    """Return the type of the entries that ONNX gives this number.

    Raises:
        ValueError: If the installed ``onnx`` knows none.
    """
    try:
        found: np.dtype[Any] = onnx.helper.tensor_dtype_to_np_dtype(number)
    except KeyError:
        msg = f"type {number} of a tensor, which onnx {onnx.__version__} does not know"
        raise ValueError(msg) from None
    return found
