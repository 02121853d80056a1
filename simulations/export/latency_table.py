"""Measurement of a latency table, each layer at each width: ``fedprune profile``.

Every layer with weights is run alone, at a grid of input and output widths, on its
input shape in the network, batch 1, one thread: by torch, or by onnxruntime where that
runs the final file.  Equal layers are measured once.
"""

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from fedprune.common.config import Config
from fedprune.common.errors import ConfigError
from fedprune.common.models.inputs import first_input
from fedprune.common.pruning.cost import width_step
from fedprune.common.pruning.latency import LatencyTable, LayerLatency
from fedprune.common.structure.structure import Structure
from fedprune.common.system.device import one_thread
from fedprune.common.system.paths import check_output
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.server.runs.trying import structure_of
from fedprune.simulations.export.onnx_file import write_onnx

RUNTIMES = ("torch", "onnxruntime")
SHARES = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
_REPEATS = 7
_WARM = 2
_LEAST_MS = 1e-4
Runner = Callable[[], object]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A layer and its input shape in the network, batch 1."""

    module: nn.Conv2d | nn.Linear
    shape: tuple[int, ...]


def profile(
    model: nn.Module,
    structure: Structure,
    example: Tensor,
    *,
    runtime: str = "torch",
    width_multiple: int = 0,
) -> LatencyTable:
    """Measure the layers of a network on this machine.

    Args:
        model: The dense network.
        structure: Its structure.
        example: One valid input, batch first; the first example of it is used.
        runtime: "torch" or "onnxruntime".
        width_multiple: Grid widths are multiples of it, and the full width; 0 = by
            the full width.

    Raises:
        ConfigError: If the runtime is unknown or not installed.
    """
    if runtime not in RUNTIMES:
        msg = f"runtime is '{runtime}'; want one of {[*RUNTIMES]}"
        raise ConfigError(msg)
    one = example[:1]
    with one_thread(), torch.no_grad():
        seen = _layers(model.eval(), one)
        dense = _whole(model, one, runtime)
        known: dict[object, np.ndarray] = {}
        layers = []
        for name, item in seen.items():
            grid = _grid(structure, name, item.module, width_multiple)
            key = (repr(item.module), item.shape, grid)
            if key not in known:
                known[key] = _measure(item, grid, runtime)
            inputs, outputs = grid
            layers.append(
                LayerLatency(tensor=name, inputs=inputs, outputs=outputs, ms=known[key])
            )
    return LatencyTable(
        structure=structure.digest.hex(),
        device=f"{_processor()}, {_runtime(runtime)}, 1 thread",
        dense_ms=dense,
        layers=tuple(layers),
    )


def _layers(model: nn.Module, example: Tensor) -> dict[str, _Seen]:
    """Return the layers with weights that the example reaches, by weight name."""
    seen: dict[str, _Seen] = {}

    def recorder(name: str) -> Callable[..., None]:
        def record(
            module: nn.Module,
            given: tuple[Tensor, ...],
            named: Mapping[str, Tensor],
            _: object,
        ) -> None:
            layer = cast("nn.Conv2d | nn.Linear", module)
            shape = tuple(first_input(given, named).shape)
            seen[f"{name}.weight"] = _Seen(layer, shape)

        return record

    handles = [
        module.register_forward_hook(recorder(name), with_kwargs=True)
        for name, module in model.named_modules()
        if type(module) in {nn.Conv1d, nn.Conv2d, nn.Linear}
    ]
    try:
        model(example)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _grid(
    structure: Structure, name: str, module: nn.Conv2d | nn.Linear, multiple: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the lengths of dim 1 and dim 0 of a weight that are measured."""
    found: list[tuple[int, ...]] = []
    shape = structure.shapes[name]
    grouped = getattr(module, "groups", 1) not in {1, shape[0]}
    for dim in (1, 0):
        full = shape[dim]
        if (name, dim) not in structure.lookup or grouped:
            found.append((full,))
            continue
        step = width_step(full, multiple)
        legal = {max(round(full * s / step), 1) * step for s in SHARES}
        found.append(tuple(sorted({w for w in legal if w < full} | {full})))
    return found[0], found[1]


def _measure(
    item: _Seen, grid: tuple[tuple[int, ...], tuple[int, ...]], runtime: str
) -> np.ndarray:
    """Return milliseconds at each width, float64[inputs, outputs]."""
    inputs, outputs = grid
    make = _torch_layer if runtime == "torch" else _onnx_layer
    return np.asarray(
        [[_least(make(item, taken, made)) for made in outputs] for taken in inputs]
    )


