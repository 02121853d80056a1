"""A network as one ONNX file with a free batch size, and the file run beside it.

Inputs have the names of ``forward``'s parameters, those in a dict their keys; a network
of one input has ``input``.  Outputs have the keys of the network's result, or
``output``, ``output_1`` and so on.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from typing_extensions import override

from fedprune.common.errors import ConfigError, FedPruneError, StructureError
from fedprune.common.models.inputs import (
    Arguments,
    arguments,
    batch_size,
    copied,
    has_batch,
    names_of,
    tensors_in,
)
from fedprune.common.system.atomic import write_bytes_atomic
from fedprune.common.text import first_line, not_installed

Array = NDArray[np.float32]
Runner = Callable[[Array], Array]
NamedRunner = Callable[[Mapping[str, np.ndarray]], list[np.ndarray]]

_BATCH = 2  # torch treats a batch of one as a constant


class _Flat(nn.Module):
    """A network that takes and returns nothing but tensors.

    Args:
        network: The network.
        given: Its arguments; tensors in them are replaced by those of a call.
    """

    def __init__(self, network: nn.Module, given: Arguments) -> None:
        super().__init__()
        self.network = network
        self.training = network.training
        leaves, self._spec = pytree.tree_flatten(given)
        self._leaves = [None if isinstance(x, Tensor) else x for x in leaves]
        self._places = [n for n, x in enumerate(leaves) if isinstance(x, Tensor)]

    @override
    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        leaves: list[object] = [*self._leaves]
        for place, item in zip(self._places, tensors, strict=True):
            leaves[place] = item
        found = self.network(*pytree.tree_unflatten(leaves, self._spec))
        return tuple(tensors_in(found))


def write_onnx(
    model: nn.Module, example: object, target: Path, others: Sequence[object] = ()
) -> bool:
    """Trace a network and write it as one ONNX file.

    The first dimension of every input that is as long as that of the first input is
    the batch, and is free.  So are the lengths that differ between the examples, where
    torch can export the network so.

    Args:
        model: The network, in eval mode.
        example: One valid input, batch first, as of ``find_structure``.
        target: The file.
        others: Valid inputs that may have other lengths, such as texts.

    Returns:
        Whether lengths are free in the file that differ between the examples.

    Raises:
        ConfigError: If an extra is missing.
        StructureError: If the example does not fit the network.
        FedPruneError: If torch cannot export it.
    """
    need("onnx", "onnxscript")
    given = _batched(arguments(model, example))
    lengths = free_lengths([given, *(arguments(model, other) for other in others)])
    proto = None
    if any(lengths):
        with suppress(Exception), _quiet(), torch.no_grad():
            proto = _converted(model, given, lengths)
    # torch makes a length that the code writes a constant, without an error.
    is_free = proto is not None and any(
        size.dim_param
        for item in proto.graph.input
        for size in list(item.type.tensor_type.shape.dim)[1:]
    )
    try:
        with _quiet(), torch.no_grad():
            proto = proto or _converted(model, given, [()] * len(lengths))
    except Exception as error:
        msg = f"torch cannot export this network to ONNX: {error}"
        raise FedPruneError(msg) from error
    # The exporter writes the lines of source code, with their paths, beside each node.
    for item in (*proto.graph.node, *proto.graph.value_info, proto.graph):
        del item.metadata_props[:]
    write_bytes_atomic(target, proto.SerializeToString())
    return is_free


def free_lengths(shown: Sequence[object]) -> list[tuple[int, ...]]:
    """Return for each tensor the dimensions behind the first whose lengths differ.

    Args:
        shown: Several inputs of one network, of the same form.
    """
    shapes = [[tuple(leaf.shape) for leaf in tensors_of(one)] for one in shown]
    return [
        tuple(
            dim
            for dim, sizes in enumerate(zip(*tensor, strict=False))
            if dim and len(set(sizes)) > 1
        )
        for tensor in zip(*shapes, strict=False)
    ]


def _converted(
    model: nn.Module, given: Arguments, lengths: Sequence[tuple[int, ...]]
) -> Any:  # noqa: ANN401 - onnx has no types
    """Return the ONNX form of a network, with free lengths of each tensor."""
    tensors = tuple(tensors_of(given))
    inputs, outputs = input_names(model, given), output_names(model(*copied(given)))
    if not outputs:
        msg = "its outputs hold no tensor"
        raise StructureError(msg)
    alone = (
        len(given) == 1
        and given[0] is tensors[0]
        and [inputs, outputs] == [["input"], ["output"]]
    )
    outputs = _apart([*inputs, *outputs])[len(inputs) :]
    free = {0: torch.export.Dim("batch", min=1)}
    size = batch_size(given)
    named: dict[int, Any] = {}  # a length of several inputs is one
    shapes = tuple(
        (free if has_batch(item, size) else {})
        | {dim: _length(named, item.shape[dim]) for dim in dims}
        or None
        for item, dims in zip(tensors, lengths, strict=True)
    )
    program = torch.onnx.export(
        model if alone else _Flat(model, given),
        tensors,
        input_names=inputs if alone else _numbered("in", inputs),
        output_names=outputs if alone else _numbered("out", outputs),
        dynamic_shapes=shapes if alone else (shapes,),
        dynamo=True,
        verbose=False,
    )
    assert program is not None  # noqa: S101 - dynamo=True without a file returns it
    proto = program.model_proto
    if not alone:
        names = [*_numbered("in", inputs), *_numbered("out", outputs)]
        rename_values(proto.graph, dict(zip(names, [*inputs, *outputs], strict=True)))
    return proto


def _length(named: dict[int, Any], size: int) -> Any:  # noqa: ANN401 - of torch
    """Return the free dimension of a traced length."""
    name = f"length_{len(named)}" if named else "length"
    return named.setdefault(size, torch.export.Dim(name, min=1))


def _numbered(kind: str, names: list[str]) -> list[str]:
    """Return names that nothing else in a graph has."""
    return [f"fedprune.{kind}.{number}" for number in range(len(names))]


def rename_values(graph: Any, names: dict[str, str]) -> None:  # noqa: ANN401 - onnx has no types
    """Rename values of a graph, in place; others of such a name get another one.

    torch renames inputs and outputs without a look at the names inside.
    """
    taken = {*names.values()}

    def name(old: str) -> str:
        return names.get(old, f"{old}.inside" if old in taken else old)

    for item in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        item.name = name(item.name)
    for node in graph.node:
        node.input[:] = [name(item) for item in node.input]
        node.output[:] = [name(item) for item in node.output]
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                rename_values(inner, names)


def input_names(model: nn.Module, given: Arguments) -> list[str]:
    """Return the name of each tensor in the arguments: parameter, key or place."""
    if len(tensors_of(given)) == 1:
        return ["input"]
    found: list[str] = []
    for name, item in zip(names_of(model, given), given, strict=True):
        if isinstance(item, Tensor):
            found.append(name)
            continue
        for path, leaf in pytree.tree_leaves_with_path(item):
            if isinstance(leaf, Tensor):
                steps = [str(getattr(x, "key", getattr(x, "idx", ""))) for x in path]
                keyed = all(hasattr(x, "key") for x in path)
                found.append(".".join(steps if keyed else [name, *steps]))
    return _apart(found)


def output_names(found: object) -> list[str]:
    """Return the name of each tensor in a result: its key, or ``output``."""
    names: list[str] = []
    seen: set[int] = set()
    for key, item in _keyed(found):
        count = sum(1 for _ in tensors_in(item, seen=seen))
        names += [key] * count
    return _apart(names)


def compare_onnx(model: nn.Module, example: object, path: Path) -> float:
    """Return the largest difference of a file's outputs from those of the network.

    Compared are the example and its first entry alone.

    Args:
        model: The network, in eval mode.
        example: One valid input, as of ``write_onnx``.
        path: The file.

    Raises:
        FedPruneError: If the file does not run, or has other outputs.
    """
    worst = 0.0
    given = arguments(model, example)
    names = input_names(model, given)
    size = batch_size(given)

    def first(leaf: Tensor) -> Tensor:
        return leaf[:1] if has_batch(leaf, size) else leaf

    for inputs in (given, pytree.tree_map_only(Tensor, first, given)):
        arrays = [item.numpy() for item in tensors_of(inputs)]
        with torch.no_grad():
            wanted = [item.numpy() for item in tensors_in(model(*copied(inputs)))]
        found = run_onnx(path, dict(zip(names, arrays, strict=True)))
        shapes = [item.shape for item in wanted], [item.shape for item in found]
        if shapes[0] != shapes[1]:
            msg = f"{path}: outputs of shapes {shapes[1]}; the network has {shapes[0]}"
            raise FedPruneError(msg)
        differences = (
            np.abs(a.astype(np.float64) - b) for a, b in zip(wanted, found, strict=True)
        )
        worst = max([worst, *(float(x.max()) for x in differences if x.size)])
    return worst


def run_onnx(path: Path, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Return the outputs of an ONNX file for named inputs; unused ones are left out.

    Raises:
        ConfigError: If onnxruntime is missing.
        FedPruneError: If the file does not run.
    """
    return named_runner(path)(inputs)


