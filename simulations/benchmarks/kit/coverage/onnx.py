"""The product's ONNX file of a cut network, run in onnxruntime."""

import copy
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fedprune.common.models.inputs import arguments, tensors_in
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.pruning.verify import half_mask
from fedprune.common.structure.structure import Structure
from fedprune.common.text import first_line
from fedprune.simulations.benchmarks.kit.coverage.nets.entry import Inputs
from fedprune.simulations.benchmarks.kit.coverage.trial import distance, outputs, quiet
from fedprune.simulations.export.onnx_file import input_names, run_onnx, write_onnx

LIMIT = 1e-4  # relative, float32
_SEED = 2
_TRACED, _OTHER = 2, 3  # batch sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """Result of an export with a free batch: relative difference, or a failure."""

    difference: float = math.inf
    error: str = ""


def export(network: nn.Module, structure: Structure, inputs: Inputs) -> Exported:
    """Export half of a network, and compare onnxruntime with torch in float32.

    The file is written for one batch size and run with another.

    Args:
        network: The dense network; it is left as it was.
        structure: Its structure.
        inputs: Its inputs.
    """
    cut = apply_plan(copy.deepcopy(network), structure, half_mask(structure, _SEED))
    given = arguments(cut, inputs(_OTHER))
    try:
        with quiet(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            write_onnx(cut, inputs(_TRACED), path)
            arrays = [item.numpy() for item in tensors_in(given)]
            names = input_names(cut, given)
            named = dict(zip(names, arrays, strict=True))
            found = [torch.as_tensor(x).double() for x in run_onnx(path, named)]
    except Exception as failure:  # of torch, onnxscript, onnxruntime
        return Exported(error=first_line(failure, kind=True))
    return Exported(difference=distance(outputs(cut, given), found))
