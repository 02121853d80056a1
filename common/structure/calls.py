"""One operation of a network with its operands: the argument of the rules."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import torch
from torch import nn

from fedprune.common.errors import StructureError
from fedprune.common.structure.labels import Labelling, Labels, Value
from fedprune.common.structure.parts import Attribute


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeOf:
    """The whole shape of a value, as ``x.shape`` and ``x.size()`` read it."""

    value: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded:
    """A value that may be used only when certain labels are never cut.

    Attributes:
        value: The value.
        labels: Labels that its use fixes.
        why: Reason, for the note.
    """

    value: Value
    labels: Labels
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One operation of the network, with its operands.

    Attributes:
        labelling: The labelling of the network so far.
        module: The module that is called, or None for a function.
        module_name: Its dotted name, "" for a function.
        title: Name of the operation in messages.
        args: Operands: tensors as Value, anything else as it is.
        kwargs: Keyword operands.
        result: Result for the example: a Value without labels, or a plain value.
        code: Name of the module whose code makes the call; None where that code is
            not the ``forward`` of its class.
    """

    labelling: Labelling
    module: nn.Module | None
    module_name: str
    title: str
    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    result: object
    code: str | None = None

    def argument(self, index: int, name: str, default: object = None) -> object:
        """Return a positional or keyword argument."""
        if index < len(self.args):
            return self.args[index]
        return self.kwargs.get(name, default)

    def operand(self, index: int = 0, name: str = "input") -> Value:
        """Return an argument that has to be a tensor."""
        found = self.argument(index, name)
        if found is None and name == "input":
            found = self.argument(index, "x")
        if not isinstance(found, Value):
            msg = f"operand '{name}' is a {type(found).__name__}; want a tensor"
            raise StructureError(msg)
        return found

    def tensor(self, index: int, name: str) -> torch.Tensor | None:
        """Return an argument that has to be a parameter, a buffer or absent."""
        found = self.argument(index, name)
        if found is None:
            return None
        if not isinstance(found, Value) or found.tensor is None:
            msg = f"operand '{name}' is calculated; want a parameter or a buffer"
            raise StructureError(msg)
        return found.tensor

    def value(
        self, labels: Mapping[int, Labels | None], *, zero: bool | None = None
    ) -> Value:
        """Return the result with these labels.

        Args:
            labels: By dimension; None = the dimension never changes.
            zero: Whether it is exactly 0 at masked units; by default where all
                operands are.
        """
        if not isinstance(self.result, Value):
            msg = f"the result is a {type(self.result).__name__}; want one tensor"
            raise StructureError(msg)
        rank = len(self.result.shape)  # a negative dimension counts from the end
        known = {dim % rank: row for dim, row in labels.items() if row is not None}
        for dim, row in known.items():
            if self.result.shape[dim] != len(row):
                msg = f"{len(row)} channels, but {self.result.shape[dim]} long"
                raise StructureError(msg)
        if zero is None:
            zero = all(item.zero for item in values_in((self.args, self.kwargs)))
        return Value(shape=self.result.shape, labels=known, zero=zero)

    def result_length(self, dim: int) -> int:
        """Return the length of the result along ``dim`` for the example."""
        assert isinstance(self.result, Value)  # noqa: S101 - asked of one tensor only
        return self.result.shape[dim]

    def fix(self, labels: Labels | None, why: str) -> None:
        """Never cut these labels, because of this operation."""
        self.labelling.fix(labels, f"{self.title}: {why}")

    def join(self, left: Labels | None, right: Labels | None) -> Labels | None:
        """Union two dimensions that meet here; None = never changes."""
        why = f"{self.title}: channels meet what never changes"
        return self.labelling.join(left, right, why)

    def fix_value(self, value: Value, why: str) -> None:
        """Never cut any dimension of a value, because of this operation."""
        self.labelling.fix_value(value, f"{self.title}: {why}")

    def follow(self, name: str, tensor: str, dim: int, divisor: int = 1) -> None:
        """Let attribute ``name`` of the module follow a tensor dimension."""
        if self.module is None:
            return
        self.labelling.follow(
            Attribute(
                module=self.module_name,
                name=name,
                tensor=tensor,
                dim=dim,
                divisor=divisor,
            )
        )


Handler: TypeAlias = Callable[[Call], object]


def values_in(found: object) -> Iterator[Value]:
    """Yield every tensor in nested arguments."""
    if isinstance(found, Value):
        yield found
    elif isinstance(found, Guarded):
        yield found.value
    elif isinstance(found, Mapping):
        for item in found.values():
            yield from values_in(item)
    elif isinstance(found, tuple | list):
        for item in cast("tuple[Any, ...]", found):
            yield from values_in(item)


def channels_only(call: Call, value: Value, rank: int) -> Labels | None:
    """Return the labels of dim 1 of a batched value; other dims are not cut here."""
    if len(value.shape) != rank:
        msg = f"the input has {len(value.shape)} dimensions; want {rank}, batch first"
        raise StructureError(msg)
    for dim in sorted(value.labels.keys() - {1}):
        call.fix(value.labels[dim], f"it mixes the positions of dimension {dim}")
    return value.labels.get(1)
