"""One operation of a network with its operands, as the functions in ops.py see it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from torch import nn

from common.errors import StructureError
from common.pruning.labels import Labels, Ledger, Value
from common.pruning.parts import Attribute


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeOf:
    """The whole shape of a value, as ``x.shape`` and ``x.size()`` read it."""

    value: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One operation of the network, with its operands.

    Attributes:
        ledger: Where labels are recorded.
        module: The module that is called, or None for a function.
        module_name: Its dotted name, or empty.
        args: Operands: tensors as Value, anything else as it is.
        kwargs: The same by name.
        result: What the example gave: a Value without labels, or a plain value.
    """

    ledger: Ledger
    module: nn.Module | None
    module_name: str
    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    result: object

    def argument(self, index: int, name: str, default: object = None) -> object:
        """Return an argument given by position or by name."""
        if index < len(self.args):
            return self.args[index]
        return self.kwargs.get(name, default)

    def operand(self, index: int = 0, name: str = "input") -> Value:
        """Return an argument that has to be a tensor."""
        found = self.argument(index, name)
        if not isinstance(found, Value):
            msg = f"operand '{name}' is a {type(found).__name__}; want a tensor"
            raise StructureError(msg)
        return found

    def value(self, labels: Mapping[int, Labels | None]) -> Value:
        """Return the result with these labels; None = the dimension never changes."""
        if not isinstance(self.result, Value):
            msg = f"the result is a {type(self.result).__name__}; want one tensor"
            raise StructureError(msg)
        known = {dim: row for dim, row in labels.items() if row is not None}
        for dim, row in known.items():
            if self.result.shape[dim] != len(row):
                msg = f"{len(row)} channels, but {self.result.shape[dim]} long"
                raise StructureError(msg)
        return Value(shape=self.result.shape, labels=known)

    def follow(self, name: str, tensor: str, dim: int, divisor: int = 1) -> None:
        """Let attribute ``name`` of the module follow a tensor dimension."""
        self.ledger.follow(
            Attribute(
                module=self.module_name,
                name=name,
                tensor=tensor,
                dim=dim,
                divisor=divisor,
            )
        )


Handler: TypeAlias = Callable[[Call], object]


def channels_only(value: Value, rank: int) -> Labels | None:
    """Return the labels of dim 1 of a batched value whose other dims are not cut."""
    if len(value.shape) != rank:
        msg = f"the input has {len(value.shape)} dimensions; want {rank}, batch first"
        raise StructureError(msg)
    if value.labels.keys() - {1}:
        msg = f"it mixes positions of a dimension that can be cut: {[*value.labels]}"
        raise StructureError(msg)
    return value.labels.get(1)
