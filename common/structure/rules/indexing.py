"""Rules for taking positions out: ``x[:, 0]``, ``x[..., None]``, ``table[index]``."""

from typing import cast

import torch

from fedprune.common.structure.calls import Call, values_in
from fedprune.common.structure.labels import Labels, Value
from fedprune.common.structure.sizes import plain

_MANY = "it takes positions out by a list or a tensor"


def index(call: Call, value: Value, items: object) -> object:
    """Follow the dimensions that stay whole; one that loses positions is not cut."""
    listed = items if isinstance(items, tuple) else (items,)
    listed = tuple(plain(call.labelling, item) for item in listed)
    for one in values_in(listed):
        call.fix_value(one, "its channels say which positions are taken")
    if sum(_is_many(item) for item in listed) > 1 or any(map(_is_nested, listed)):
        call.fix_value(value, _MANY)
        return call.value({})
    labels: dict[int, Labels | None] = {}
    source = target = 0
    for item in _spread(listed, len(value.shape)):
        if item is None:
            target += 1
            continue
        row = value.labels.get(source)
        whole = isinstance(item, slice) and _is_whole(item, value.shape[source])
        if row is not None and whole:
            labels[target] = row
        elif row is not None:
            many = _is_many(item)
            why = _MANY if many else f"it takes positions {_text(item)} out of"
            call.fix(row, why if many else f"{why} {len(row)}")
        source += 1
        target += _rank(item)
    if any(map(_is_many, listed)) and not _is_plain(call, value, listed):
        call.fix_value(value, _MANY)
        return call.value({})
    return call.value(labels, zero=value.zero)


def select(call: Call) -> object:
    """``x.index_select(dim, index)``: a dimension that loses positions is not cut."""
    value, positions = call.operand(), call.operand(2, "index")
    axis = cast("int", call.argument(1, "dim")) % len(value.shape)
    call.fix_value(positions, "its channels say which positions are taken")
    call.fix(value.labels.get(axis), _MANY)
    labels = {dim: row for dim, row in value.labels.items() if dim != axis}
    return call.value({**labels}, zero=value.zero)


def gather(call: Call) -> object:
    """``x.gather(dim, index)``: the other dimensions of both meet."""
    value, positions = call.operand(), call.operand(2, "index")
    axis = cast("int", call.argument(1, "dim")) % len(value.shape)
    labels: dict[int, Labels | None] = {}
    for dim, length in enumerate(value.shape):
        mine, yours = value.labels.get(dim), positions.labels.get(dim)
        if dim == axis:
            call.fix(mine, _MANY)
            labels[dim] = yours
        elif length == positions.shape[dim]:
            labels[dim] = call.join(mine, yours)
        else:
            call.fix(mine, _MANY)
            call.fix(yours, _MANY)
    return call.value(labels, zero=value.zero)


def _spread(items: tuple[object, ...], rank: int) -> list[object]:
    """Return one item for each dimension, and None for each new one."""
    given = sum(item is not None and item is not ... for item in items)
    rest: list[object] = [slice(None)] * (rank - given)
    found: list[object] = []
    for item in items:
        found += rest if item is ... else [item]
    return found if any(item is ... for item in items) else found + rest


def _is_whole(item: slice, length: int) -> bool:
    return range(length)[item] == range(length)


def _is_many(item: object) -> bool:
    return isinstance(item, list | Value | torch.Tensor | bool)


def _is_nested(item: object) -> bool:
    """Return whether an item is no plain list of numbers, or a constant."""
    known = isinstance(item, list) and all(type(one) is int for one in item)
    return isinstance(item, list | torch.Tensor | bool) and not known


def _rank(item: object) -> int:
    """Return the number of dimensions of the result that an item makes."""
    if isinstance(item, Value):
        return len(item.shape)
    return int(isinstance(item, slice | list))


def _is_plain(call: Call, value: Value, items: tuple[object, ...]) -> bool:
    """Return whether one tensor of numbers, not a mask, takes positions out.

    The dimensions of a tensor stand where the dimension stood that it takes from; those
    of a mask are as many as it has, and become one.  Beside a number the order differs.
    """
    if any(type(item) is int for item in items):
        return False
    rank = sum(_rank(item) for item in _spread(items, len(value.shape)))
    new = sum(item is None for item in items)
    result = call.result
    return isinstance(result, Value) and len(result.shape) == rank + new


def _text(item: object) -> str:
    if isinstance(item, slice):
        ends = ["" if end is None else str(end) for end in (item.start, item.stop)]
        return ":".join(ends)
    return str(item)
