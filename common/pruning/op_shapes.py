"""How channels pass through operations that move, merge or combine positions."""

from typing import cast

import numpy as np
from torch import nn

from common.errors import StructureError
from common.pruning.calls import Call, SizeOf
from common.pruning.labels import Labels, Value


def flatten(call: Call) -> object:
    """Flatten: a channel becomes a block of positions of the merged dimension."""
    module = call.module
    if isinstance(module, nn.Flatten):
        start, end = module.start_dim, module.end_dim
    else:
        start = cast("int", call.argument(1, "start_dim", 0))
        end = cast("int", call.argument(2, "end_dim", -1))
    return _merge(call, start, end)


def _merge(call: Call, start: int, end: int) -> object:
    value = call.operand()
    rank = len(value.shape)
    start, end = start % rank, end % rank
    merged = range(start, end + 1)
    inside = [dim for dim in merged if dim in value.labels]
    if len(inside) > 1 or (inside and start == 0):
        msg = f"it merges dimensions {[*merged]}, of which {inside} can be cut"
        raise StructureError(msg)
    labels = {}
    for dim, row in value.labels.items():
        if dim in merged:
            sizes = [1] * len(merged)
            sizes[dim - start] = len(row)
            shape = value.shape[start : end + 1]
            labels[start] = np.broadcast_to(row.reshape(sizes), shape).reshape(-1)
        else:
            labels[dim if dim < start else dim - len(merged) + 1] = row
    return call.value(labels)


def view(call: Call) -> object:
    """``x.view(x.size(0), -1)`` only: other sizes would be those of the full width."""
    shape = call.args[1:]
    value = call.operand()
    if shape != (value.shape[0], -1):
        msg = f"view{shape} may write channel counts down; want torch.flatten(x, 1)"
        raise StructureError(msg)
    return _merge(call, 1, -1)


def mean(call: Call) -> object:
    """Mean over dimensions that are not cut."""
    value = call.operand()
    found = call.argument(1, "dim")
    rank = len(value.shape)
    listed = [found] if isinstance(found, int) else found
    if not isinstance(listed, list | tuple) or not listed:
        msg = f"mean over dim={found}; want the dimensions named"
        raise StructureError(msg)
    gone = {cast("int", dim) % rank for dim in listed}
    if gone & (value.labels.keys() | {0}):
        msg = f"mean over {sorted(gone)} mixes examples or channels that can be cut"
        raise StructureError(msg)
    if call.argument(2, "keepdim", default=False):
        return call.value(value.labels)
    stay = [dim for dim in range(rank) if dim not in gone]
    return call.value({stay.index(dim): row for dim, row in value.labels.items()})


def combine(call: Call) -> object:
    """Add, subtract, multiply: channels that meet live and die together."""
    left = call.argument(0, "input")
    right = call.argument(1, "other")
    values = [item for item in (left, right) if isinstance(item, Value)]
    if not values:
        return call.result
    if any(isinstance(item, SizeOf) for item in (left, right)):
        msg = "it calculates with a whole shape; want one size, as in x.shape[0]"
        raise StructureError(msg)
    if len(values) == 1:
        return call.value(values[0].labels)
    rank = max(len(value.shape) for value in values)
    return call.value({dim: _meet(call, values, dim - rank) for dim in range(rank)})


def _meet(call: Call, values: list[Value], dim: int) -> Labels | None:
    """Return the labels of two values along ``dim`` < 0, counted from the end."""
    rows = [
        (value.shape[dim], value.labels.get(dim + len(value.shape)))
        for value in values
        if len(value.shape) >= -dim
    ]
    longest = max(length for length, _ in rows)
    for length, labels in rows:
        if length < longest:
            call.ledger.fix(labels)  # One channel for all of the other's: it stays.
    equal = [labels for length, labels in rows if length == longest]
    return equal[0] if len(equal) == 1 else call.ledger.join(equal[0], equal[1])


def read_attribute(call: Call) -> object:
    """``x.shape``; no other attribute of a tensor is followed."""
    if call.args[1] != "shape":
        msg = f"it reads '{call.args[1]}' of a tensor; only 'shape' is followed"
        raise StructureError(msg)
    return SizeOf(value=call.operand())


def read_size(call: Call) -> object:
    """``x.size()`` or ``x.size(dim)``."""
    dim = call.argument(1, "dim")
    whole = SizeOf(value=call.operand())
    return whole if dim is None else _size(call, whole, dim)


def read_item(call: Call) -> object:
    """``x.shape[dim]``, or one item of a tuple."""
    found = call.args[0]
    if isinstance(found, SizeOf):
        return _size(call, found, call.args[1])
    if isinstance(found, Value):
        msg = "it indexes a tensor"
        raise StructureError(msg)
    return call.result


def _size(call: Call, whole: SizeOf, dim: object) -> object:
    """Return one size; a size that is calculated with must not change by a cut."""
    if not isinstance(dim, int):
        msg = f"it reads sizes {dim}; want one, as in x.shape[0]"
        raise StructureError(msg)
    call.ledger.fix(whole.value.labels.get(dim % len(whole.value.shape)))
    return call.result
