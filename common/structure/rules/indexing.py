"""Rule for indexing: ``x[:, 0]``, ``x[..., None]``, ``x[2]``."""

from typing import cast

import torch

from fedprune.common.structure.calls import Call, values_in
from fedprune.common.structure.labels import Labels, Value
from fedprune.common.structure.sizes import plain


def index(call: Call, value: Value, items: object) -> object:
    """Follow the dimensions that stay whole; one that loses positions is not cut."""
    listed = items if isinstance(items, tuple) else (items,)
    listed = tuple(plain(call.labelling, item) for item in listed)
    if any(True for _ in values_in(listed)) or any(_is_many(p) for p in listed):
        call.fix_value(value, "it takes positions out by a list or a tensor")
        return call.value({})
    labels: dict[int, Labels] = {}
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


def _is_whole(item: slice, length: int) -> bool:
    return range(length)[item] == range(length)


def _is_many(item: object) -> bool:
    return isinstance(item, list | torch.Tensor | bool)


def _text(item: object) -> str:
    if isinstance(item, slice):
        ends = ["" if end is None else str(end) for end in (item.start, item.stop)]
        return ":".join(ends)
    return str(item)
