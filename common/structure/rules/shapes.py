"""Rules for operations that move or reduce positions."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np
from torch import nn

from fedprune.common.structure.calls import (
    Call,
    Guarded,
    Handler,
    channels_only,
    values_in,
)
from fedprune.common.structure.labels import Labels, Value
from fedprune.common.structure.rules.elementwise import meet
from fedprune.common.structure.rules.sizes import as_lengths, count
from fedprune.common.structure.sizes import is_length, length_of, number_in, plain


def same(call: Call) -> object:
    """Activations with f(0) = 0, dropout, Identity: every position for itself."""
    if len([*values_in((call.args, call.kwargs))]) > 1:
        return meet(call)
    return call.value(call.operand().labels)


def shifted(call: Call) -> object:
    """Activations with f(0) != 0: a masked channel is not 0 after them."""
    if len([*values_in((call.args, call.kwargs))]) > 1:
        return meet(call)
    return call.value(call.operand().labels, zero=False)


def root(call: Call) -> object:
    """Square root, square, absolute value: above 0 where the operand is."""
    found = same(call)
    return _above(found, call.operand().positive)


def clamped(call: Call) -> object:
    """``torch.clamp``: above 0 where the smallest value is."""
    least = call.argument(1, "min")
    found = shifted(call)
    return _above(found, isinstance(least, int | float) and least > 0)


def _above(found: object, positive: bool) -> object:  # noqa: FBT001 - the fact itself
    return replace(found, positive=positive) if isinstance(found, Value) else found


def converted(call: Call) -> object:
    """Another type or device of the same numbers, maybe those of a second tensor."""
    value = call.operand()
    return call.value(value.labels, zero=value.zero)


def prelu(call: Call) -> object:
    """PReLU: one slope for all channels, or one for each."""
    module = cast("nn.PReLU", call.module)
    value = call.operand()
    if module.num_parameters == 1:
        call.labelling.record(module.weight, 0, None)
        return call.value(value.labels)
    weight = call.labelling.record(module.weight, 0, value.labels.get(1))
    call.follow("num_parameters", weight, 0)
    return call.value(value.labels)


def resize(call: Call) -> object:
    """Resizing: every channel by itself over the positions."""
    value = call.operand()
    return call.value({1: channels_only(call, value, len(value.shape))})


def pool(positions: int) -> Handler:
    """Pooling and padding over dimensions behind the channels.

    torch reads an input that lacks one dimension as one without a batch, and its
    first dimension as the channels; such a call is not followed.

    Args:
        positions: Number of these dimensions.
    """

    def handle(call: Call) -> object:
        return call.value({1: channels_only(call, call.operand(), positions + 2)})

    return handle


def bounded(call: Call) -> object:
    """Hardtanh: a masked channel stays 0 where 0 lies between its bounds."""
    bounds = [
        call.argument(place, name, default) if call.module is None else own
        for place, name, default, own in (
            (1, "min_val", -1.0, getattr(call.module, "min_val", None)),
            (2, "max_val", 1.0, getattr(call.module, "max_val", None)),
        )
    ]
    low, high = (cast("float", item) for item in bounds)
    value = call.operand()
    return call.value(value.labels, zero=value.zero and low <= 0 <= high)


def pad(call: Call) -> object:
    """Padding of positions; channels that are padded with a constant stay in number.

    The channels between them can be cut: the shortcut of a CIFAR ResNet (option A, He
    et al. 2016, arXiv:1512.03385) pads half as many channels on each side.
    """
    value = call.operand()
    widths = cast("Sequence[int]", call.argument(1, "pad"))
    mode = call.argument(2, "mode", "constant")
    rank = len(value.shape)
    labels = dict(value.labels)
    for dim in sorted(value.labels):
        axis = rank - 1 - dim
        ends = [int(item) for item in widths[2 * axis : 2 * axis + 2]]
        if not any(ends):
            continue
        if mode != "constant" or min(ends) < 0:
            call.fix(labels.pop(dim), "it pads channels with others, or drops some")
            continue
        before, after = (call.labelling.new_fixed(count) for count in ends)
        labels[dim] = np.concatenate([before, labels[dim], after])
    filled = call.argument(3, "value")
    return call.value({**labels}, zero=value.zero and not filled)


def unfold(call: Call) -> object:
    """``functional.unfold``: a channel becomes a run of rows, one a kernel position."""
    value = call.operand()
    labels = channels_only(call, value, 4)
    if labels is None:
        return call.value({})
    rows = call.result_length(len(value.shape) - 3)
    return call.value({1: labels.repeat(rows // len(labels))})


def sample(call: Call) -> object:
    """``functional.grid_sample``: every channel by itself, at the same positions."""
    value = call.operand()
    call.fix_value(call.operand(1, "grid"), "it says where to sample")
    return call.value({1: channels_only(call, value, len(value.shape))})


def affine_grid(call: Call) -> object:
    """``functional.affine_grid``: places for a shape, whose channels do not matter."""
    theta = call.operand(0, "theta")
    call.fix_value(theta, "it says where to sample")
    sizes = as_lengths((call.argument(1, "size"),))
    plain(call.labelling, [n for dim, n in enumerate(sizes) if dim != 1])
    return call.result


def permute(call: Call) -> object:
    """``x.permute(...)``: dimensions change their order."""
    value = call.operand()
    given = call.args[1:] or (call.kwargs["dims"],)
    if len(given) == 1 and isinstance(given[0], tuple | list):
        given = tuple(given[0])
    order = [cast("int", dim) % len(value.shape) for dim in given]
    return call.value({axis: value.labels.get(dim) for axis, dim in enumerate(order)})


def transpose(call: Call) -> object:
    """``x.transpose(a, b)``, ``x.t()``."""
    value = call.operand()
    rank = len(value.shape)
    one = cast("int", call.argument(1, "dim0", 0)) % rank
    other = cast("int", call.argument(2, "dim1", 1)) % rank
    order = [*range(rank)]
    order[one], order[other] = other, one
    return call.value({axis: value.labels.get(dim) for axis, dim in enumerate(order)})


def squeeze(call: Call) -> object:
    """``x.squeeze(dim)``: a dimension of length 1 is removed."""
    value = call.operand()
    found = call.argument(1, "dim")
    rank = len(value.shape)
    listed = [found] if isinstance(found, int) else found
    if not isinstance(listed, list | tuple):  # every one
        listed = range(rank)
    named = cast("Sequence[object]", listed)
    gone = {
        cast("int", dim) % rank
        for dim in named
        if value.shape[cast("int", dim) % rank] == 1
    }
    for dim in sorted({cast("int", item) % rank for item in named} - gone):
        if dim in value.labels:
            _keep_two(call, value.labels[dim])
    return _without(call, value, gone)


def unsqueeze(call: Call) -> object:
    """``x.unsqueeze(dim)``: a dimension of length 1 is inserted."""
    value = call.operand()
    axis = cast("int", call.argument(1, "dim")) % (len(value.shape) + 1)
    found = call.value({d + (d >= axis): row for d, row in value.labels.items()})
    return _above(found, value.positive)


def _without(call: Call, value: Value, gone: set[int]) -> Value:
    """Return the result without dimensions; labels there are not cut."""
    for dim in sorted(gone & value.labels.keys()):
        call.fix(value.labels[dim], f"it takes dimension {dim} away")
    stay = [dim for dim in range(len(value.shape)) if dim not in gone]
    return call.value({axis: value.labels.get(d) for axis, d in enumerate(stay)})


def _keep_two(call: Call, row: Labels) -> None:
    """Keep a dimension at two positions or more: with one it would be removed.

    Each group keeps a unit, so one position that is never cut suffices.
    """
    roots = call.labelling.roots(row)
    if np.unique(roots, return_counts=True)[1].min() < 2:  # noqa: PLR2004 - positions
        call.fix(row[:1], "it removes a dimension of one channel, so one is not cut")


def mean(call: Call) -> object:
    """Mean over dimensions; over one that can be cut it would change."""
    return _reduce(call, exact=False)


def total(call: Call) -> object:
    """Sum over dimensions: exact where masked positions are 0."""
    return _reduce(call, exact=call.operand().zero)


def logarithm_of_sum(call: Call) -> object:
    """``torch.logsumexp``: not 0 where the operand is."""
    return replace(cast("Value", mean(call)), zero=False)


def norm(call: Call) -> object:
    """A norm over dimensions, of a power above 0: exact where masked entries are 0."""
    power = call.argument(1, "p", call.kwargs.get("ord", 2))
    known = power in {None, "fro"} or (isinstance(power, int | float) and power > 0)
    exact = known and call.operand().zero
    return _reduce(call, exact=exact, found=call.argument(2, "dim"))


def moments(call: Call) -> object:
    """``torch.var_mean``, ``torch.std_mean``: two results of one reduction."""
    pair = cast("tuple[Value, Value]", mean(call))
    return tuple(replace(item, zero=call.operand().zero) for item in pair)


def _reduce(call: Call, *, exact: bool, found: object = ...) -> object:
    value = call.operand()
    rank = len(value.shape)
    found = call.argument(1, "dim") if found is ... else found
    found = None if isinstance(found, bool) else found  # std(unbiased)
    if isinstance(found, Value) or "other" in call.kwargs:
        return meet(call)  # the greater one of two tensors
    listed = [found] if isinstance(found, int) else found
    every = not isinstance(listed, list | tuple) or not listed
    dims = range(rank) if every else cast("Sequence[int]", listed)
    gone = {dim % rank for dim in dims}
    for dim in sorted(gone & value.labels.keys()):
        if not exact:
            why = f"it summarises the {value.shape[dim]} channels of dimension {dim}"
            call.fix(value.labels[dim], why)
    stay = [dim for dim in range(rank) if dim not in gone]
    if not isinstance(call.result, Value):
        return _with_indices(call, value, stay)
    return call.value(_staying(value, stay, call.result))


def _staying(
    value: Value, stay: Sequence[int], result: Value
) -> dict[int, Labels | None]:
    """Return the labels of the dimensions that a reduction leaves."""
    kept = len(result.shape) == len(value.shape)
    return {
        dim if kept else axis: value.labels.get(dim) for axis, dim in enumerate(stay)
    }


def _with_indices(call: Call, value: Value, stay: Sequence[int]) -> object:
    """``x.max(dim)``: the values, and where they stand along the dimension."""
    values, where = cast("tuple[Value, Value]", call.result)
    found = {
        d: row for d, row in _staying(value, stay, values).items() if row is not None
    }
    return (
        Value(shape=values.shape, labels=found, zero=value.zero),
        Value(shape=where.shape, labels=found, zero=False),
    )


def order(call: Call) -> object:
    """``x.sort(dim)``: values in order, and their places, along one dimension."""
    return _select(call, call.argument(1, "dim"))


def best(call: Call) -> object:
    """``x.topk(k, dim)``, ``kthvalue``: chosen values, and their places."""
    return _select(call, call.argument(2, "dim"))


def _select(call: Call, dim: object) -> object:
    value = call.operand()
    axis = (-1 if dim is None else cast("int", dim)) % len(value.shape)
    call.fix(value.labels.get(axis), f"it runs along {value.shape[axis]} channels")
    return _with_indices(call, value, [d for d in range(len(value.shape)) if d != axis])


def along(call: Call) -> object:
    """Softmax, cumulative sums, sorting: the dimension they run along is not cut."""
    value = call.operand()
    module = call.module
    dim = call.argument(1, "dim") if module is None else getattr(module, "dim", None)
    if not isinstance(dim, int):
        call.fix_value(value, "its dimension is not given")
        return call.value({})
    axis = dim % len(value.shape)
    call.fix(value.labels.get(axis), f"it runs along {value.shape[axis]} channels")
    stay = {d: row for d, row in value.labels.items() if d != axis}
    return call.value({**stay}, zero=False)


def normalise(call: Call) -> object:
    """``functional.normalize``: a norm is exact where masked positions are 0."""
    value = call.operand()
    axis = cast("int", call.argument(2, "dim", 1)) % len(value.shape)
    power = call.argument(1, "p", 2)
    if not value.zero or not isinstance(power, int | float) or power <= 0:
        call.fix(value.labels.get(axis), "it measures values that are not 0")
    return call.value(value.labels)


def roll(call: Call) -> object:
    """``torch.roll``: positions move, channels must not."""
    return _move(call, call.argument(2, "dims"))


def flip(call: Call) -> object:
    """``torch.flip``: positions change their order, channels must not."""
    dims = call.argument(1, "dims")
    return _move(call, call.args[1:] if isinstance(dims, int) else dims)


def _move(call: Call, dims: object) -> object:
    value = call.operand()
    rank = len(value.shape)
    listed = [dims] if isinstance(dims, int) else cast("Sequence[int] | None", dims)
    moved = {*range(rank)} if listed is None else {dim % rank for dim in listed}
    for dim in sorted(moved & value.labels.keys()):
        call.fix(value.labels[dim], f"it moves the channels of dimension {dim}")
    stay = {dim: row for dim, row in value.labels.items() if dim not in moved}
    return call.value(stay)


def constant(call: Call) -> object:
    """A new tensor: its lengths are those of the network before the cut."""
    plain(call.labelling, [*call.args, *call.kwargs.values()])
    return call.result


def filled(call: Call) -> object:
    """``torch.ones(b, n)``: all positions are alike, so its lengths may change."""
    return _fill(call, zero=False)


def zeros(call: Call) -> object:
    """``torch.zeros(b, self.hidden)``: channels that are 0."""
    return _fill(call, zero=True)


def _fill(call: Call, *, zero: bool) -> object:
    named = call.kwargs.get("size")
    given = [item for item in call.args if not isinstance(item, Value)]
    first = given[0] if given else named
    shape = (first,) if isinstance(first, tuple | list) else tuple(given)
    lengths = as_lengths(shape)
    rank = len(cast("Value", call.result).shape)
    plain(call.labelling, [given[1:] if shape == (first,) else [], *_others(call)])
    labels = [_alike(call, length) for length in lengths[:rank]]
    return call.value({**dict(enumerate(labels))}, zero=zero)


def _others(call: Call) -> list[object]:
    """Return the options of a new tensor: all but its size."""
    return [item for name, item in call.kwargs.items() if name != "size"]


def _alike(call: Call, length: object) -> Labels | None:
    """Return labels for positions that are all alike, as many as a length says."""
    if not is_length(length):
        return None
    counts = [item for form in length_of(length).forms for item in form.counts]
    if len(counts) == 1 and len(counts[0][0]) == number_in(length):
        labels, _ = counts[0]
    else:
        labels = call.labelling.new(number_in(length))
    count(call, length, labels, "its length comes from elsewhere")
    return labels


def like(call: Call) -> object:
    """``torch.ones_like(x)``: the shape of its operand, with other values."""
    return call.value(call.operand().labels, zero=False)


def zeros_like(call: Call) -> object:
    """``torch.zeros_like(x)``: the shape of its operand, all 0."""
    return call.value(call.operand().labels, zero=True)


def fixes_all(call: Call) -> object:
    """An operation without a rule, where no dimension of its operands can be cut."""
    for value in values_in((call.args, call.kwargs)):
        call.fix_value(value, "its channels are not followed")
    return call.result


def passes(index: int) -> Handler:
    """A function that returned operand ``index`` unchanged."""

    def handle(call: Call) -> object:
        found = call.args[index]
        return found.value if isinstance(found, Guarded) else found

    return handle
