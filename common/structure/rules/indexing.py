"""Rules for taking positions out: ``x[:, 0]``, ``x[:, : self.half]``, ``table[i]``."""

from typing import cast

import numpy as np
import torch

from fedprune.common.structure.calls import Call, values_in
from fedprune.common.structure.labels import Labels, Value
from fedprune.common.structure.sizes import (
    follows,
    is_length,
    length_of,
    number_in,
    plain,
)

_MANY = "it takes positions out by a list or a tensor"


def index(call: Call, value: Value, items: object) -> object:
    """Follow dimensions that stay whole or are sliced where the channels say."""
    listed = items if isinstance(items, tuple) else (items,)
    listed = tuple(
        item if isinstance(item, slice) else plain(call.labelling, item)
        for item in listed
    )
    for one in values_in(listed):
        call.fix_value(one, "its channels say which positions are taken")
    if sum(_is_many(item) for item in listed) > 1 or any(map(_is_nested, listed)):
        plain(call.labelling, listed)
        call.fix_value(value, _MANY)
        return call.value({})
    labels: dict[int, Labels | None] = {}
    source = target = 0
    for item in _spread(listed, len(value.shape)):
        if item is None:
            target += 1
            continue
        labels[target] = _taken(call, value.labels.get(source), item)
        source += 1
        target += _rank(item)
    if any(map(_is_many, listed)) and not _is_plain(call, value, listed):
        call.fix_value(value, _MANY)
        return call.value({})
    return call.value(labels, zero=value.zero)


def _taken(call: Call, row: Labels | None, item: object) -> Labels | None:
    """Return the labels of the positions that one item takes out of a dimension."""
    if row is None:
        plain(call.labelling, item)
        return None
    if isinstance(item, slice):
        return _run(call, row, item)
    many = _is_many(item)
    why = f"it takes positions {_text(item)} out of {len(row)}"
    call.fix(row, _MANY if many else why)
    return None


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


def _run(call: Call, row: Labels, item: slice) -> Labels:
    """Return the labels of a slice, whose ends have to follow the channels."""
    first, last = (
        None if end is None else number_in(end) for end in (item.start, item.stop)
    )
    step = 1 if item.step is None else number_in(item.step)
    taken = range(len(row))[slice(first, last, step)]
    written = any(is_length(end) for end in (item.start, item.stop, item.step))
    if taken == range(len(row)) and not written:
        return row
    why = f"it takes positions {_text(item)} out of {len(row)}"
    if step != 1 or not taken or is_length(item.step):
        plain(call.labelling, item)
        call.fix(row, why)
        return row[taken.start : taken.stop : taken.step]
    for end, place in ((item.start, taken.start), (item.stop, taken.stop)):
        if end is not None:
            _end(call, row, end, place, why)
    found = row[taken.start : taken.stop]
    call.labelling.parts.append(found)
    return found


def _end(call: Call, row: Labels, end: object, place: int, why: str) -> None:
    """Let an end of a slice count the channels before it, or those behind it."""
    if number_in(end) >= 0:
        length, counted = end, row[:place]
    else:
        length, counted = length_of(end).scaled(-1), row[place:]
        call.labelling.parts.append(counted)  # -0 would be the other end
    if not is_length(end) and place == len(row):
        return  # a number beyond the channels stays beyond them
    _tie(call, row, length, len(counted))
    if not follows(call.labelling, length, counted, f"{call.title}: {why}"):
        plain(call.labelling, end)
        call.fix(counted, why)


def _tie(call: Call, row: Labels, length: object, count: int) -> None:
    """Tie the equal parts of a row whose own length, divided, ends a slice."""
    form = length_of(length).forms[0]
    if len(form.counts) != 1 or form.places:
        return
    labels, share = form.counts[0]
    number = share.denominator
    fits = share * len(row) == count and len(row) % number == 0 and number > 1
    roots = call.labelling.roots
    if fits and np.array_equal(roots(labels), roots(row)):
        call.labelling.union_rows(row.reshape(number, -1))


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
        ends = [
            "" if end is None else str(number_in(end))
            for end in (item.start, item.stop)
        ]
        return ":".join(ends)
    return str(item)
