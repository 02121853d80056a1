"""Export of a cut network to ONNX, and a run in onnxruntime."""

import copy
import math
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fedprune.common.pruning.plan import apply_plan
from fedprune.common.pruning.verify import half_mask
from fedprune.common.structure.structure import Structure
from fedprune.common.text import first_line
from fedprune.simulations.benchmarks.kit.coverage.nets.entry import Inputs
from fedprune.simulations.benchmarks.kit.coverage.trial import (
    arguments,
    distance,
    outputs,
    quiet,
)

LIMIT = 1e-4  # relative, float32
_SEED = 2
_TRACED, _OTHER = 2, 3  # batch sizes; torch treats a batch of one as a constant


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """Result of an export: relative difference, any batch size or one, or a failure."""

    difference: float = math.inf
    free: bool = False
    error: str = ""


def export(network: nn.Module, structure: Structure, inputs: Inputs) -> Exported:
    """Export half of a network, and compare onnxruntime with torch in float32.

    The batch is free where torch can export it so; else it is fixed.

    Args:
        network: The dense network; it is left as it was.
        structure: Its structure.
        inputs: Its inputs.
    """
    cut = apply_plan(copy.deepcopy(network), structure, half_mask(structure, _SEED))
    error = ""
    for free in (True, False):
        given = arguments(inputs(_OTHER if free else _TRACED))
        try:
            data = _converted(cut, arguments(inputs(_TRACED)), free=free)
            found = _run(data, given)
        except Exception as failure:  # of torch, onnxscript, onnxruntime
            error = error or first_line(failure, kind=True)
            continue
        apart = distance(outputs(cut, given), found)
        if apart <= LIMIT or not free:
            return Exported(difference=apart, free=free)
    return Exported(error=error)


def _converted(cut: nn.Module, given: tuple[object, ...], *, free: bool) -> bytes:
    batch = torch.export.Dim("batch", min=1)

    def first(leaf: object) -> object:
        return {0: batch} if isinstance(leaf, Tensor) else None

    with quiet(), torch.no_grad():
        program = torch.onnx.export(
            copy.deepcopy(cut),
            given,
            dynamic_shapes=pytree.tree_map(first, given) if free else None,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # noqa: S101 - dynamo=True without a file returns it
    data: bytes = program.model_proto.SerializeToString()
    return data


def _run(data: bytes, given: tuple[object, ...]) -> list[Tensor]:
    onnxruntime: Any = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        data, options, providers=["CPUExecutionProvider"]
    )
    leaves = [x for x in pytree.tree_leaves(given) if isinstance(x, Tensor)]
    names = [item.name for item in session.get_inputs()]
    # An input that the network does not use is not in the file.
    named = {name: x.numpy() for name, x in zip(names, leaves, strict=False)}
    return [torch.from_numpy(x).double() for x in session.run(None, named)]
