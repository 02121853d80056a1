"""Double precision for code that asks for single precision."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from typing_extensions import override

_SINGLE = torch.float32


@contextmanager
def in_double() -> Iterator[None]:
    """Run a network of doubles without the roundings of its own conversions.

    Networks write ``x.float()``, ``dtype=torch.float32`` or ``torch.zeros(n)``: for a
    moment these all mean float64.  Half precision stays as it is.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Double():
            yield
    finally:
        torch.set_default_dtype(before)


class _Double(TorchFunctionMode):
    """A mode in which float32 means float64."""

    @override
    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        called: Any = Tensor.double if func is Tensor.float else func
        wide = [torch.float64 if item is _SINGLE else item for item in args]
        named = {
            key: torch.float64 if item is _SINGLE else item
            for key, item in (kwargs or {}).items()
        }
        return called(*wide, **named)
