"""Walk over the recorded operations of a network and follow its channels."""

import operator
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import fx, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd
from torch.utils import _pytree as pytree

from fedprune.common.errors import StructureError
from fedprune.common.structure.calls import Call, Handler, SizeOf, values_in
from fedprune.common.structure.labels import Labelling, Value
from fedprune.common.structure.rules.hints import hinted
from fedprune.common.structure.rules.shapes import fixes_all, passes
from fedprune.common.structure.rules.tables import FUNCTIONS, LENGTHS, METHODS, MODULES
from fedprune.common.structure.sizes import is_length, length_of, plain, stays
from fedprune.common.text import first_line

# Operations whose result shares, or may share, the memory of their first operand.
VIEWS = frozenset(
    {"view", "reshape", "flatten", "unflatten", "transpose", "permute", "t", "squeeze"}
    | {"unsqueeze", "expand", "chunk", "split", "unbind", "detach", "view_as"}
    | {"contiguous", "to", "float", "double", "type", "type_as", "expand_as"}
    | {operator.getitem, torch.flatten, torch.reshape, torch.transpose, torch.permute}
    | {torch.squeeze, torch.unsqueeze, torch.chunk, torch.split, torch.unbind}
    | {torch.t, torch.swapaxes, "swapaxes", torch.unflatten, getattr}
    | {functional.dropout}
)
# What a rule that meets operands it was not written for may raise.  A warning says so,
# since it is a mistake of ours: tests turn warnings into errors.
FAULTS = (
    *(TypeError, ValueError, KeyError, IndexError, AttributeError, AssertionError),
    ZeroDivisionError,
)
VIEW_MODULES = (nn.Flatten, nn.Unflatten, nn.Identity, _DropoutNd)
OUTPUTS = "the network's outputs"
IN_PLACE = frozenset(
    {operator.iadd, operator.isub, operator.imul, operator.itruediv}
    | {operator.setitem, torch.Tensor.__setitem__}
)
WAY_OUT = (
    "Write it with supported operations, declare its channels (pruning_hints), or "
    "name it in ignore= to leave it uncut"
)