def named_runner(path: Path) -> NamedRunner:
    """Return a function that runs an ONNX file on named inputs, on one thread.

    Raises:
        ConfigError: If onnxruntime is missing.
    """
    session = _session(path)
    known = {item.name for item in session.get_inputs()}

    def run(inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        try:
            found: list[np.ndarray] = session.run(
                None, {name: item for name, item in inputs.items() if name in known}
            )
        except Exception as error:
            msg = f"{path}: onnxruntime cannot run it: {first_line(error)}"
            raise FedPruneError(msg) from error
        return found

    return run


def onnx_runner(path: Path) -> Runner:
    """Return a function that runs an ONNX file of one input on one thread."""
    session = _session(path)
    name = session.get_inputs()[0].name

    def run(batch: Array) -> Array:
        found: Any = session.run(None, {name: batch})[0]
        return np.asarray(found, dtype=np.float32)

    return run


def need(*names: str) -> None:
    """Refuse when an optional package is absent; the error shows how to install it."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise ConfigError(not_installed("ONNX", missing[0], "onnx"))


def _session(path: Path) -> Any:  # noqa: ANN401 - onnxruntime has no types
    need("onnxruntime")
    import onnxruntime  # noqa: PLC0415 - an extra, and slow to load

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )


def tensors_of(given: object) -> list[Tensor]:
    """Return the tensors in arguments, in the order of ``input_names``."""
    return [leaf for leaf in pytree.tree_leaves(given) if isinstance(leaf, Tensor)]


def _batched(given: Arguments) -> Arguments:
    """Return arguments with at least two examples."""
    if batch_size(given) != 1:
        return given

    def longer(leaf: Tensor) -> Tensor:
        return torch.cat([leaf] * _BATCH) if has_batch(leaf, 1) else leaf

    found: Arguments = pytree.tree_map_only(Tensor, longer, given)
    return found


def _keyed(found: object) -> list[tuple[str, object]]:
    """Return the entries of a result, by key where it has keys."""
    if isinstance(found, Mapping):
        return [(str(key), item) for key, item in found.items()]
    if isinstance(found, tuple) and hasattr(found, "_fields"):
        return [*zip(found._fields, found, strict=True)]
    if isinstance(found, Tensor | tuple | list) or not hasattr(found, "__dict__"):
        return [("output", found)]
    return [*vars(found).items()]


def _apart(names: list[str]) -> list[str]:
    """Return the names; repeated ones with a number."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        number = seen.get(name, 0)
        seen[name] = number + 1
        found.append(f"{name}_{number}" if number else name)
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings of the exporter's own libraries, nothing else."""
    with warnings.catch_warnings():
        for module in (r"torch\.", r"onnxscript\.", r"onnx_ir\.", r"copyreg"):
            warnings.filterwarnings("ignore", module=module)
        # Of recurrent layers, said in code that torch makes, which has no module.
        for message in ("_check_is_size", "The tensor attributes? self"):
            warnings.filterwarnings("ignore", message)
        # It reports every optional package that is absent.
        logger = logging.getLogger("torch.onnx._internal.exporter._registration")
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
