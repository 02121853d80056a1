"""How channels pass through indexing: ``x[:, 0]``, ``x[..., None]``, ``x[2]``."""

from typing import cast

import torch

from fedprune.common.structure.calls import Call, values_in
from fedprune.common.structure.labels import Labels, Value
from fedprune.common.structure.sizes import plain


def index(call: Call, value: Value, places: object) -> object:
    """Follow the dimensions that stay whole; one that loses positions is not cut."""
    listed = places if isinstance(places, tuple) else (places,)
    listed = tuple(plain(call.ledger, item) for item in listed)
    if any(True for _ in values_in(listed)) or any(_is_many(p) for p in listed):
        call.fix_value(value, "it takes positions out by a list or a tensor")
        return call.value({})
    labels: dict[int, Labels] = {}
    source = target = 0
    for place in _spread(listed, len(value.shape)):
        if place is None:
            target += 1
            continue
        row = value.labels.get(source)
        whole = isinstance(place, slice) and _is_whole(place, value.shape[source])
        if row is not None and whole:
            labels[target] = row
        elif row is not None:
            call.fix(row, f"it takes positions {_text(place)} out of {len(row)}")
        source += 1
        target += isinstance(place, slice)
    return call.value(cast("dict[int, Labels | None]", labels))


def _spread(places: tuple[object, ...], rank: int) -> list[object]:
    """Return one place for each dimension, and None for each new one."""
    given = sum(place is not None and place is not ... for place in places)
    rest: list[object] = [slice(None)] * (rank - given)
    found: list[object] = []
    for place in places:
        found += rest if place is ... else [place]
    return found if any(place is ... for place in places) else found + rest


def _is_whole(place: slice, length: int) -> bool:
    return range(length)[place] == range(length)


def _is_many(place: object) -> bool:
    return isinstance(place, list | torch.Tensor | bool)


def _text(place: object) -> str:
    if isinstance(place, slice):
        ends = ["" if end is None else str(end) for end in (place.start, place.stop)]
        return ":".join(ends)
    return str(place)
