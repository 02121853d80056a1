"""Rules for operations that split, repeat or interleave positions."""

from collections.abc import Sequence
from typing import cast

import numpy as np

from fedprune.common.structure.calls import Call, channels_only
from fedprune.common.structure.forms import Length
from fedprune.common.structure.labels import Labels, Value
from fedprune.common.structure.rules.sizes import as_lengths, count
from fedprune.common.structure.sizes import (
    number_in,
    plain,
)


def expand(call: Call) -> object:
    """``x.expand(...)``: a dimension that is kept has to be written as -1."""
    value = call.operand()
    lengths = as_lengths(call.args[1:] or (call.kwargs["size"],))
    ahead = len(lengths) - len(value.shape)
    labels: dict[int, Labels | None] = {}
    for axis, length in enumerate(lengths):
        row = value.labels.get(axis - ahead)
        if row is None:
            spread = _spread(call, value, axis - ahead, length)
            if spread is None:
                plain(call.labelling, length)
            labels[axis] = spread
            continue
        kept = type(length) is int and length == -1
        if value.shape[axis - ahead] == 1 and not kept:
            call.fix(row, "it spreads one channel over many")
        elif not kept:
            count(call, length, row, f"it writes the length {len(row)} down")
        labels[axis] = row if call.result_length(axis) == len(row) else None
    covered = {axis for axis in labels if axis - ahead not in value.labels}
    alike = any(labels[axis] is not None for axis in covered)
    return call.value(labels, zero=value.zero and not alike)


def _spread(call: Call, value: Value, dim: int, length: object) -> Labels | None:
    """Return the channels of another value that one position is spread over.

    All of its positions are equal, so any of them may go.
    """
    if dim >= 0 and value.shape[dim] != 1:
        return None
    if not isinstance(length, Length) or len(length.forms) > 1:
        return None
    form = length.forms[0]
    if len(form.counts) != 1 or form.places or form.counts[0][1] != 1:
        return None
    if form.whole or form.constant:  # n // 3 * 3
        return None
    labels = form.counts[0][0]
    return None if call.labelling.is_fixed(labels) else labels


def expand_as(call: Call) -> object:
    """``x.expand_as(y)``: the channels of both meet."""
    value, other = call.operand(), call.operand(1, "other")
    ahead = len(other.shape) - len(value.shape)
    labels: dict[int, Labels | None] = {}
    for axis in range(len(other.shape)):
        mine, yours = value.labels.get(axis - ahead), other.labels.get(axis)
        spread = axis < ahead or value.shape[axis - ahead] < other.shape[axis]
        if spread:
            call.fix(mine, "it spreads one channel over many")
            labels[axis] = yours
        else:
            labels[axis] = call.join(mine, yours)
    return call.value(labels, zero=False)


def repeat(call: Call) -> object:
    """``x.repeat(...)``, ``x.tile(...)``: copies of a dimension one after another."""
    value = call.operand()
    named = call.kwargs.get("repeats", call.kwargs.get("dims"))
    times = [
        plain(call.labelling, item) for item in as_lengths(call.args[1:] or (named,))
    ]
    times = [1] * (len(value.shape) - len(times)) + times  # of tile
    ahead = len(times) - len(value.shape)
    labels = {
        dim + ahead: np.tile(row, times[dim + ahead])
        for dim, row in value.labels.items()
    }
    return call.value({**labels})


def repeat_each(call: Call) -> object:
    """``torch.repeat_interleave``: copies of each position side by side."""
    value = call.operand()
    times, dim = call.argument(1, "repeats"), call.argument(2, "dim")
    if not isinstance(times, int) or not isinstance(dim, int):
        call.fix_value(value, "it repeats positions differently")
        return call.value({})
    axis = dim % len(value.shape)
    labels = {d: r.repeat(times if d == axis else 1) for d, r in value.labels.items()}
    return call.value({**labels})


def chunk(call: Call) -> object:
    """``x.chunk(n, dim)``: equal parts lose the same positions, and stay equal."""
    value = call.operand()
    number = int(plain(call.labelling, call.argument(1, "chunks")))
    axis = cast("int", call.argument(2, "dim", 0)) % len(value.shape)
    row = value.labels.get(axis)
    if row is not None and len(row) % number:
        call.fix(row, f"it splits {len(row)} channels into {number} unequal parts")
        row = None
    if row is not None:
        row = call.labelling.union_rows(row.reshape(number, -1))
    return _parts(call, value, axis, row)