def _narrow(item: _Seen, taken: int, made: int) -> tuple[nn.Module, Tensor]:
    """Return a layer of these widths with an input for it."""
    old = item.module
    if isinstance(old, nn.Linear):
        shape = (*item.shape[:-1], taken)
        return nn.Linear(taken, made, bias=old.bias is not None), torch.randn(shape)
    # In a depthwise convolution dim 1 is 1, and the groups follow dim 0.
    single = old.groups == old.in_channels == old.out_channels and old.groups > 1
    groups = made if single else old.groups
    channels = taken * groups
    kind: Any = type(old)  # its settings have one entry for each dimension
    settings = (old.kernel_size, old.stride, old.padding, old.dilation)
    new: nn.Module = kind(channels, made, *settings, groups, bias=old.bias is not None)
    return new, torch.randn(item.shape[0], channels, *item.shape[2:])


def _torch_layer(item: _Seen, taken: int, made: int) -> Runner:
    module, example = _narrow(item, taken, made)
    module.eval()
    return lambda: module(example)


def _onnx_layer(item: _Seen, taken: int, made: int) -> Runner:
    """Return one node as a session: exporting each width by torch takes seconds."""
    module, example = _narrow(item, taken, made)
    helper: Any = import_module("onnx.helper")
    arrays: Any = import_module("onnx.numpy_helper")
    if isinstance(module, nn.Linear):
        weight = module.weight.T.contiguous()
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
    else:
        conv = cast("nn.Conv2d", module)
        weight = conv.weight
        pads = [*cast("tuple[int, ...]", conv.padding)] * 2
        node = helper.make_node(
            "Conv",
            ["x", "w"],
            ["y"],
            strides=[*conv.stride],
            dilations=[*conv.dilation],
            pads=pads,
            group=conv.groups,
        )
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("x", 1, [*example.shape])],
        [helper.make_tensor_value_info("y", 1, None)],
        [arrays.from_array(weight.numpy(), "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    proto = helper.make_model(graph, opset_imports=opset, ir_version=8)
    return _session(proto.SerializeToString(), example.numpy())


def _whole(model: nn.Module, example: Tensor, runtime: str) -> float:
    """Return milliseconds of the whole network."""
    if runtime == "torch":
        return _least(lambda: model(example))
    if not _installed("onnx", "onnxscript", "onnxruntime"):
        msg = "--runtime onnxruntime needs 'onnx', 'onnxscript' and 'onnxruntime', "
        msg += "not all of which are installed; run: pip install 'fedprune[onnx]'"
        raise ConfigError(msg)
    with TemporaryDirectory(prefix="fedprune-") as folder:
        path = Path(folder) / "dense.onnx"
        write_onnx(model, example, path)
        return _least(_session(path.read_bytes(), example.numpy()))


def _session(model: bytes, batch: np.ndarray) -> Runner:
    runtime: Any = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"]
    )
    given = {session.get_inputs()[0].name: batch}
    return lambda: session.run(None, given)


def _least(runner: Runner) -> float:
    """Return the least milliseconds of some runs."""
    best = float("inf")
    for turn in range(_WARM + _REPEATS):
        started = time.perf_counter()
        runner()
        if turn >= _WARM:
            best = min(best, time.perf_counter() - started)
    return max(1e3 * best, _LEAST_MS)


def _installed(*names: str) -> bool:
    return all(find_spec(name) is not None for name in names)


def _runtime(name: str) -> str:
    return f"{name} {import_module(name).__version__}"


def _processor() -> str:
    return platform.processor() or platform.machine() or "unknown processor"


def profile_task(config: Config, output: Path, runtime: str) -> dict[str, object]:
    """Measure the network of a configuration and write its latency table.

    Returns:
        ``path, device, dense_ms, layers, widths``: the number of layers and of pairs
        of widths in the table.

    Raises:
        ConfigError: If the runtime is unknown or not installed, or the file cannot be
            written there.
    """
    check_output(output, ".json")
    task = LoadedTask(config)
    model, example = task.build_model(), task.example()
    structure = structure_of(task, model)
    table = profile(
        model,
        structure,
        example,
        runtime=runtime,
        width_multiple=config.width_multiple,
    )
    table.save(output)
    return {
        "path": str(output),
        "device": table.device,
        "dense_ms": round(table.dense_ms, 4),
        "layers": len(table.layers),
        "widths": sum(layer.ms.size for layer in table.layers),
    }
