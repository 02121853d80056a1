"""Rules for sizes: reading them from values, and calculating with them."""

from collections.abc import Callable
from fractions import Fraction
from math import prod
from typing import cast

import torch

from fedprune.common.errors import StructureError
from fedprune.common.structure.calls import Call, Guarded, SizeOf
from fedprune.common.structure.forms import Form, Length
from fedprune.common.structure.labels import Labels, Value
from fedprune.common.structure.parts import FreeLength
from fedprune.common.structure.rules.indexing import index
from fedprune.common.structure.sizes import (
    constant_claim,
    follows,
    is_length,
    length_of,
    number_in,
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
    form = Form(counts=((row, Fraction(whole, len(row))),))
    return Length(number=whole, forms=(form,))


def read_item(call: Call) -> object:
    """``x.shape[dim]``, ``x[key]``, or one item of a tuple."""
    found, key = call.args
    if isinstance(found, SizeOf):
        return _size(found, key)
    if isinstance(found, Value):
        return index(call, found, key)
    if isinstance(found, tuple | list | dict) and not isinstance(key, Value):
        key = plain(call.labelling, key)
        item = cast("tuple[object, ...]", found)[cast("int", key)]
        if isinstance(item, Guarded):
            call.labelling.fix(item.labels, item.why)
            return item.value
        return item
    return call.result


def _size(whole: SizeOf, dim: object) -> object:
    """Return one size or some of them, with the labels that they count."""
    shape = whole.value.shape
    if is_length(dim):
        dim = number_in(dim)
    if isinstance(dim, slice):
        return tuple(_size(whole, axis) for axis in range(len(shape))[dim])
    if not isinstance(dim, int):
        msg = f"it reads sizes {dim}; want one, as in x.shape[0]"
        raise StructureError(msg)
    axis = dim % len(shape)
    labels = whole.value.labels.get(axis)
    if labels is None:
        return shape[axis]
    return Length.of(labels)


def add_lengths(call: Call) -> object:
    """A sum of lengths, or one shape after another."""
    if call.args and all(is_shape(item) for item in call.args):
        return join_shapes(call)
    return _combine(call, Length.plus)


def subtract_lengths(call: Call) -> object:
    """A difference of lengths."""
    return _combine(call, Length.minus)


def multiply_lengths(call: Call) -> object:
    """A product of lengths, one of which may change."""
    return _combine(call, Length.times)


def divide_lengths(call: Call) -> object:
    """An exact quotient of lengths."""
    return _combine(call, Length.over)


def rest_of_lengths(call: Call) -> object:
    """The rest of a division, where it is 0."""
    return _combine(call, Length.rest)


def negate_length(call: Call) -> object:
    """``-x.shape[1]``."""
    found = call.args[0]
    if not is_length(found):
        return calculate(call)
    return length_of(found).scaled(-1)


def _combine(call: Call, combine: Callable[[Length, Length], Length | None]) -> object:
    """Return a calculated length; what is not followed fixes what it counts."""
    whole = len(call.args) == 2 and all(  # noqa: PLR2004 - of two numbers
        is_length(item) or type(item) is int for item in call.args
    )
    if not whole:
        return calculate(call)
    found = combine(*(length_of(item) for item in call.args))
    if found is None:
        return calculate(call)
    return found if found.moves else found.number


def compare_lengths(call: Call) -> object:
    """A comparison of lengths: its result must be the same after any cut."""
    sides = [as_lengths((item,)) for item in call.args]
    if any(isinstance(item, SizeOf) for side in sides for item in side):
        return calculate(call)
    if len({len(side) for side in sides}) > 1:
        return call.result  # shapes of different ranks stay different
    for left, right in zip(*sides, strict=True):
        pair = (left, right)
        if any(type(item) is int and item == 0 for item in pair) and all(
            length_of(item).is_above_0 for item in pair if is_length(item)
        ):
            continue
        whole = all(is_length(item) or type(item) is int for item in pair)
        apart = length_of(left).minus(length_of(right)) if whole else None
        if apart is None:
            plain(call.labelling, pair)
        elif apart.moves:
            sizes = [number_in(item) for item in pair if is_length(item)]
            call.labelling.claims.append(constant_claim(apart, sizes[0]))
    return call.result


def count(
    call: Call,
    length: object,
    labels: Labels,
    why: str,
    free: FreeLength | None = None,
) -> None:
    """Let a length count what is left of labels after any cut, or fix them.

    Args:
        call: The operation.
        length: The number in the network's code.
        labels: What it stands for.
        why: Why the labels are fixed where it does not count them.
        free: The length of a reshape that it is, if it can be left to torch.
    """
    if not follows(call.labelling, length, labels, f"{call.title}: {why}", free):
        plain(call.labelling, length)
        call.fix(labels, why)


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
