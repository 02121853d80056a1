# ruff: noqa: ANN401 - torch.fx has no types for what it passes through
"""Values of a trace whose results are known: sizes, and all others.

Because every result is known while the network is traced, its code may loop over
shapes, compare sizes and branch on them.
"""

import math
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx
from torch.utils import _pytree as pytree
from typing_extensions import override

from fedprune.common.structure.sizes import AttributeSize, Recorded

# Properties of a tensor that no data and no cut of channels changes.
_KINDS = (torch.dtype, torch.device, torch.layout, bool)


# What numpy and torch ask of an array, which a symbol is not.
_ARRAYS = ("__array_", "__cuda_array_", "__dlpack")
# These read the digits of a whole number, and ask it for nothing.
_DIGITS = ("log", "log2", "log10", "isqrt", "gcd", "lcm", "comb", "perm", "factorial")


class Recorder(fx.Tracer):
    """A tracer that knows results.

    Attributes:
        results: Result of each node for the example.
    """

    results: dict[fx.Node, object]


class Size(Recorded):
    """A whole number that a recorded operation returned, mostly a size.

    It is an int wherever Python or torch wants one; calculations with it are recorded
    like any other operation.  A tensor that torch makes from the bare number, such as
    ``torch.arange(n)``, is a constant, and the channels that it meets are not cut.
    """

    node: fx.Node
    tracer: Recorder

    def __new__(cls, number: int, node: fx.Node, tracer: Recorder) -> "Size":
        """Return ``number`` with its operation."""
        found = super().__new__(cls, number)
        found.node, found.tracer = node, tracer
        return found

    def __fx_create_arg__(self, tracer: fx.Tracer) -> fx.Node:
        """Return its node in a recorded operation."""
        return self.node

    @override
    def __float__(self) -> float:
        """Return the number, as a recorded operation."""
        self.tracer.create_proxy("call_function", float, (self,), {})
        return float(int.__index__(self))

    @override
    def __int__(self) -> int:
        """Return the number, as a recorded operation."""
        self.tracer.create_proxy("call_function", int, (self,), {})
        return int.__index__(self)

    @override
    def __bool__(self) -> bool:
        """Return whether it is not 0, as a recorded operation."""
        return bool(self != 0)

    @override
    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    @override
    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    __hash__ = int.__hash__


def _recorded(function: Callable[..., object], *, swap: bool = False) -> Any:
    def calculate(self: Size, *others: Any) -> Any:
        args = (*others, self) if swap else (self, *others)
        return self.tracer.create_proxy("call_function", function, args, {})

    return calculate


def _compared(function: Callable[..., object]) -> Any:
    def compare(self: Size, other: Any) -> Any:
        if not isinstance(other, int | float):
            return NotImplemented
        self.tracer.create_proxy("call_function", function, (self, other), {})
        known = int.__index__(other) if isinstance(other, int) else other
        return function(int.__index__(self), known)

    return compare


def _plain(name: str) -> Any:
    """Return a calculation of int whose number must not change."""

    def calculate(self: Size, *others: Any) -> Any:
        found = [int(item) if isinstance(item, Size) else item for item in others]
        return getattr(int(self), name)(*found)

    return calculate


for _name in ("add", "sub", "mul", "floordiv", "truediv", "mod", "pow"):
    _function = getattr(operator, _name)
    setattr(Size, f"__{_name}__", _recorded(_function))
    setattr(Size, f"__r{_name}__", _recorded(_function, swap=True))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Size, f"__{_name}__", _compared(getattr(operator, _name)))
for _name in (
    *("lshift", "rlshift", "rshift", "rrshift", "and", "rand", "or", "ror"),
    *("xor", "rxor", "invert", "abs", "round", "ceil", "floor", "trunc"),
):
    setattr(Size, f"__{_name}__", _plain(f"__{_name}__"))
Size.bit_length = _plain("bit_length")  # type: ignore[method-assign]
Size.__neg__ = _recorded(operator.neg)  # type: ignore[method-assign]


