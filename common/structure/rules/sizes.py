"""Rules for sizes: reading them from values, and calculating with them."""

from fractions import Fraction
from math import prod
from typing import cast

import torch

from fedprune.common.errors import StructureError
from fedprune.common.structure.calls import Call, Guarded, SizeOf
from fedprune.common.structure.labels import Value
from fedprune.common.structure.rules.indexing import index
from fedprune.common.structure.sizes import (
    AttributeSize,
    Length,
    Quotient,
    follows,
    plain,
)

_TRANSPOSED = ("T", "H", "mT", "mH")
_FIELDS = ("values", "indices")  # of what max, min, sort and topk return


def read_attribute(call: Call) -> object:
    """``x.shape``, and attributes that do not depend on channels, like ``x.ndim``."""
    found = call.args[0]
    if isinstance(found, Value) and call.args[1] == "shape":
        return SizeOf(value=found)
    if isinstance(found, tuple) and call.args[1] in _FIELDS:
        return found[_FIELDS.index(str(call.args[1]))]
    if isinstance(found, Value) and call.args[1] in _TRANSPOSED:
        rank = len(found.shape)
        first = 0 if call.args[1] == "T" else rank - 2
        rows = found.labels.items()
        return call.value(
            {first + rank - 1 - d if d >= first else d: row for d, row in rows}
        )
    if isinstance(call.result, Value):
        msg = f"it reads '{call.args[1]}' of a tensor; only 'shape' is followed"
        raise StructureError(msg)
    return call.result


def read_size(call: Call) -> object:
    """``x.size()`` or ``x.size(dim)``."""
    dim = call.argument(1, "dim")
    whole = SizeOf(value=call.operand())
    return whole if dim is None else _size(whole, dim)


def read_length(call: Call) -> object:
    """``len(x)``."""
    found = call.args[0]
    if isinstance(found, Value):
        return plain(call.labelling, _size(SizeOf(value=found), 0))
    return call.result


def read_number(call: Call) -> object:
    """``x.numel()``."""
    value = call.operand()
    whole = prod(value.shape)
    if len(value.labels) != 1:
        call.fix_value(value, "it calculates with a whole shape")
        return whole
    row = next(iter(value.labels.values()))
    return Length(number=whole, labels=row, ratio=Fraction(whole, len(row)))


def read_item(call: Call) -> object:
    """``x.shape[dim]``, ``x[key]``, or one item of a tuple."""
    found, key = call.args
    if isinstance(found, SizeOf):
        return _size(found, key)
    if isinstance(found, Value):
        return index(call, found, key)
    if isinstance(found, tuple | list | dict) and not isinstance(key, Value):
        item = cast("tuple[object, ...]", found)[cast("int", key)]
        if isinstance(item, Guarded):
            call.labelling.fix(item.labels, item.why)
            return item.value
        return item
    return call.result


def _size(whole: SizeOf, dim: object) -> object:
    """Return one size or some of them, with the labels that they count."""
    shape = whole.value.shape
    if isinstance(dim, slice):
        return tuple(_size(whole, axis) for axis in range(len(shape))[dim])
    if not isinstance(dim, int):
        msg = f"it reads sizes {dim}; want one, as in x.shape[0]"
        raise StructureError(msg)
    axis = dim % len(shape)
    labels = whole.value.labels.get(axis)
    if labels is None:
        return shape[axis]
    return Length(number=shape[axis], labels=labels)


def multiply_sizes(call: Call) -> object:
    """A product of lengths, one of which may change."""
    left, right = call.args
    for one, other in ((left, right), (right, left)):
        if isinstance(one, Length) and type(other) is int:
            return one.scaled(Fraction(other)) or plain(call.labelling, one) * other
        if isinstance(one, Length) and isinstance(other, AttributeSize):
            if call.labelling.is_fixed(one.labels):  # the other one may change
                return one.number * other
            other.mark()
            return one.scaled(Fraction(int(other)))
    if isinstance(left, int) and isinstance(right, int):
        return left * right
    return plain(call.labelling, left) * plain(call.labelling, right)


def divide_sizes(call: Call) -> object:
    """An exact quotient of lengths."""
    left, right = call.args
    if isinstance(left, Length) and type(right) is int:
        found = left.scaled(Fraction(1, right))
        return found or plain(call.labelling, left) // right
    if isinstance(left, AttributeSize) and type(right) is int:
        return left // right
    if isinstance(left, Length) and isinstance(right, AttributeSize):
        times = left.number // int(right)
        weights = call.labelling.weigh(left.labels, left.ratio).values()
        # As many copies of each head, one for each example.
        copies = left.number == times * int(right) and {*weights} == {times}
        if copies and follows(call.labelling, right * times, left.labels):
            return times
    if isinstance(left, Length | int) and isinstance(right, AttributeSize):
        whole = left.number if isinstance(left, Length) else int(left)
        return Quotient(number=whole // int(right), parts=(left, right))
    return plain(call.labelling, left) // plain(call.labelling, right)


def calculate(call: Call) -> object:
    """Any other calculation with numbers fixes the channels that they count."""
    for item in (*call.args, *call.kwargs.values()):
        if isinstance(item, SizeOf):
            call.fix_value(item.value, "it calculates with a whole shape")
        plain(call.labelling, item)
    return call.result


def number_of(call: Call) -> object:
    """``int(n)`` and other uses of a plain number."""
    return calculate(call)


def join_shapes(call: Call) -> object:
    """``x.shape[:-1] + (heads, -1)``: a shape made of parts."""
    parts: list[object] = []
    for item in call.args:
        if isinstance(item, SizeOf):
            parts += [_size(item, dim) for dim in range(len(item.value.shape))]
        else:
            parts += cast("tuple[object, ...]", item)
    return tuple(parts)


def is_shape(found: object) -> bool:
    """Return whether an argument is a shape or a part of one."""
    return isinstance(found, SizeOf | tuple | list | torch.Size)


def as_lengths(arguments: tuple[object, ...]) -> list[object]:
    """Return sizes given one by one or as one shape, as a list."""
    if len(arguments) == 1:
        found = arguments[0]
        if isinstance(found, SizeOf):
            return [_size(found, dim) for dim in range(len(found.value.shape))]
        if isinstance(found, tuple | list):
            return [*found]
    return [*arguments]
