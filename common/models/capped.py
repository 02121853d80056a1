"""Networks that a file describes are built within bounds."""

import math
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from common.errors import IntegrityError

_MAKERS = frozenset(
    {torch.empty, torch.zeros, torch.ones, torch.full, torch.eye}
    | {torch.rand, torch.randn, torch.arange, torch.linspace}
)


class ByteLimit(TorchFunctionMode):
    """Inside of this, new tensors together take at most ``limit`` bytes.

    What a name, a shape and a number of outputs amount to is known only by building;
    each tensor's size is asked on torch's meta device before its memory is taken.

    Args:
        limit: Bytes, >= 0.
        where: What is built, for the message.
    """

    def __init__(self, limit: int, where: str) -> None:
        super().__init__()
        self._limit = self._left = limit
        self._where = where

    @override
    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if func in _MAKERS:
            meta = func(*args, **{**given, "device": "meta"})
            self._left -= math.prod(meta.shape) * meta.element_size()
        if self._left < 0:
            msg = (
                f"{self._where}: its network takes more than {self._limit} bytes; "
                "load it with max_bytes= if it is meant to be so large"
            )
            raise IntegrityError(msg)
        return func(*args, **given)
