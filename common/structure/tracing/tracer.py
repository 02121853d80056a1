# ruff: noqa: ANN401 - torch.fx has no types for what it passes through
"""Record a network's operations by torch.fx, and run each one as it is recorded.

Because every result is known while the network is traced, its code may loop over
shapes, compare sizes and branch on them; only a branch on the data itself is refused.
"""

import operator
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from typing_extensions import override

from fedprune.common.models.inputs import names_of, parameters, tensors_in
from fedprune.common.structure.rules.tables import MODULES
from fedprune.common.structure.sizes import AttributeSize, Ledger, Recorded
from fedprune.common.structure.tracing.proxies import (
    Proxy,
    Recorder,
    Size,
    holds_data,
)
from fedprune.common.text import first_line

# Modules of torch whose Python code is traced, instead of one table entry.
OPENED: tuple[type[nn.Module], ...] = (
    *(nn.TransformerEncoder, nn.TransformerEncoderLayer),
    *(nn.TransformerDecoder, nn.TransformerDecoderLayer, nn.Transformer),
    ParametrizationList,
)
# Layers of torch whose code is traced if a weight of them is parametrised.
CALCULATED: tuple[type[nn.Module], ...] = (
    *(nn.Linear, nn.Bilinear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)


# Code that is not the user's: a message names the first line outside of it.
_OURS = (str(Path(__file__).parents[2]), str(Path(torch.__file__).parent))
_PYTHON = str(Path(operator.__file__).parent)
# Tensors of one number, recorded where their lengths come from the network.
FILLS = frozenset({torch.zeros, torch.ones, torch.full, torch.empty})
# Tensors of a number, of the numbers of a shape, or of another tensor.
_LISTS = frozenset({torch.tensor, torch.as_tensor})


class RunError(Exception):
    """An operation failed on the example."""


class _Makes(TorchFunctionMode):
    """Sees the tensors that code makes of numbers alone, which fx does not record.

    ``torch.zeros(b, n)`` is recorded where that is asked for.  In ``torch.tensor(n)``,
    ``torch.arange(n)`` and others the numbers must not change.
    """

    def __init__(self, tracer: "Tracer", *, fills: bool) -> None:
        super().__init__()
        self.tracer, self.fills = tracer, fills

    @override
    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        given = kwargs or {}
        if not self.tracer.is_running:
            leaves = pytree.tree_leaves((args, given))
            sizes = [x for x in leaves if isinstance(x, Recorded | AttributeSize)]
            proxies = any(isinstance(item, fx.Proxy) for item in leaves)
            if self.fills and func in FILLS and (sizes or proxies):
                return self.tracer.create_proxy("call_function", func, args, given)
            if func in _LISTS and args and isinstance(args[0], Proxy):
                if holds_data(args[0].known):
                    return self.tracer.create_proxy("call_function", func, args, given)
                args = (args[0].plain(), *args[1:])
            if not proxies:
                for size in sizes:
                    int(size)  # records that the plain number is used
        return func(*args, **given)


class Tracer(Recorder):
    """A tracer that enters containers and user modules only, and notes failures.

    Args:
        examples: Arguments of ``forward``, in order; what is no tensor is a constant.
        ignore: Modules that are not entered.
        running: Buffers whose use is recorded like that of parameters; a calculation
            with other buffers alone is a constant.

    Attributes:
        results: Result of each node for the example.
        where: Name of the module whose code failed.
        ledger: What receives calculations with attributes of the network.
    """

    def __init__(
        self,
        examples: Sequence[object],
        ignore: Sequence[str] = (),
        running: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.examples = tuple(examples)
        self._example: object = None
        self.ignore = ignore
        self.running = running
        self.where = ""
        self.results: dict[fx.Node, object] = {}
        self.ledger = Ledger()
        self._running = False
        self._names: dict[int, str] | None = None

    @property
    def is_running(self) -> bool:
        """True while an operation runs on the example: nothing is recorded then."""
        return self._running

    def makes(self, *, fills: bool) -> TorchFunctionMode:
        """Return the context in which tensors made of numbers alone are seen.

        Args:
            fills: Whether those of one number are recorded, so that they may be cut.
        """
        return _Makes(self, fills=fills)

    @override
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if module_qualified_name in self.ignore or type(m) in MODULES:
            return True
        if hasattr(m, "pruning_hints"):
            return True
        if type(m) in OPENED:
            return False
        if is_parametrized(m):  # its class was made from the first one of its bases
            made = type(m).__bases__[0]
            own = not made.__module__.startswith("torch.nn")
            return not own and made not in CALCULATED
        return super().is_leaf_module(m, module_qualified_name)

    @override
    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if self._running or self._is_made_here(m):
            return forward(*args, **kwargs)
        try:
            return super().call_module(m, forward, args, kwargs)
        except (Exception, SystemExit):
            self.where = self.where or self.path_of_module(m)
            raise

    def _is_made_here(self, module: nn.Module) -> bool:
        """Return whether a forward has made a module, which holds no tensor."""
        if module in (self.submodule_paths or {}):
            return False
        return not [*module.parameters(), *module.buffers()]

    @override
    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:
        if self._running:
            return attr_val
        if not isinstance(attr_val, torch.Tensor):
            return super().getattr(attr, attr_val, parameter_proxy_cache)
        name = self._held.get(id(attr_val))
        if not isinstance(attr_val, nn.Parameter) and name not in self.running:
            return super().getattr(attr, attr_val, parameter_proxy_cache)
        if name is None:
            return attr_val
        if name not in parameter_proxy_cache:
            parameter_proxy_cache[name] = self.create_proxy("get_attr", name, (), {})
        return parameter_proxy_cache[name]

    @property
    def _held(self) -> dict[int, str]:
        """Name of each parameter and buffer, by identity; torch.fx searches for it."""
        if self._names is None:
            named = [*self.root.named_buffers(), *self.root.named_parameters()]
            self._names = {id(item): name for name, item in named}
        return self._names

    @override
    def create_arg(self, a: Any) -> Any:
        if isinstance(a, torch.Tensor) and id(a) in self._held:
            return self.create_node("get_attr", self._held[id(a)], (), {})
        return super().create_arg(a.item() if isinstance(a, np.generic) else a)

    @override
    def create_args_for_root(
        self,
        root_fn: Any,
        is_module: bool,
        concrete_args: Any | None = None,
    ) -> tuple[Any, list[Any]]:
        """Return ``forward`` and its arguments: a symbol for each tensor.

        Containers of tensors stay what they are, and parameters without an example have
        their defaults; torch.fx itself would rewrite the code of ``forward``, which is
        that of a wrapper where it is decorated.
        """
        names = names_of(self.root, self.examples)
        given = [
            self._symbols(name, item)
            for name, item in zip(names, self.examples, strict=True)
        ]

        own = vars(self.root).get("forward")  # some libraries replace it

        def run(root: object, *args: object) -> object:
            return _written(own(*args) if own else root_fn(root, *args))

        return run, [self.root, *given]

    def _symbols(self, name: str, example: object) -> object:
        """Return an example with a symbol in place of each of its tensors."""
        if isinstance(example, torch.Tensor):
            return self._symbol(name, example)
        leaves, spec = pytree.tree_flatten(example)
        symbols = [
            self._symbol(f"{name}_{number}", leaf)
            if isinstance(leaf, torch.Tensor)
            else leaf
            for number, leaf in enumerate(leaves)
        ]
        return pytree.tree_unflatten(symbols, spec)

    def _symbol(self, name: str, example: torch.Tensor) -> object:
        self._example = example.clone()  # operations may change it in place
        known = (parameters(self.root) or {}).get(name)
        default = () if known is None or known.default is known.empty else known.default
        given = default if default == () else (default,)
        return self.create_proxy("placeholder", name, given, {})

    @override
    def proxy(self, node: fx.Node) -> Proxy:
        return Proxy(node, self)

    @override
    def create_node(
        self,
        kind: str,
        target: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str | None = None,
        type_expr: Any | None = None,
    ) -> fx.Node:
        node = super().create_node(kind, target, args, kwargs, name, type_expr)
        node.meta["place"] = _place()
        if kind == "get_attr":  # also of tensors that the forward makes itself
            with self._run():
                self.results[node] = _attribute(self.root, str(target))
        return node

    @override
    def create_proxy(
        self,
        kind: str,
        target: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str | None = None,
        type_expr: Any | None = None,
        proxy_factory_fn: Any | None = None,
    ) -> Any:
        found = super().create_proxy(
            kind, target, args, kwargs, name, type_expr, proxy_factory_fn
        )
        node = found.node
        if kind == "placeholder":
            self.results[node] = self._example
        elif kind != "get_attr":
            with self._run():
                self.results[node] = self._result(node)
        known = self.results[node]
        if isinstance(known, AttributeSize):
            known = self.results[node] = int.__index__(known)
        if known is None:
            return None  # code may ask whether it "is None"
        return Size(known, node, self) if type(known) is int else found

    @override
    def to_bool(self, obj: fx.Proxy) -> bool:
        known = self.results[obj.node]
        return super().to_bool(obj) if holds_data(known) else bool(known)

    @override
    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        known: Any = self.results[obj.node]
        items: Any = obj
        return iter([items[index] for index in range(len(known))])

    @contextmanager
    def _run(self) -> Iterator[None]:
        """Call modules plainly, although torch.fx has taken their calls over."""
        before, self._running, self.ledger.open = self.ledger.open, True, False
        try:
            yield
        finally:
            self._running, self.ledger.open = False, before

    def _result(self, node: fx.Node) -> object:
        args, kwargs = (
            fx.node.map_aggregate(given, self._known)
            for given in (node.args, node.kwargs)
        )
        try:
            return self._call(node, args, kwargs)
        except (Exception, SystemExit) as error:
            # The model's own code runs here and may raise anything.
            msg = first_line(error)
            raise RunError(msg) from error

    def _known(self, item: Any) -> Any:
        """Return what an operation gets; the walk sees what it does with a setting."""
        if isinstance(item, fx.Node):
            return self.results[item]
        return int.__index__(item) if isinstance(item, AttributeSize) else item

    def _called(self, node: fx.Node, args: Any, kwargs: Any) -> object:
        if node.op == "call_module":
            return self.root.get_submodule(str(node.target))(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        target: Any = node.target
        found: object = target(*args, **kwargs)
        return found

    def _call(self, node: fx.Node, args: Any, kwargs: Any) -> object:
        before = _versions(args)
        first = _versions(args[:1])
        found = self._called(node, args, kwargs)
        node.meta["changed"] = _versions(args[:1]) != first
        if node.op != "call_function":
            return found
        # A function that returned an argument unchanged has done nothing.
        same = isinstance(found, torch.Tensor) and _versions(args) == before
        if same and any(found is item for item in args):
            node.meta["identity"] = next(
                index for index, item in enumerate(args) if found is item
            )
        return found


def _place() -> str:
    """Return file and line of the user's code that is running, or "" in a library."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the public way reads every source file
    while frame is not None:
        path = frame.f_code.co_filename
        own = path.startswith(_PYTHON) and "site-packages" not in path
        if not own and not path.startswith(_OURS):
            return f"{'/'.join(Path(path).parts[-2:])}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _versions(args: Any) -> list[int]:
    return [item._version for item in args if isinstance(item, torch.Tensor)]  # noqa: SLF001 - torch has no other way to see a change


def _attribute(root: nn.Module, path: str) -> object:
    found: object = root
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _written(found: object) -> object:
    """Return a result in the containers that torch.fx can write down."""
    if isinstance(found, fx.Proxy | Size):
        return found
    if isinstance(found, tuple | list):
        return [_written(item) for item in found]
    if type(found) is dict:
        return {str(key): _written(item) for key, item in found.items()}
    return [*tensors_in(found, fx.Proxy)]