class Walk:
    """One pass over the operations of a network.

    Args:
        model: The traced network.
        results: Result of each node for the example.
        ignore: Modules, parameters and operations that are left uncut.
        labelling: What an earlier pass over the same network has found, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        results: Mapping[fx.Node, object],
        ignore: Sequence[str],
        labelling: Labelling | None = None,
    ) -> None:
        self.model = model
        self.results = {node: without_data(item) for node, item in results.items()}
        self.shared = {node for node in results if _shares_memory(node, results)}
        self.ignore = ignore
        self.labelling = labelling or Labelling(model)
        self.values: dict[fx.Node, object] = {}
        self.owners: dict[fx.Node, fx.Node] = {}
        self.sharing: dict[fx.Node, list[fx.Node]] = {}  # of each owner
        # A module under two names is called by its first one.
        self.titles = {id(module): name for name, module in model.named_modules()}
        self.kernels = {
            id(item)
            for module in model.modules()
            if isinstance(module, _ConvNd)
            for item in module.parameters()
        }
        self.modules = dict(model.named_modules(remove_duplicate=False))

    def visit(self, node: fx.Node) -> None:
        """Follow the channels through one node."""
        owner = self._owner(node)
        self.owners[node] = owner
        self.sharing.setdefault(owner, []).append(node)
        if node.op == "output" or self._ignored(node):
            for source in node.all_input_nodes:
                for found in values_in(self.values[source]):
                    for labels in found.labels.values():
                        self.labelling.hold(labels, self._whole_because(node))
                self._fix_numbers(self.values[source], self._whole_because(node))
            self._fix_numbers((node.args, node.kwargs), self._whole_because(node))
            self.values[node] = self.results.get(node)
            self._skip(node)
        elif node.op == "placeholder":
            self.values[node] = self.results[node]
        elif not node.users and node.target is operator.getitem:
            self.values[node] = None  # an unused item of a tuple
        else:
            self._follow_or_leave(node)
            self._overwrite(node)

    def _is_declared(self, node: fx.Node) -> bool:
        """Return whether the network says itself how channels pass (pruning_hints)."""
        if node.op != "call_module":
            return False
        return hasattr(self.model.get_submodule(str(node.target)), "pruning_hints")

    def _leave(self, node: fx.Node, why: str) -> None:
        """Leave everything uncut that an operation touches which cannot be followed.

        Cutting less is always right: what it gets and gives stays as it is.
        """
        reason = f"{describe(node, self.model)}: {why}"
        for source in node.all_input_nodes:
            self._fix_all(self.values[source], reason)
        self._fix_all((node.args, node.kwargs), reason)  # settings that it is given
        self._skip(node)
        self.values[node] = self.results.get(node)

    def _fix_all(self, found: object, reason: str) -> None:
        """Never cut what a value, or a number that was read from one, counts."""
        for value in values_in(found):
            self.labelling.fix_value(value, reason)
        self._fix_numbers(found, reason)

    def _fix_numbers(self, found: object, reason: str) -> None:
        """Never cut what a number counts that was read from a value."""
        for item in pytree.tree_leaves(found):
            if isinstance(item, SizeOf):
                self.labelling.fix_value(item.value, reason)
            if is_length(item):
                for form in length_of(item).forms:
                    for labels, _ in form.counts:
                        self.labelling.fix(labels, reason)
                stays(self.labelling, item)

    def _follow_or_leave(self, node: fx.Node) -> None:
        try:
            self.values[node] = self._follow(node)
        except StructureError as error:
            if self._is_declared(node):
                msg = f"{describe(node, self.model)}: {error}"
                raise StructureError(msg) from error
            self._leave(node, str(error))
        except FAULTS as error:
            text = f"its rule failed, {first_line(error, kind=True)}"
            msg = f"{describe(node, self.model)}: {text}; please report this"
            warnings.warn(msg, RuntimeWarning, stacklevel=2)
            self._leave(node, text)

    def _whole_because(self, node: fx.Node) -> str:
        if node.op == "output":
            return OUTPUTS
        return f"{describe(node, self.model)}: it is to be ignored"

    def _overwrite(self, node: fx.Node) -> None:
        """Replace a value that is changed in place by its new value."""
        source = node.args[0] if node.args else None
        if isinstance(source, fx.Node) and _is_in_place(node):
            self.values[source] = self.values[node]
            self._write_through(source)
        elif isinstance(source, fx.Node) and node.meta.get("changed"):
            found = self.values[node] if node in self.shared else None
            zero = isinstance(found, Value) and found.zero
            self.values[source] = _rewritten(self.values[source], zero=zero)
            self._write_through(source)

    def _write_through(self, changed: fx.Node) -> None:
        """Let all that shares memory know that masked entries may not be 0 now."""
        found = self.values[changed]
        zero = isinstance(found, Value) and found.zero
        for node in self.sharing[self.owners[changed]]:
            self.values[node] = _rewritten(self.values[node], zero=zero)

    def _owner(self, node: fx.Node) -> fx.Node:
        """Return the operation whose memory a result is in, or may be in."""
        source = node.args[0] if node.args else None
        if isinstance(source, fx.Node) and self._is_view(node):
            return self.owners[source]
        return node

    def _is_view(self, node: fx.Node) -> bool:
        if node in self.shared:  # nn.ReLU(inplace=True)
            return True
        if node.op == "call_module":
            module = self.model.get_submodule(str(node.target))
            return isinstance(module, VIEW_MODULES)
        view = str(node.target) in VIEWS or node.target in VIEWS
        return view or _is_in_place(node)

    def _ignored(self, node: fx.Node) -> bool:
        named = node.op in {"call_module", "get_attr"} and node.target in self.ignore
        return named or node.name in self.ignore

    def _skip(self, node: fx.Node) -> None:
        """Leave the tensors of a module uncut."""
        if node.op == "call_module":
            for tensor in self.model.get_submodule(str(node.target)).parameters():
                for dim in range(tensor.dim()):
                    self.labelling.record(tensor, dim, None)

    def _follow(self, node: fx.Node) -> object:
        if node.op == "get_attr":
            return self._tensor_value(node)
        module = None
        if node.op == "call_module":
            module = self.model.get_submodule(str(node.target))
        given: Any = self.values.__getitem__
        args = fx.node.map_arg(cast("Any", node.args), given)
        kwargs = fx.node.map_arg(cast("Any", node.kwargs), given)
        outer = self.modules.get(caller(node))
        inside = outer if module is None else module
        # torch accepts both names; the rules use one.
        kwargs = {"dim" if k == "axis" else k: v for k, v in kwargs.items()}
        if isinstance(kwargs.get("out"), Value):
            msg = "it writes into another tensor"
            raise StructureError(msg)
        handler = self._handler(node, module, (args, kwargs))
        if handler is None:
            msg = "its channels cannot be followed"
            raise StructureError(msg)
        if handler not in LENGTHS:
            args, kwargs = plain(self.labelling, args), plain(self.labelling, kwargs)
        found = handler(
            Call(
                labelling=self.labelling,
                module=module,
                module_name=self.titles.get(id(inside), ""),
                title=describe(node, self.model),
                args=args,
                kwargs=kwargs,
                result=self.results.get(node),
                code=self._code(node),
                caller=outer,
            )
        )
        if module is None or not [*module.parameters()]:
            return _with_sources(found, [*values_in((args, kwargs))])
        return found

    def _code(self, node: fx.Node) -> str | None:
        """Return the module whose code makes a call, None if it has no class's code."""
        inside = [*node.meta.get("nn_module_stack", {}).values()]
        module = self.model.get_submodule(inside[-1][0] if inside else "")
        return None if "forward" in vars(module) else self.titles[id(module)]

    def _tensor_value(self, node: fx.Node) -> object:
        """Return a parameter or buffer that the network's own code uses."""
        found: Any = self.model
        for name in str(node.target).split("."):
            found = getattr(found, name)
        result = self.results[node]
        if not isinstance(result, Value) or id(found) not in self.labelling.names:
            return result
        name = self.labelling.names[id(found)]
        labels = {}
        for dim, length in enumerate(result.shape):
            kernel = id(found) in self.kernels and dim > 1  # [out, in, positions]
            if length == 1 or name in self.ignore or kernel:
                self.labelling.record(found, dim, None)
                continue
            known = self.labelling.dims.get((name, dim))
            self.labelling.record(
                found, dim, self.labelling.new(length) if known is None else known
            )
            row = self.labelling.dims[name, dim]
            if row is not None:
                labels[dim] = row
        return Value(
            shape=result.shape,
            labels=labels,
            zero=self.labelling.is_masked(found),  # buffers are not
            tensor=found,
            sources=(found,),
        )

    def _handler(
        self, node: fx.Node, module: nn.Module | None, given: object
    ) -> Handler | None:
        found = _listed(node, module)
        if found is not None:
            return found
        if "identity" in node.meta:
            return passes(node.meta["identity"])
        if isinstance(node.target, type):  # an output in a class of its own
            return fixes_all
        loose = [
            row
            for value in values_in(given)
            for row in value.labels.values()
            if not self.labelling.is_fixed(row)
        ]
        if loose:
            return None
        self._skip(node)  # nothing that it gets can be cut
        return fixes_all