@contextmanager
def numbers_of_math() -> Iterator[None]:
    """Let functions of ``math`` ask sizes and settings for their plain numbers."""
    before = {name: getattr(math, name) for name in _DIGITS}
    for name, function in before.items():
        setattr(math, name, _asking(function))
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(math, name, function)


def _asking(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def calculate(*given: Any) -> Any:
        known = (Recorded, AttributeSize)
        return function(*(int(n) if isinstance(n, known) else n for n in given))

    return calculate


class Proxy(fx.Proxy):
    """A value whose result is known: sizes are numbers where Python needs one."""

    tracer: Recorder

    @property
    def known(self) -> object:
        """The result for the example."""
        return self.tracer.results[self.node]

    @override
    def __getattr__(self, k: str) -> Any:
        if k.startswith(_ARRAYS):
            raise AttributeError(k)
        if k.startswith("__") or callable(getattr(self.known, k, None)):
            return super().__getattr__(k)
        if not hasattr(self.known, k):
            msg = f"'{type(self.known).__name__}' has no attribute '{k}'"
            raise AttributeError(msg)
        found = getattr(self.known, k)
        if isinstance(self.known, torch.Tensor) and isinstance(found, _KINDS):
            return found  # it does not change with the data, or with a cut
        return self.tracer.create_proxy("call_function", getattr, (self, k), {})

    def plain(self) -> Any:
        """Return a number or shape without symbols, as recorded operations.

        Raises:
            TraceError: If it is data, which differ between examples.
        """
        if isinstance(self.known, tuple | list) and not holds_data(self.known):
            items: Any = self
            return [int(item) for item in items]
        return float(self)

    def __array__(self, dtype: Any = None, copy: object = None) -> NDArray[np.generic]:
        """Return a shape to numpy, as in ``np.prod(x.shape[1:])``."""
        found: NDArray[np.generic] = np.asarray(self.plain(), dtype)
        return found

    def __setitem__(self, key: Any, value: Any) -> None:
        """Write items in place, as a recorded operation."""
        self.tracer.create_proxy(
            "call_function", operator.setitem, (self, key, value), {}
        )

    @override
    def __len__(self) -> int:
        self.tracer.create_proxy("call_function", len, (self,), {})
        return len(self.known)  # type: ignore[arg-type]

    def __int__(self) -> int:
        """Return the number without its fraction, as a recorded operation."""
        return int(float(self))

    def __ceil__(self) -> int:
        """Return the next whole number above, as a recorded operation."""
        return math.ceil(float(self))

    def __floor__(self) -> int:
        """Return the next whole number below, as a recorded operation."""
        return math.floor(float(self))

    def __trunc__(self) -> int:
        """Return the number without its fraction, as a recorded operation."""
        return math.trunc(float(self))

    def __round__(self, digits: int | None = None) -> Any:
        """Return the rounded number, as a recorded operation."""
        return round(float(self), digits)

    def __float__(self) -> float:
        """Return the number, as a recorded operation."""
        if holds_data(self.known):
            msg = "a number is read from data, which differ between examples"
            raise fx.proxy.TraceError(msg)
        number: Any = self.known
        self.tracer.create_proxy("call_function", float, (self,), {})
        return float(number)


def _in_place(function: Callable[..., object], plain: Callable[..., object]) -> Any:
    """Return ``x += y`` and its like: of tensors in place, of other values not."""

    def change(self: Proxy, other: Any) -> Any:
        called = function if isinstance(self.known, torch.Tensor) else plain
        return self.tracer.create_proxy("call_function", called, (self, other), {})

    return change


for _name in (
    *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"),
    *("and", "or", "xor"),
):
    _change = getattr(operator, f"__i{_name}__"), getattr(operator, f"__{_name}__")
    setattr(Proxy, f"__i{_name}__", _in_place(*_change))


def holds_data(known: object) -> bool:
    """Return whether a result holds a tensor, whose numbers differ by example."""
    return any(isinstance(x, torch.Tensor) for x in pytree.tree_leaves(known))
