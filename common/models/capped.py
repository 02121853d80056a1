"""Limit on the memory of a network that a file describes."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override

from fedprune.common.errors import IntegrityError

_PLACED = ("generator", "pin_memory")  # arguments that need real memory

Operation = Any  # an overload of torch's operator library, which has no public type


class ByteLimit(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside of this, new tensors together take at most ``limit`` bytes.

    The memory of a network is known only after building it; so each operation runs on
    torch's meta device first, which has shapes and no memory, to count its bytes.
    Memory that is freed again counts as well.

    Not counted: memory of Python and NumPy (``torch.tensor`` of a list,
    ``from_numpy``), storages that are made or resized by hand, temporary memory of an
    operation, and other threads.  Counted only afterwards: results whose size depends
    on values (``nonzero``), or that the meta device cannot compute (of sparse tensors).

    Args:
        limit: Bytes, >= 0.
        where: Name of the file, for the message.
    """

    def __init__(self, limit: int, where: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._limit = self._left = limit
        self._where = where

    @override
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and importing that takes a second

    @override
    def __torch_dispatch__(
        self,
        func: Operation,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if _device(args, given) == "meta":
            return func(*args, **given)
        needed = _foreseen(func, args, given)
        if needed is not None:
            self._take(needed)
        made = func(*args, **given)
        if needed is None:
            self._take(sum(_bytes(item) for item in _fresh(func, made)))
        return made

    def _take(self, number: int) -> None:
        self._left -= number
        if self._left < 0:
            msg = (
                f"{self._where}: its network takes more than {self._limit} bytes; "
                "load it with max_bytes= if it is meant to be so large"
            )
            raise IntegrityError(msg)


def _device(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return the type of device that the result of an operation is on."""
    device = kwargs.get("device")
    if device is None:
        tensors = (x for x in pytree.tree_leaves(args) if isinstance(x, Tensor))
        device = next((item.device for item in tensors), torch.get_default_device())
    return torch.device(device).type


def _foreseen(
    func: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> int | None:
    """Return the bytes that an operation will take, None where that is unknown."""
    twins: dict[int, tuple[Tensor, int]] = {}

    def twin(item: object) -> object:
        """Return a tensor of the same shape without memory, one for each tensor."""
        if not isinstance(item, Tensor):
            return item
        if id(item) not in twins:
            size, stride = item.size(), item.stride()
            meta = torch.empty_strided(size, stride, dtype=item.dtype, device="meta")
            twins[id(item)] = meta, _bytes(meta)
        return twins[id(item)][0]

    try:
        there, named = pytree.tree_map(twin, (args, kwargs))
        named.update((key, None) for key in _PLACED if key in named)
        if "device" in named or _makes_from_nothing(func, twins):
            named["device"] = "meta"
        new = sum(_bytes(item) for item in _fresh(func, func(*there, **named)))
        # An output that is given, or a tensor that is resized, may have grown.
        return new + sum(max(0, _bytes(item) - was) for item, was in twins.values())
    except Exception:  # it is unknown, or the operation itself is going to fail
        return None


def _makes_from_nothing(func: Operation, tensors: dict[int, Any]) -> bool:
    takes = any(argument.name == "device" for argument in func._schema.arguments)  # noqa: SLF001
    return takes and not tensors


def _fresh(func: Operation, made: object) -> Iterator[Tensor]:
    """Yield the results of an operation that are no views of its arguments."""
    returns = func._schema.returns  # noqa: SLF001 - torch has no public list of them
    results = (made,) if len(returns) == 1 else made
    if not isinstance(results, tuple | list):
        return
    for described, item in zip(returns, results, strict=True):
        if described.alias_info is None:
            yield from (x for x in pytree.tree_leaves(item) if isinstance(x, Tensor))


def _bytes(item: Tensor) -> int:
    """Return the bytes of a tensor's memory, which strides may make larger."""
    if item.layout is not torch.strided:
        return 0  # its parts were counted when they were allocated
    return item.untyped_storage().nbytes()