def split(call: Call) -> object:
    """``x.split(sizes, dim)``: each part has to be a length that follows."""
    value = call.operand()
    sizes = call.argument(1, "split_size", call.kwargs.get("split_size_or_sections"))
    axis = cast("int", call.argument(2, "dim", 0)) % len(value.shape)
    row = value.labels.get(axis)
    if isinstance(sizes, tuple | list):
        return _sections(call, value, axis, [*sizes])
    length = number_in(sizes)
    why = f"it splits {value.shape[axis]} channels by a number, {length}"
    if row is not None and len(row) % length == 0:
        kept = call.labelling.union_rows(row.reshape(-1, length))
        count(call, sizes, kept, why)
        return _parts(call, value, axis, kept)
    call.fix(row, why)
    plain(call.labelling, sizes)
    return _parts(call, value, axis, None)


def _sections(call: Call, value: Value, axis: int, sizes: list[object]) -> object:
    """Parts of different lengths, each of which follows its own channels."""
    row = value.labels.get(axis)
    found: list[object] = []
    start = 0
    results = cast("Sequence[Value]", call.result)
    for size, result in zip(sizes, results, strict=True):
        end = start + result.shape[axis]
        labels: dict[int, Labels] = {**value.labels}
        labels.pop(axis, None)
        if row is None:
            plain(call.labelling, size)
        else:
            part = row[start:end]
            count(call, size, part, f"it splits off {len(part)} channels by a number")
            call.labelling.parts.append(part)
            labels[axis] = part
        found.append(Value(shape=result.shape, labels=labels, zero=value.zero))
        start = end
    return tuple(found)


def _parts(call: Call, value: Value, axis: int, row: Labels | None) -> object:
    labels = {dim: r for dim, r in value.labels.items() if dim != axis}
    if row is not None:
        labels[axis] = row
    results = cast("Sequence[Value]", call.result)
    return tuple(
        Value(shape=item.shape, labels=labels, zero=value.zero) for item in results
    )


def gated(call: Call) -> object:
    """``functional.glu``, ``nn.GLU``: half of the channels, gated by the others."""
    value = call.operand()
    module = call.module
    dim = call.argument(1, "dim", -1) if module is None else getattr(module, "dim", -1)
    axis = cast("int", dim) % len(value.shape)
    row = value.labels.get(axis)
    labels: dict[int, Labels | None] = {**value.labels}
    if row is not None:
        labels[axis] = call.labelling.union_rows(row.reshape(2, -1))
    return call.value(labels)


def unbind(call: Call) -> object:
    """``x.unbind(dim)``: one value for each position of a dimension."""
    value = call.operand()
    axis = cast("int", call.argument(1, "dim", 0)) % len(value.shape)
    call.fix(value.labels.get(axis), "it takes channels apart")
    labels = {
        dim - (dim > axis): row for dim, row in value.labels.items() if dim != axis
    }
    results = cast("Sequence[Value]", call.result)
    return tuple(
        Value(shape=item.shape, labels=labels, zero=value.zero) for item in results
    )


def channel_shuffle(call: Call) -> object:
    """Channels with the same index in each group become neighbours."""
    value = call.operand()
    module = call.module
    given = call.argument(1, "groups") if module is None else vars(module)["groups"]
    groups = int(plain(call.labelling, given))
    row = channels_only(call, value, len(value.shape))
    if row is None:
        return call.value({})
    kept = call.labelling.union_rows(row.reshape(groups, -1))
    return call.value({1: kept.repeat(groups)})


def pixel_shuffle(call: Call) -> object:
    """Blocks of factor x factor channels become positions: a block is cut whole."""
    value = call.operand()
    row = channels_only(call, value, len(value.shape))
    if row is None:
        return call.value({})
    share = value.shape[1] // call.result_length(1)
    return call.value({1: call.labelling.union_rows(row.reshape(-1, share).T)})


def pixel_unshuffle(call: Call) -> object:
    """Positions become blocks of channels."""
    value = call.operand()
    row = channels_only(call, value, len(value.shape))
    share = call.result_length(1) // value.shape[1]
    return call.value({1: None if row is None else row.repeat(share)})
