# ruff: noqa: ANN401 - a forward may take and return anything
"""Modules whose own code writes a length that a cut changes.

Attention often writes the width of its input for that of its heads::

    b, n, c = x.shape
    ...
    x = (scores @ v).transpose(1, 2).reshape(b, n, c)

Without some of the heads that reshape asks for too many numbers.  A cut network leaves
such a length to torch, as if the code said ``reshape(b, n, -1)``: the module gets a
class of its own, whose forward runs the same code and replaces the length where, and
only where, the numbers do not fit.  The other lengths are right, so exactly one value
fits, and code that would run as it is runs as it is.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from fedprune.common.errors import StructureError
from fedprune.common.structure.parts import FREE, FreeLength

_RESHAPES = (torch.Tensor.reshape, torch.Tensor.view, torch.reshape)
_CLASSES: dict[type[nn.Module], type[nn.Module]] = {}
_MADE_OF = "_free_lengths_of"  # attribute of a class: the class of the user
_LENGTHS = "_free_lengths"  # attribute of a module: index of a length, by their number


class _Freeing(TorchFunctionMode):
    """Leaves a length of a reshape to torch where the lengths do not fit.

    Args:
        indices: Index of that length, by the number of lengths of the reshape.
    """

    def __init__(self, indices: dict[int, int]) -> None:
        super().__init__()
        self.indices = indices

    @override
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in _RESHAPES and not kwargs and isinstance(args[0], Tensor):
            lengths = _lengths(args[1:])
            index = self.indices.get(len(lengths))
            if index is not None and _misfit(args[0], lengths):
                lengths[index] = FREE
                return func(args[0], lengths)
        return func(*args, **(kwargs or {}))


def _lengths(given: Sequence[Any]) -> list[Any]:
    """Return the lengths of a reshape, given one by one or as one shape."""
    if len(given) == 1 and isinstance(given[0], tuple | list):
        return [*given[0]]
    return [*given]


def _misfit(value: Tensor, lengths: Sequence[Any]) -> bool:
    if any(isinstance(item, torch.dtype) for item in lengths):  # x.view(torch.int32)
        return False
    return FREE not in lengths and bool(prod(lengths) != value.numel())


def free_lengths(model: nn.Module, free: Iterable[FreeLength]) -> None:
    """Let modules run whose code writes a length that a cut has changed.

    Args:
        model: The cut network; modules change their class, not their tensors.
        free: Lengths that are left to torch.
    """
    found: dict[str, dict[int, int]] = {}
    for item in free:
        found.setdefault(item.module, {})[item.rank] = item.index
    for name, indices in found.items():
        module = model.get_submodule(name)
        kind = vars(type(module)).get(_MADE_OF, type(module))
        vars(module)[_LENGTHS] = indices
        module.__class__ = _freed(kind)


def _freed(kind: type[nn.Module]) -> type[nn.Module]:
    """Return the subclass of a module class that leaves lengths to torch."""
    if kind not in _CLASSES:
        _CLASSES[kind] = _subclass(kind)
    return _CLASSES[kind]


def _subclass(kind: type[nn.Module]) -> type[nn.Module]:
    @wraps(kind.forward)  # exports read the names of its arguments
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with _Freeing(vars(self)[_LENGTHS]):
            return kind.forward(self, *args, **kwargs)

    def reduce(self: nn.Module, protocol: Any) -> Any:
        # No module of Python has this class by its name, so copies name the other.
        state = object.__reduce_ex__(self, protocol)[2:]
        return (_rebuilt, (kind,), *state)

    body = {"forward": forward, "__reduce_ex__": reduce, _MADE_OF: kind}
    body |= {"__module__": kind.__module__, "__doc__": kind.__doc__}
    try:
        made: Any = type(kind)
        found: type[nn.Module] = made(kind.__name__, (nn.Module,), body)
        found.__bases__ = (kind,)  # now, as some classes list their subclasses
    except TypeError as error:
        msg = f"class {kind.__name__} cannot have a subclass that leaves lengths to"
        msg += f" torch ({error}); name its modules in ignore="
        raise StructureError(msg) from error
    return found


def _rebuilt(kind: type[nn.Module]) -> nn.Module:
    """Return an empty module of the class that leaves lengths to torch."""
    found = _freed(kind)
    return found.__new__(found)
