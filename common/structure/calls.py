"""One operation of a network with its operands: the argument of the rules."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
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
        caller: The module whose code calls a function, if it is known.
    """

    labelling: Labelling
    module: nn.Module | None
    module_name: str
    title: str
    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    result: object
    code: str | None = None
    caller: nn.Module | None = None

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

    def weight(self, index: int, name: str) -> "Weight | None":
        """Return an argument that has to be a weight, calculated or not, or absent."""
        found = self.argument(index, name)
        if found is None:
            return None
        if not isinstance(found, Value):
            msg = f"operand '{name}' is a {type(found).__name__}; want a tensor"
            raise StructureError(msg)
        return self.weight_of(found)

    def weight_of(self, value: Value) -> "Weight":
        """Return a value as a weight that this operation uses."""
        return Weight(call=self, value=value, tensor=value.tensor)

    def held(self, tensor: torch.Tensor | None) -> "Weight | None":
        """Return a weight that the module itself has, or None without one."""
        if tensor is None:
            return None
        value = Value(
            shape=tuple(tensor.shape),
            zero=self.labelling.is_masked(tensor),
            sources=(tensor,),
        )
        return Weight(call=self, value=value, tensor=tensor)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """A weight, bias or scale that an operation uses.

    Attributes:
        call: The operation.
        value: Its value; without labels for a tensor of the module.
        tensor: The parameter or buffer that it is; None for one that the network
            calculates, whose labels are those of the tensors that it comes from.
    """

    call: Call
    value: Value
    tensor: torch.Tensor | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.value.shape

    @property
    def zero(self) -> bool:
        """True if its entries at a masked unit are 0."""
        return self.value.zero

    @property
    def trained(self) -> bool:
        """True if it is, or comes from, a trained tensor."""
        return any(isinstance(item, nn.Parameter) for item in self.value.sources)

    @property
    def name(self) -> str:
        """Name of the tensor, "" for a calculated one."""
        return "" if self.tensor is None else self.call.labelling.names[id(self.tensor)]

    def record(self, dim: int, labels: Labels | None) -> None:
        """Let the positions along ``dim`` meet labels; None = never changes."""
        row = self.value.labels.get(dim)
        if self.tensor is not None:
            self.call.labelling.record(self.tensor, dim, labels)
        elif labels is not None:
            self.call.join(row, labels)
        elif row is not None:
            self.call.labelling.hold(row, "it meets what never changes")

    def produce(self, dim: int, labels: Labels | None) -> None:
        """Record a dimension whose positions make channels."""
        if self.tensor is not None:
            self.call.labelling.produce(self.tensor, dim, labels)
            return
        self.record(dim, labels)
        if labels is not None:
            self.call.labelling.credit(self.value.sources, labels)

    def count(self, positions: int) -> None:
        """Add output positions of one example that each entry is multiplied at.

        The entries of a calculated weight count as those of its largest tensor.
        """
        trained = [x for x in self.value.sources if isinstance(x, nn.Parameter)]
        found = max(trained, key=torch.Tensor.numel, default=self.tensor)
        if found is None or not found.numel():
            return
        times = round(positions * prod(self.shape) / found.numel())
        self.call.labelling.count(self.call.labelling.names[id(found)], max(times, 1))


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
