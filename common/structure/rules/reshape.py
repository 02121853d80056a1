"""Rules for reshaping: dimensions that are split and merged.

A dimension that is split into several keeps its labels along ONE of them, the one
whose length changes after a cut; positions with the same index along it are then cut
together.  So attention heads, the groups of a channel shuffle and the blocks of a
flattening all come from one rule.  A length that is a constant number keeps its
dimension from being cut, unless all lengths are written, so that a cut network can
leave it to torch (``fedprune.common.structure.after_cut.free_lengths``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import cast

import numpy as np
from torch import nn

from fedprune.common.errors import StructureError
from fedprune.common.structure.calls import Call
from fedprune.common.structure.forms import Claim
from fedprune.common.structure.labels import Labels, Value
from fedprune.common.structure.parts import FREE, MAX_RANK, FreeLength
from fedprune.common.structure.rules.sizes import as_lengths, count
from fedprune.common.structure.sizes import (
    constant_claim,
    is_length,
    item_settings,
    length_of,
    number_in,
    plain,
)

# How well lengths can follow channels, best first.
_SIZE, _ATTRIBUTE, _SEVERAL, _LAYERS, _FIXED_SIZE = 0, 1, 2, 4, 5


@dataclass(frozen=True, slots=True)
class _Block:
    """Neighbouring dimensions that become others of the same product."""

    source: range
    target: range


@dataclass(frozen=True, slots=True)
class _Carrier:
    """A dimension that may carry the labels of a split one.

    Attributes:
        dim: The dimension.
        written: Whether its length has to be left to torch in a cut network.
    """

    dim: int
    written: bool


def view(call: Call) -> object:
    """``x.view(...)``, ``x.reshape(...)``."""
    given = call.args[1:] or (call.kwargs.get("shape") or call.kwargs.get("size"),)
    return reshape(call, call.operand(), as_lengths(tuple(given)))


def view_as(call: Call) -> object:
    """``x.reshape_as(y)``, ``x.view_as(y)``: the lengths of another tensor."""
    other = call.operand(1, "other")
    free = min(other.labels, default=None)
    lengths = [FREE if dim == free else n for dim, n in enumerate(other.shape)]
    for dim in sorted(other.labels.keys() - {free}):
        call.fix(other.labels[dim], "another tensor takes its lengths")
    found = cast("Value", reshape(_unfreed(call), call.operand(), lengths))
    if free is None:
        return found
    row = call.join(found.labels.get(free), other.labels[free])
    return call.value({**found.labels, free: row}, zero=found.zero)


def flatten(call: Call) -> object:
    """Flatten: a channel becomes a block of positions of the merged dimension."""
    module = call.module
    if isinstance(module, nn.Flatten):
        start, end = module.start_dim, module.end_dim
    else:
        start = cast("int", call.argument(1, "start_dim", 0))
        end = cast("int", call.argument(2, "end_dim", -1))
    value = call.operand()
    rank = len(value.shape)
    start, end = start % max(rank, 1), end % max(rank, 1)
    return reshape(call, value, [FREE] * (rank - (end - start)))


def unflatten(call: Call) -> object:
    """Unflatten: one dimension becomes several."""
    module = call.module
    if isinstance(module, nn.Unflatten):
        dim = int(module.dim)
        sizes = item_settings(
            call.labelling,
            *(call.module_name, "unflattened_size", module.unflattened_size),
        )
    else:
        dim = cast("int", call.argument(1, "dim"))
        sizes = call.argument(2, "sizes")
    value = call.operand()
    axis = dim % len(value.shape)
    before, after = [FREE] * axis, [FREE] * (len(value.shape) - axis - 1)
    given = as_lengths((sizes,))
    return reshape(_unfreed(call), value, [*before, *given, *after])


def _unfreed(call: Call) -> Call:
    """Return an operation that a cut network cannot leave a length of to torch.

    It can for ``view`` and ``reshape``
    (``fedprune.common.structure.after_cut.free_lengths``).
    """
    return replace(call, code=None)


def reshape(call: Call, value: Value, lengths: Sequence[object]) -> object:
    """Return a value in the shape of ``lengths``."""
    result = call.result
    assert isinstance(result, Value)  # noqa: S101 - reshaping gives one tensor
    if len(lengths) != len(result.shape):
        msg = f"it reshapes by {len(lengths)} lengths; want {len(result.shape)}"
        raise StructureError(msg)
    labels: dict[int, Labels | None] = {}
    for block in _blocks(value.shape, result.shape):
        inside = _carried(call, value, block)
        if inside is not None:
            row = _spread(value, block.source, inside)
            dim, kept = _split(call, row, block.target, lengths)
            labels[dim] = kept
            continue
        for dim in block.target:
            plain(call.labelling, lengths[dim])
    return call.value(labels)


def _carried(call: Call, value: Value, block: _Block) -> int | None:
    """Return the dimension of a block whose labels go on, None if it has none."""
    rows = {dim: value.labels[dim] for dim in block.source if dim in value.labels}
    loose = [dim for dim, row in rows.items() if not call.labelling.is_fixed(row)]
    if len(loose) < 2:  # noqa: PLR2004 - one can go on
        return next(iter(loose or rows), None)
    place = f"{call.title}: from {block.source.start}"
    kept = loose[call.labelling.choose(place, loose, [rows[dim] for dim in loose])]
    for dim in loose:
        if dim != kept:
            call.fix(rows[dim], "it merges two dimensions that can be cut")
    return kept


def _spread(value: Value, source: range, dim: int) -> Labels:
    """Return the labels of a merged block of which one dimension has labels."""
    row = value.labels[dim]
    sizes = [1] * len(source)
    sizes[dim - source.start] = len(row)
    shape = [value.shape[axis] for axis in source]
    merged: Labels = np.broadcast_to(row.reshape(sizes), shape).reshape(-1)
    return merged


def _split(
    call: Call, row: Labels, target: range, lengths: Sequence[object]
) -> tuple[int, Labels | None]:
    """Return the dimension that carries the labels of a split one, and the labels."""
    labelling = call.labelling
    options = _carriers(call, target, lengths)
    if not options:
        text = _text(lengths[target.start : target.stop])
        call.fix(row, f"it writes the length {len(row)} down as {text}")
        return target.start, None
    place = f"{call.title}: to {target.start}"
    carrier = options[0]
    if len(options) > 1 and not labelling.is_fixed(row):
        dims = [one.dim for one in options]
        carrier = options[labelling.choose(place, dims, [row] * len(dims))]
    shape = [call.result_length(dim) for dim in target]
    axis = carrier.dim - target.start
    grid = np.moveaxis(row.reshape(shape), axis, -1).reshape(-1, shape[axis])
    kept = labelling.union_rows(grid)
    for dim in target:
        if dim != carrier.dim:
            _stay(call, lengths, dim)
    _change(call, lengths, carrier, kept)
    return carrier.dim, kept


def _change(
    call: Call, lengths: Sequence[object], carrier: _Carrier, kept: Labels
) -> None:
    """Let a length change with labels, or fix them."""
    length = lengths[carrier.dim]
    if _is_free(length):
        return
    offer = _offer(call, lengths, carrier.dim)
    why = f"its length {len(kept)} comes from elsewhere"
    if not carrier.written:
        count(call, length, kept, why, offer)
        return
    claim = Claim(
        length=length_of(length),
        labels=kept,
        why=f"{call.title}: {why}",
        free=offer,
        written=True,
    )
    call.labelling.claims.append(claim)


def _carriers(call: Call, target: range, lengths: Sequence[object]) -> list[_Carrier]:
    """Return the parts whose length may change with the channels, the best first."""
    parts = [dim for dim in target if call.result_length(dim) > 1 or len(target) == 1]
    free = [dim for dim in parts if _is_free(lengths[dim])]
    ranked = sorted(
        (_rank(call, lengths[dim]), dim) for dim in parts if is_length(lengths[dim])
    )
    following = [dim for rank, dim in ranked if rank < _FIXED_SIZE]
    found = [_Carrier(dim, written=False) for dim in (*free, *following)]
    written = _written(parts, lengths)
    new = written is not None and written not in (*free, *following)
    if written is not None and new and _can_free(call, lengths):
        found.append(_Carrier(written, written=True))
    return found


def _rank(call: Call, length: object) -> int:
    """Return how well a length can follow channels: sizes first, then attributes."""
    forms = length_of(length).forms
    several = _SEVERAL if len(forms) > 1 else 0
    counts = [labels for form in forms for labels, _ in form.counts]
    if any(not call.labelling.is_fixed(labels) for labels in counts):
        return _SIZE + several
    places = [place for form in forms for place, _ in form.places]
    if not places:
        return _FIXED_SIZE
    own = any(call.labelling.may_follow(place) for place in places)
    return _ATTRIBUTE + several if own else _LAYERS


def _written(parts: Sequence[int], lengths: Sequence[object]) -> int | None:
    """Return the part that has to change although its length will not, or None.

    It is the only part, or the only one whose length is read from a value.
    """
    read = [dim for dim in parts if is_length(lengths[dim]) and _is_read(lengths[dim])]
    found = read or parts
    return found[0] if len(found) == 1 else None


def _is_read(length: object) -> bool:
    """Return whether a length is a size, or made of one, as ``c // self.heads`` is."""
    forms = length_of(length).forms
    return len(forms) > 1 or any(form.counts for form in forms)


