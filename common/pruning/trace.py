# ruff: noqa: A005 - "trace" is what torch.fx calls it; imports are absolute here
"""Find the structure of a network: which channels must live and die together.

The network is traced symbolically (torch.fx) in eval mode on a copy, run once on an
example for the shapes, and walked operation by operation.  The result depends on the
architecture only: not on weights, on ``requires_grad`` or on the order of unions.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import fx, nn
from typing_extensions import override

from common.errors import ConfigError, StructureError
from common.pruning.assemble import assemble
from common.pruning.calls import Call, Handler
from common.pruning.labels import Ledger, Value
from common.pruning.ops import FUNCTIONS, METHODS, MODULES
from common.pruning.structure import Structure

WAY_OUT = "Write it with supported operations, or name it in ignore= to leave it uncut"


def find_structure(
    model: nn.Module, example: torch.Tensor, *, ignore: Sequence[str] = ()
) -> Structure:
    """Return the structure of ``model``; the model is left as it was.

    The input and the outputs are never cut.  Nothing inside what ``ignore`` names is
    cut, nor the channels that go into it or come out of it.

    Args:
        model: The dense network.
        example: One valid input, batch first.
        ignore: Names of modules, of parameters, or of operations as an error names
            them.

    Raises:
        StructureError: If an operation is met whose channels cannot be followed, or
            a parameter is not reached.
        ConfigError: If ``ignore`` names nothing that exists.
    """
    network = copy.deepcopy(model).eval()
    graph = _trace(network, ignore)
    results = _Shapes(fx.GraphModule(network, graph)).collect(example)
    _check_ignore(network, graph, ignore)
    walk = _Walk(network, results, ignore)
    for node in graph.nodes:
        walk.visit(node)
    _check_reached(network, walk.ledger, ignore)
    return assemble(network, walk.ledger)


class _Tracer(fx.Tracer):
    """A tracer that goes into containers and user modules only, and says where."""

    def __init__(self, ignore: Sequence[str]) -> None:
        super().__init__()
        self.ignore = ignore
        self.where = ""

    @override
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if module_qualified_name in self.ignore or type(m) in MODULES:
            return True
        return super().is_leaf_module(m, module_qualified_name)

    @override
    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.where = self.where or self.path_of_module(m)
            raise


class _Shapes(fx.Interpreter):
    """Runs the network once and keeps shapes instead of tensors."""

    def collect(self, example: torch.Tensor) -> dict[fx.Node, object]:
        """Return what each node gives, tensors as values without labels."""
        self.results: dict[fx.Node, object] = {}
        try:
            with torch.no_grad():
                self.run(example)
        except Exception as error:
            # The model's own code runs here: whatever it raises, the call is wrong.
            msg = f"the network does not run on {_text(example)}: {_line(error)}"
            raise StructureError(msg) from error
        return self.results

    @override
    def run_node(self, n: fx.Node) -> Any:
        found = super().run_node(n)
        self.results[n] = fx.node.map_aggregate(found, _without_data)
        return found


class _Walk:
    """One pass over the operations of a network."""

    def __init__(
        self,
        model: nn.Module,
        results: Mapping[fx.Node, object],
        ignore: Sequence[str],
    ) -> None:
        self.model = model
        self.results = results
        self.ignore = ignore
        self.ledger = Ledger(model)
        self.values: dict[fx.Node, object] = {}
        # A module under two names is called by its first one.
        self.titles = {id(module): name for name, module in model.named_modules()}

    def visit(self, node: fx.Node) -> None:
        """Follow the channels through one node."""
        if self._ignored(node) or node.op == "output":
            for source in node.all_input_nodes:
                found = self.values[source]
                if isinstance(found, Value):
                    self.ledger.fix_value(found)
            self.values[node] = self.results[node]
        elif node.op == "placeholder":
            self.values[node] = self.results[node]
        else:
            try:
                self.values[node] = self._follow(node)
            except StructureError as error:
                msg = f"{_describe(node, self.model)}: {error}. {WAY_OUT}"
                raise StructureError(msg) from error

    def _ignored(self, node: fx.Node) -> bool:
        named = node.op in {"call_module", "get_attr"} and node.target in self.ignore
        return named or node.name in self.ignore

    def _follow(self, node: fx.Node) -> object:
        if node.op == "get_attr":
            return self._constant(node)
        module = None
        if node.op == "call_module":
            module = self.model.get_submodule(str(node.target))
        handler = _handler(node, module)
        if handler is None:
            msg = "its channels cannot be followed"
            raise StructureError(msg)
        return handler(
            Call(
                ledger=self.ledger,
                module=module,
                module_name=self.titles[id(module)] if module is not None else "",
                args=fx.node.map_arg(cast("Any", node.args), self._value),
                kwargs=fx.node.map_arg(cast("Any", node.kwargs), self._value),
                result=self.results[node],
            )
        )

    def _constant(self, node: fx.Node) -> object:
        """Return a buffer as a value that never changes."""
        path, _, name = str(node.target).rpartition(".")
        if isinstance(getattr(self.model.get_submodule(path), name), nn.Parameter):
            msg = "a bare parameter is used outside a supported layer"
            raise StructureError(msg)
        return self.results[node]

    def _value(self, node: fx.Node) -> Any:  # noqa: ANN401 - fx has no type for it
        return self.values[node]


def _handler(node: fx.Node, module: nn.Module | None) -> Handler | None:
    if module is not None:
        return MODULES.get(type(module))
    if node.op == "call_method":
        return METHODS.get(str(node.target))
    return FUNCTIONS.get(cast("Any", node.target))


def _trace(model: nn.Module, ignore: Sequence[str]) -> fx.Graph:
    tracer = _Tracer(ignore)
    try:
        return tracer.trace(model)
    except Exception as error:
        # fx raises whatever the model's own code raises on symbolic values.
        where = f"module '{tracer.where}'" if tracer.where else "the network"
        msg = f"{where} cannot be traced: {_line(error)}. {WAY_OUT}"
        raise StructureError(msg) from error


def _check_ignore(model: nn.Module, graph: fx.Graph, ignore: Sequence[str]) -> None:
    known = {name for name, _ in model.named_modules() if name}
    known |= {name for name, _ in model.named_parameters(remove_duplicate=False)}
    unknown = sorted(set(ignore) - known - {node.name for node in graph.nodes})
    if unknown:
        msg = f"ignore names {unknown}, which the network does not have"
        raise ConfigError(msg)


def _check_reached(model: nn.Module, ledger: Ledger, ignore: Sequence[str]) -> None:
    """Refuse parameters that the eval graph does not reach: they might be used."""
    reached = {tensor for tensor, _ in ledger.dims}
    prefixes = tuple(f"{name}." for name in ignore)
    for name, _ in model.named_parameters():
        if name in reached or name in ignore or name.startswith(prefixes):
            continue
        msg = f"parameter '{name}' is not reached by the network in eval mode, so its"
        msg += f" channels cannot be followed. {WAY_OUT}"
        raise StructureError(msg)


def _describe(node: fx.Node, model: nn.Module) -> str:
    """Return 'module M' or 'operation O (function F) in module M'."""
    if node.op == "call_module":
        kind = type(model.get_submodule(str(node.target))).__name__
        return f"module '{node.target}' ({kind})"
    title = getattr(node.target, "__name__", node.target)
    inside = [*node.meta.get("nn_module_stack", {})]
    where = f"module '{inside[-1]}'" if inside else "the network's own forward"
    return f"operation '{node.name}' ({title}) in {where}"


def _without_data(found: Any) -> Any:  # noqa: ANN401 - fx has no type for it
    if isinstance(found, torch.Tensor):
        return Value(shape=tuple(found.shape))
    return found


def _text(example: torch.Tensor) -> str:
    return f"an example of shape {list(example.shape)}"


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
