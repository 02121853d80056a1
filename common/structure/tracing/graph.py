"""The name of a traced network: equal names mean equal computation."""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from hashlib import blake2b
from types import FunctionType

import torch
from torch import Tensor, fx, nn

from fedprune.common.models.flat import norm_modules
from fedprune.common.structure.tracing.code_text import (
    code_of_class,
    code_of_function,
    is_known,
)

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_INTERNAL = frozenset(vars(nn.Module()))  # every module has these; none is a setting
_SETTINGS = (
    *(type(None), bool, int, float, complex, str, bytes, tuple, list, dict),
    *(set, frozenset, slice, torch.dtype, Tensor, Enum),
)


def graph_digest(network: nn.Module, graph: fx.Graph) -> str:
    """Return 32 hex digits that identify the computation of a network, without weights.

    Operations and their arguments, in order; types, settings and shapes of the modules
    and tensors that they use, and which weights are trained; constants by their
    values.  A module that is called as one operation counts with all modules in it,
    and one of the user's with the code of its class.  Weights and running moments
    count by their shapes alone: training changes them.

    Args:
        network: The network that the graph was traced from.
        graph: Its graph.
    """
    lines = [line for node in graph.nodes for line in _lines(network, node)]
    lines += [
        f"{name} {_tensor(item)} {'trained' if item.requires_grad else 'frozen'}"
        for name, item in network.named_parameters()
    ]
    lines += [f"{name} {_content(item)}" for name, item in _constants(network)]
    return _digest("\n".join(lines).encode())


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()


def _constants(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the buffers that are part of the computation: all but running moments."""
    moments = {id(b) for _, norm in norm_modules(network) for b in norm.buffers()}
    for name, item in network.named_buffers():
        if id(item) not in moments:
            yield name, item


def _content(item: Tensor) -> str:
    if item.layout != torch.strided or item.is_quantized or item.is_meta:
        return _tensor(item)
    data = item.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return f"{_tensor(item)} {_digest(data.tobytes())}"


def _lines(network: nn.Module, node: fx.Node) -> Iterator[str]:
    """Yield an operation, and each module inside of the one that it calls."""
    target = _plain(node.target)
    yield f"{node.name} {node.op} {target} {_plain(node.args)} {_plain(node.kwargs)}"
    if node.op == "get_attr" and node.target in vars(network):
        # A tensor that the forward made itself; weights and buffers follow below.
        yield f"{target} {_plain(vars(network)[str(node.target)])}"
    if node.op == "call_module":
        called = network.get_submodule(str(node.target))
        for name, module in called.named_modules():
            kind = type(module).__qualname__
            yield f"{target}/{name} {kind}({_settings(module)}) {_code(module)}"


def _settings(module: nn.Module) -> str:
    """Return the settings of a module: its ``extra_repr`` and plain attributes."""
    # The extra_repr of attention lacks its number of heads.
    hidden = "_" if is_known(type(module)) else ()  # libraries mark torch's modules
    found = [
        f"{name}={_plain(value)}"
        for name, value in sorted(vars(module).items())
        if name not in _INTERNAL and _is_setting(value) and not name.startswith(hidden)
    ]
    return ", ".join([_ADDRESS.sub("", module.extra_repr()), *found])


def _is_setting(value: object) -> bool:
    return isinstance(value, _SETTINGS) or callable(value) or is_dataclass(value)


def _code(module: nn.Module) -> str:
    """Return the code of a module that is not torch's own, "" for the others."""
    text = code_of_class(type(module), _plain)
    own = vars(module).get("forward")
    return text if own is None else f"{text} {code_of_function(own, _plain)}"


def _plain(value: object) -> str:
    """Return a value as text that does not change between processes."""
    value = _listed(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, fx.Node):
        return f"%{value.name}"
    if isinstance(value, Tensor):
        return _tensor(value) if isinstance(value, nn.Parameter) else _content(value)
    if callable(value):
        name = getattr(value, "__qualname__", type(value).__qualname__)
        # A user's file is imported under another name after each change.
        code = code_of_function(value, _plain)
        return f"{code or getattr(value, '__module__', '')}.{name}{_own(value)}"
    return _ADDRESS.sub("", repr(value))


def _own(value: object) -> str:
    """Return the plain attributes of a callable object, "" of functions."""
    if isinstance(value, type | FunctionType | nn.Module):
        return ""
    found = getattr(value, "__dict__", {})
    return "".join(
        f" {name}={_plain(item)}"
        for name, item in sorted(found.items())
        if isinstance(item, _SETTINGS)
    )


def _listed(value: object) -> object:
    """Return compound values as lists, other values unchanged."""
    if isinstance(value, partial):
        return ["partial", value.func, *value.args, value.keywords]
    if isinstance(value, Enum):
        return [type(value).__qualname__, value.name]
    if is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value)]
        return [type(value).__qualname__, *((n, getattr(value, n)) for n in names)]
    return _collected(value)


def _collected(value: object) -> object:
    if isinstance(value, slice):
        return ["slice", value.start, value.stop, value.step]
    if isinstance(value, dict):
        return ["dict", *value.items()]
    if isinstance(value, set | frozenset):
        return ["set", *sorted(map(_plain, value))]
    return value


def _tensor(value: Tensor) -> str:
    kind = str(value.dtype).removeprefix(f"{torch.__name__}.")
    return f"{kind}{list(value.shape)}"