def _can_free(call: Call, lengths: Sequence[object]) -> bool:
    """Return whether exactly one value of a length fits: all others are written."""
    free = any(_is_free(item) for item in lengths)
    return call.code is not None and not (call.kwargs or free)


def _offer(call: Call, lengths: Sequence[object], dim: int) -> FreeLength | None:
    """Return a length as one that a cut network can leave to torch, if it can."""
    rank = len(lengths)
    if call.code is None or rank > MAX_RANK or not _can_free(call, lengths):
        return None
    return FreeLength(module=call.code, rank=rank, index=dim)


def _stay(call: Call, lengths: Sequence[object], dim: int) -> None:
    """A part without labels must not change, or is left to torch where it would.

    That is offered for numbers of several readings alone, such as ``c // self.heads``.
    """
    length = lengths[dim]
    if is_length(length) and len(length_of(length).forms) > 1:
        offer = _offer(call, lengths, dim)
        claim = replace(constant_claim(length_of(length)), free=offer)
        call.labelling.claims.append(claim)
        return
    plain(call.labelling, length)


def _is_free(length: object) -> bool:
    return type(length) is int and length == FREE


def _blocks(source: Sequence[int], target: Sequence[int]) -> list[_Block]:
    """Return the blocks of neighbouring dimensions with equal products."""
    blocks = []
    i = j = 0
    while i < len(source) or j < len(target):
        first, other = i, j
        i, j = min(i + 1, len(source)), min(j + 1, len(target))
        while prod(source[first:i]) != prod(target[other:j]):
            if prod(source[first:i]) < prod(target[other:j]) or j == len(target):
                i += 1
            else:
                j += 1
        if i == len(source) or j == len(target):  # ones at the end
            i, j = (
                (len(source), len(target))
                if prod(source[i:]) == prod(target[j:]) == 1
                else (i, j)
            )
        blocks.append(_Block(range(first, i), range(other, j)))
    return blocks


def _text(lengths: Sequence[object]) -> str:
    return " x ".join(str(number_in(item)) for item in lengths)
