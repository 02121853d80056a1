"""Check of an exported file against the n:m pattern of the run's weight mask."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedprune.common.artifacts import read_model_file
from fedprune.common.errors import IntegrityError

Weights = Iterator[tuple[str, NDArray[np.bool_]]]


def check_form(path: Path, format_: str, n: int, m: int) -> str:
    """Return in how many tensors the n:m pattern was found.

    Checked are the weights whose input channels are a multiple of ``m``, as stored in
    the file: folded, transposed, quantised.

    Args:
        path: The file.
        format_: "safetensors" or "onnx".
        n: Most entries of each group that are not zero.
        m: Neighbouring input channels in a group.

    Raises:
        IntegrityError: If a group has more.
    """
    found = _onnx_weights(path) if format_ == "onnx" else _model_weights(path)
    count = 0
    for name, used in found:
        if used.shape[1] % m:
            continue
        groups = np.moveaxis(used, 1, -1).reshape(-1, m)
        most = int(groups.sum(axis=1).max(initial=0))
        if most > n:
            msg = f"'{name}' of {path.name} has {most} of {m} entries; want {n}:{m}"
            raise IntegrityError(msg)
        count += 1
    return f"{n}:{m} in {count} tensors"


def _model_weights(path: Path) -> Weights:
    tensors, _ = read_model_file(path)
    for name, tensor in tensors.items():
        if tensor.ndim > 1:
            yield name, np.asarray(tensor) != 0


def _onnx_weights(path: Path) -> Weights:
    """Yield the nonzero masks of the weights of convolutions and products."""
    onnx: Any = import_module("onnx")
    arrays: Any = import_module("onnx.numpy_helper")
    graph = onnx.load(str(path)).graph
    initializers = {item.name: arrays.to_array(item) for item in graph.initializer}
    makers = {out: node for node in graph.node for out in node.output}
    for node in graph.node:
        if node.op_type not in {"Conv", "Gemm", "MatMul"}:
            continue
        used = _used(node.input[1], initializers, makers)
        if used is not None:
            yield node.input[1], used if _outputs_first(node) else used.T


def _outputs_first(node: Any) -> bool:  # noqa: ANN401 - onnx has no types
    transposed = any(item.name == "transB" and item.i for item in node.attribute)
    return node.op_type == "Conv" or transposed


def _used(
    name: str, initializers: Mapping[str, NDArray[Any]], makers: Mapping[str, Any]
) -> NDArray[np.bool_] | None:
    """Return the nonzero mask of a weight; None for other inputs."""
    if name in initializers:
        return np.asarray(initializers[name] != 0)
    maker = makers.get(name)
    if maker is None:
        return None
    if maker.op_type == "DequantizeLinear" and maker.input[0] in initializers:
        levels = initializers[maker.input[0]]
        zero = initializers.get("".join(maker.input[2:3]), np.zeros((), levels.dtype))
        if zero.ndim == 1 and len(zero) == len(levels):  # a zero for each row
            zero = zero.reshape(-1, *(1 for _ in levels.shape[1:]))
        return np.asarray(levels != zero)
    if maker.op_type == "Transpose" and len(maker.input) == 1:
        used = _used(maker.input[0], initializers, makers)
        return None if used is None else used.T
    return None
