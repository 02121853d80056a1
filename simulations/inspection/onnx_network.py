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
from fedprune.simulations.export.onnx_facts import value_text
from fedprune.simulations.export.onnx_file import need

Rows: TypeAlias = list[tuple[str, str]]

_SHOWN = 8  # operations that are named, the most frequent ones


def read_onnx(path: Path) -> tuple[str, Rows]:
    """Return kind and content of an ONNX file; no file beside it is opened.

    Raises:
        ConfigError: If ``onnx`` is not installed.
        IntegrityError: If it is no ONNX file.
    """
    need("onnx")
    onnx: Any = import_module("onnx")
    data = read_whole(path)
    try:
        proto = onnx.load_model_from_string(data)
        graph = proto.graph
        kinds = Counter(node.op_type for node in graph.node)
        opset = next((x.version for x in proto.opset_import if not x.domain), 0)
        rows = [
            ("opset", str(opset)),
            *[
                (what, printable(value_text(onnx, item), 200))
                for what, items in (("input", graph.input), ("output", graph.output))
                for item in items
            ],
            ("operations", _operations(kinds)),
            *_weights(onnx, graph.initializer),
            *[(prop.key, printable(prop.value, 200)) for prop in proto.metadata_props],
        ]
    except Exception as error:  # of protobuf, which is no dependency of ours
        msg = f"{path}: not a whole ONNX file: {first_line(error)}"
        raise IntegrityError(msg) from error
    if not kinds:
        msg = f"{path}: not a whole ONNX file: it has no operations"
        raise IntegrityError(msg)
    return "ONNX network", rows


def _operations(kinds: "Counter[str]") -> str:
    named = [f"{number} {name}" for name, number in kinds.most_common()]
    return f"{kinds.total()}: {and_more(named, _SHOWN)}"


def _weights(onnx: Any, tensors: Any) -> Rows:  # noqa: ANN401 - onnx has no types
    """Return entries and bytes of the stored tensors, by type."""
    entries: Counter[str] = Counter()
    stored: Counter[str] = Counter()
    for tensor in tensors:
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        number = prod(tensor.dims)
        entries[kind.name] += number
        stored[kind.name] += number * kind.itemsize
    return [
        ("weights", f"{count(entries[kind])} {kind}, {size(stored[kind])}")
        for kind in sorted(entries, key=lambda kind: -stored[kind])
    ]