def _is_in_place(node: fx.Node) -> bool:
    """Return whether an operation changes its first operand, and returns it."""
    method = node.op == "call_method" and str(node.target).endswith("_")
    return method or node.target in IN_PLACE


def _shares_memory(node: fx.Node, results: Mapping[fx.Node, object]) -> bool:
    """Return whether a result for the example is in the memory of its first operand."""
    source = node.args[0] if node.args else None
    pair = [results.get(item) for item in (node, source) if isinstance(item, fx.Node)]
    places = {_place_of(item) for item in pair}
    return len(pair) == 2 and len(places) == 1 and 0 not in places  # noqa: PLR2004 - both


def _place_of(found: object) -> int:
    """Return the address of a tensor's memory, 0 where it has none."""
    if not isinstance(found, torch.Tensor) or found.layout is not torch.strided:
        return 0
    return found.untyped_storage().data_ptr()


def _with_sources(found: object, operands: Sequence[Value]) -> object:
    """Return a result that knows which tensors alone it is calculated from."""
    if type(found) is tuple:
        return tuple(_with_sources(item, operands) for item in found)
    if not isinstance(found, Value) or found.sources:
        return found
    if not operands or not all(item.sources for item in operands):
        return found
    known = {id(item): item for value in operands for item in value.sources}
    return replace(found, sources=tuple(known.values()))


def _rewritten(found: Any, *, zero: bool) -> Any:  # noqa: ANN401 - any nesting of results
    """Return a result that was written to: its masked entries are 0, or anything."""
    if isinstance(found, Value):
        return replace(found, zero=found.zero and zero, positive=False)
    if isinstance(found, tuple | list):
        return type(found)(_rewritten(item, zero=zero) for item in found)
    return found


def _listed(node: fx.Node, module: nn.Module | None) -> Handler | None:
    """Return the rule of an operation, if it has one."""
    if module is not None:
        return hinted if hasattr(module, "pruning_hints") else MODULES.get(type(module))
    if node.op == "call_method":
        return METHODS.get(str(node.target))
    return FUNCTIONS.get(cast("Any", node.target))


def caller(node: fx.Node) -> str:
    """Return the name of the module whose code an operation stands in, "" = root."""
    inside = [*node.meta.get("nn_module_stack", {})]
    return str(inside[-1]) if inside else ""


def describe(node: fx.Node, model: nn.Module) -> str:
    """Return 'module M' or 'operation O (function F) in module M'."""
    if node.op == "call_module":
        kind = type(model.get_submodule(str(node.target))).__name__
        return f"module '{node.target}' ({kind})"
    title = getattr(node.target, "__name__", node.target)
    inside = caller(node)
    where = f"module '{inside}'" if inside else "the network's own forward"
    line = f", {node.meta['place']}" if node.meta.get("place") else ""
    return f"operation '{node.name}' ({title}) in {where}{line}"


def without_data(found: Any) -> Any:  # noqa: ANN401 - any nesting of results
    """Return a result with values instead of tensors."""
    if isinstance(found, torch.Tensor):
        return Value(shape=tuple(found.shape))
    if isinstance(found, torch.Size):
        return tuple(found)
    if isinstance(found, tuple | list):
        items = [without_data(item) for item in found]
        return items if isinstance(found, list) else tuple(items)
    if isinstance(found, dict):
        return {key: without_data(item) for key, item in found.items()}
    return found
