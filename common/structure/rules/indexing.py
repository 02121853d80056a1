"""Rule for indexing: ``x[:, 0]``, ``x[..., None]``, ``x[:, : self.half]``."""

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


def index(call: Call, value: Value, items: object) -> object:
    """Follow dimensions that stay whole or are sliced where the channels say."""
    listed = items if isinstance(items, tuple) else (items,)
    listed = tuple(
        item if isinstance(item, slice) else plain(call.labelling, item)
        for item in listed
    )
    if any(True for _ in values_in(listed)) or any(_is_many(p) for p in listed):
        plain(call.labelling, listed)
        call.fix_value(value, "it takes positions out by a list or a tensor")
        return call.value({})
    labels: dict[int, Labels] = {}
    source = target = 0
    for item in _spread(listed, len(value.shape)):
        if item is None:
            target += 1
            continue
        row = value.labels.get(source)
        if row is None:
            plain(call.labelling, item)
        elif isinstance(item, slice):
            labels[target] = _run(call, row, item)
        else:
            call.fix(row, f"it takes positions {_text(item)} out of {len(row)}")
        source += 1
        target += isinstance(item, slice)
    return call.value(cast("dict[int, Labels | None]", labels))


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
    return isinstance(item, list | torch.Tensor | bool)


def _text(item: object) -> str:
    if isinstance(item, slice):
        ends = [
            "" if end is None else str(number_in(end))
            for end in (item.start, item.stop)
        ]
        return ":".join(ends)
    return str(item)
