"""Content of an ONNX file: what it takes, what it gives, what it holds."""

from collections import Counter
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

from fedprune.common.artifacts.model_file import read_whole
from fedprune.common.errors import IntegrityError
from fedprune.common.text import and_more, first_line, printable
from fedprune.server.report.text import count, size
from fedprune.simulations.export.onnx_facts import type_of, value_text
from fedprune.simulations.export.onnx_file import need

Rows: TypeAlias = list[tuple[str, str]]

_SHOWN = 8  # operations, and files beside it, that are named
_DIMS = 64  # as NumPy has them; the product of very many sizes takes minutes
_DENSEST = 4  # entries in a byte: those of two bits
_LARGEST = 1 << 63  # entries of a tensor


def read_onnx(path: Path) -> tuple[str, Rows]:
    """Return kind and content of an ONNX file; no file beside it is opened.

    Raises:
        ConfigError: If ``onnx`` is not installed.
        IntegrityError: If it is no ONNX file, or announces what it does not hold.
    """
    need("onnx")
    onnx: Any = import_module("onnx")
    data = read_whole(path)
    try:
        rows = _rows(onnx, onnx.load_model_from_string(data))
    except Exception as error:  # of protobuf, which is no dependency of ours
        msg = f"{path}: not a whole ONNX file: {first_line(error)}"
        raise IntegrityError(msg) from error
    return "ONNX network", rows


def _rows(onnx: Any, proto: Any) -> Rows:  # noqa: ANN401 - onnx has no types
    graph = proto.graph
    kinds = Counter(node.op_type for node in graph.node)
    if not kinds:
        msg = "it has no operations"
        raise ValueError(msg)
    if not proto.opset_import:  # written behind the graph: the file was cut short
        msg = "it names no version of its operations"
        raise ValueError(msg)
    opset = next((x.version for x in proto.opset_import if not x.domain), 0)
    return [
        ("opset", str(opset)),
        *[
            (what, printable(value_text(onnx, item), 200))
            for what, items in (("input", graph.input), ("output", graph.output))
            for item in items
        ],
        ("operations", _operations(kinds)),
        *_weights(onnx, graph.initializer),
        *_files(onnx, graph.initializer),
        *[(prop.key, printable(prop.value, 200)) for prop in proto.metadata_props],
    ]


def _operations(kinds: "Counter[str]") -> str:
    named = [f"{number} {name}" for name, number in kinds.most_common()]
    return f"{kinds.total()}: {and_more(named, _SHOWN)}"


def _weights(onnx: Any, tensors: Any) -> Rows:  # noqa: ANN401 - onnx has no types
    """Return entries of the tensors by type; of those in the file, bytes too."""
    entries: Counter[tuple[str, bool]] = Counter()
    stored: Counter[tuple[str, bool]] = Counter()
    for tensor in tensors:
        kind, outside = type_of(onnx, tensor.data_type), _is_outside(onnx, tensor)
        raw = len(tensor.raw_data)
        number = _entries(tensor, None if outside else raw or tensor.ByteSize())
        entries[kind.name, outside] += number
        # By what is there: NumPy gives each value of four bits a byte.
        stored[kind.name, outside] += raw or number * kind.itemsize
    return [
        (
            "weights",
            f"{count(entries[key])} {key[0]}, "
            + ("in other files" if key[1] else size(stored[key])),
        )
        for key in sorted(entries, key=lambda key: -stored[key])
    ]


def _entries(tensor: Any, room: int | None) -> int:  # noqa: ANN401 - onnx has no types
    """Return the entries of a tensor.

    Args:
        tensor: What the file says of it.
        room: Bytes that hold them; None = in another file.

    Raises:
        ValueError: If no tensor has this shape, or this one holds far fewer entries.
    """
    name, dims = printable(repr(tensor.name), 80), tensor.dims
    # The number of sizes comes first: a product of very many takes minutes.
    number = prod(dims) if len(dims) <= _DIMS else _LARGEST
    if min(dims, default=0) < 0 or number >= _LARGEST:
        msg = f"weight {name} of shape [{and_more(dims, _SHOWN)}], which no tensor has"
        raise ValueError(msg)
    if room is not None and number > _DENSEST * room:
        msg = f"weight {name} announces {number} entries in {room} bytes"
        raise ValueError(msg)
    return number


def _files(onnx: Any, tensors: Any) -> Rows:  # noqa: ANN401 - onnx has no types
    """Return the names of the files that hold tensors; they may lead anywhere."""
    names = {
        printable(item.value, 80)
        for tensor in tensors
        if _is_outside(onnx, tensor)
        for item in tensor.external_data
        if item.key == "location"
    }
    return [("other files", and_more(sorted(names), _SHOWN))] if names else []


def _is_outside(onnx: Any, tensor: Any) -> bool:  # noqa: ANN401 - onnx has no types
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)
