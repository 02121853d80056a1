"""Rules where several values meet: sum, product, concatenation, matrix product."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import cast

import numpy as np
import torch
from torch import nn

from fedprune.common.errors import StructureError
from fedprune.common.structure.calls import Call, SizeOf, values_in
from fedprune.common.structure.labels import Labels, Value
from fedprune.common.structure.rules.indexing import index
from fedprune.common.structure.rules.sizes import (
    add_lengths,
    calculate,
    compare_lengths,
    divide_lengths,
    multiply_lengths,
    negate_length,
    rest_of_lengths,
    subtract_lengths,
)
from fedprune.common.structure.sizes import numbers_in, plain

_ALIGNED = 8  # channels of half precision in 16 bytes


def subtract(call: Call) -> object:
    """Subtract: channels that meet are cut together."""
    if not [*values_in((call.args, call.kwargs))]:
        return subtract_lengths(call)
    return _sum(call)


def negate(call: Call) -> object:
    """``-x``: what is 0 stays 0."""
    if not [*values_in((call.args, call.kwargs))]:
        return negate_length(call)
    return call.value(call.operand().labels)


def compare(call: Call) -> object:
    """``==``, ``<`` and others."""
    if not [*values_in((call.args, call.kwargs))]:
        return compare_lengths(call)
    return meet(call)


def _sum(call: Call) -> Value:
    """Return a sum or difference: it is 0 where all operands are."""
    values, numbers = _operands(call)
    labels = meeting(call, values)
    zero = not numbers and all(v.zero and _covers(call, v, labels) for v in values)
    return call.value(labels, zero=zero)


def add(call: Call) -> object:
    """Add: 0 and a number above 0, as in ``std + eps``, is above 0."""
    if not [*values_in((call.args, call.kwargs))]:
        return add_lengths(call)
    found = _sum(call)
    if "alpha" in call.kwargs:
        return found
    values, numbers = _operands(call)
    labels = {dim - len(found.shape): row for dim, row in found.labels.items()}
    covered = all(_covers(call, value, labels) for value in values)
    least = min([1.0, *(float(cast("float", item)) for item in numbers)])
    known = covered and least > 0 and all(v.zero or v.positive for v in values)
    more = len(numbers) > 0 or any(v.positive for v in values)
    return replace(found, positive=known and more)


def multiply(call: Call) -> object:
    """Multiply: a product is 0 where one factor is."""
    if not [*values_in((call.args, call.kwargs))]:
        return multiply_lengths(call)
    values, _ = _operands(call)
    labels = meeting(call, values)
    zero = any(v.zero and _covers(call, v, labels) for v in values)
    return call.value(labels, zero=zero)


def divide(call: Call) -> object:
    """Divide: the denominator must not become 0."""
    if not [*values_in((call.args, call.kwargs))]:
        return calculate(call)
    values, _ = _operands(call)
    below = call.argument(1, "other")
    safe = isinstance(below, Value) and (below.positive or _is_unmasked(below))
    if isinstance(below, Value) and not safe:
        call.fix_value(below, "it divides by channels, which must not be masked")
    labels = meeting(call, values)
    above = values[0] if values[0] is not below else None
    zero = above is not None and above.zero
    if safe:  # a channel of the denominator alone is not 0
        zero = zero and above is not None and _covers(call, above, labels)
    return call.value(labels, zero=zero)


def _is_unmasked(value: Value) -> bool:
    """Return whether a mask leaves a value as it is: one that buffers alone decide."""
    return bool(value.sources) and not any(
        isinstance(item, nn.Parameter) for item in value.sources
    )


def floor_divide(call: Call) -> object:
    """``a // b``, of sizes first of all."""
    if not [*values_in((call.args, call.kwargs))]:
        return divide_lengths(call)
    return divide(call)


def modulo(call: Call) -> object:
    """``a % b``, of sizes first of all."""
    if not [*values_in((call.args, call.kwargs))]:
        return rest_of_lengths(call)
    return meet(call)


def meet(call: Call) -> object:
    """Any function of values that meet position by position: where, maximum, pow."""
    if not [*values_in((call.args, call.kwargs))]:
        return calculate(call)
    values, _ = _operands(call)
    return call.value(meeting(call, values), zero=False)


def write_item(call: Call) -> object:
    """``x[key] = y``: the channels of both are cut together where they meet."""
    target, key, given = call.args
    if not isinstance(target, Value):
        return call.result  # an item of a list
    if any(True for _ in values_in(key)):
        msg = "it writes to positions that a tensor names"
        raise StructureError(msg)
    places = torch.empty(target.shape, device="meta")[numbers_in(key)]
    inside = replace(call, result=Value(shape=tuple(places.shape)))
    part = cast("Value", index(inside, target, key))
    given = plain(call.labelling, given)
    if not isinstance(given, Value):
        return replace(target, zero=target.zero and given == 0)
    meeting(call, [part, given])
    whole = {dim - len(part.shape) for dim in part.labels} <= _dims(given)
    return replace(target, zero=target.zero and given.zero and whole)


def _operands(call: Call) -> tuple[list[Value], list[object]]:
    """Return the tensors and the numbers among the operands."""
    values: list[Value] = []
    numbers: list[object] = []
    for item in (*call.args, *call.kwargs.values()):
        if isinstance(item, Value):
            values.append(item)
        elif isinstance(item, SizeOf):
            call.fix_value(item.value, "it calculates with a whole shape")
        else:
            numbers.append(plain(call.labelling, item))
    return values, [n for n in numbers if isinstance(n, int | float) and n != 0]


def _dims(value: Value) -> set[int]:
    """Return the labelled dimensions, counted from the end."""
    return {dim - len(value.shape) for dim in value.labels}


def _covers(call: Call, value: Value, labels: Mapping[int, Labels | None]) -> bool:
    """Return whether a value has every dimension of a result that may be cut.

    Args:
        call: The operation.
        value: One of its operands.
        labels: Labels of the result by dimension, counted from the end.
    """
    known = _dims(value)
    return all(
        row is None or dim in known or call.labelling.is_fixed(row)
        for dim, row in labels.items()
    )


def meeting(call: Call, values: Sequence[Value]) -> dict[int, Labels | None]:
    """Return the labels of a result of values that broadcast, counted from the end.

    Negative dimensions are those of the result, which has the greatest rank.
    """
    rank = max(len(value.shape) for value in values)
    found = {dim: _meet(call, values, dim) for dim in range(-rank, 0)}
    return {dim: row for dim, row in found.items() if row is not None}


def _meet(call: Call, values: Sequence[Value], dim: int) -> Labels | None:
    """Return the labels of values along ``dim`` < 0, counted from the end."""
    rows = [
        (value.shape[dim], value.labels.get(dim + len(value.shape)))
        for value in values
        if len(value.shape) >= -dim
    ]
    longest = max(length for length, _ in rows)
    for length, labels in rows:
        if length < longest:
            # One channel meets all channels of the other: it stays.
            call.fix(labels, "one channel meets many")
    equal = [labels for length, labels in rows if length == longest]
    first = equal[0]
    for labels in equal[1:]:
        first = call.join(first, labels)
    return first


def concatenate(call: Call) -> object:
    """Concatenate: labels one after another."""
    values = [*values_in(call.argument(0, "tensors"))]
    rank = len(cast("Value", call.result).shape)
    # torch accepts an empty vector among tensors of any rank.
    values = [value for value in values if value.shape != (0,) or rank == 1]
    axis = cast("int", call.argument(1, "dim", 0)) % rank
    labels: dict[int, Labels | None] = {}
    for dim in range(rank):
        rows = [value.labels.get(dim) for value in values]
        if dim == axis:
            labels[dim] = _chain(call, values, dim)
            continue
        first = rows[0]
        for row in rows[1:]:
            first = call.join(first, row)
        labels[dim] = first
    return call.value(labels)


def _chain(call: Call, values: Sequence[Value], dim: int) -> Labels | None:
    if not any(dim in value.labels for value in values):
        return None
    parts = []
    for value in values:
        row = value.labels.get(dim)
        parts.append(call.labelling.new_fixed(value.shape[dim]) if row is None else row)
    return np.concatenate(parts)


def stack(call: Call) -> object:
    """Stack: the channels of all meet; the new dimension is never cut."""
    values = [*values_in(call.argument(0, "tensors"))]
    rank = len(values[0].shape)
    axis = cast("int", call.argument(1, "dim", 0)) % (rank + 1)
    labels: dict[int, Labels | None] = {}
    for dim in range(rank):
        first = values[0].labels.get(dim)
        for value in values[1:]:
            first = call.join(first, value.labels.get(dim))
        labels[dim + (dim >= axis)] = first
    return call.value(labels)


def matrix_product(call: Call) -> object:
    """``a @ b``: a summed dimension may be cut where one side is 0 when masked."""
    labels, zero = _product(call, call.operand(), call.operand(1, _second(call)))
    return call.value(labels, zero=zero)


def add_product(call: Call) -> object:
    """``torch.addmm``, ``torch.baddbmm``: a product and a summand."""
    added = call.operand()
    batched = "batch2" in call.kwargs
    names = ("batch1", "batch2") if batched else ("mat1", "mat2")
    labels, zero = _product(call, *map(call.operand, (1, 2), names))
    product = call.value(labels, zero=zero)
    labels = meeting(call, [added, product])
    return call.value(labels, zero=zero and added.zero)


def grouped_product(call: Call) -> object:
    """``functional.grouped_mm``: runs of rows, each by a matrix of its own.

    Its matrices must start at multiples of 16 bytes, so channels are cut in blocks.
    """
    left, right = call.operand(0, "mat_a"), call.operand(1, "mat_b")
    if len(left.shape) != 2 or len(right.shape) != 3:  # noqa: PLR2004 - experts
        ranks = f"{len(left.shape)} and {len(right.shape)}"
        msg = f"its operands have {ranks} dimensions; want 2 and 3"
        raise StructureError(msg)
    call.fix(right.labels.get(0), "each matrix is an expert, and is chosen by number")
    call.fix(left.labels.get(0), "its rows belong to experts")
    inner = call.join(left.labels.get(1), right.labels.get(1))
    if not (left.zero or right.zero):
        call.fix(inner, "it sums over channels that are not 0 when masked")
    outer = right.labels.get(2)
    for row in (inner, outer):
        if row is not None and len(row) % _ALIGNED:
            call.fix(row, f"its channels are no blocks of {_ALIGNED}")
        elif row is not None:
            call.labelling.union_rows(row.reshape(-1, _ALIGNED).T)
    if right.sources:
        weight = call.weight_of(right)
        weight.produce(2, outer)
        weight.count(1)
    return call.value({1: outer}, zero=left.zero and right.zero)


def _product(
    call: Call, left: Value, right: Value
) -> tuple[dict[int, Labels | None], bool]:
    """Return the labels of a matrix product, and whether it is 0 when masked."""
    if min(len(left.shape), len(right.shape)) < 2:  # noqa: PLR2004 - matrices
        for value in (left, right):
            call.fix_value(value, "it multiplies by a vector")
        return {}, False
    row = left.labels.get(len(left.shape) - 1)
    column = right.labels.get(len(right.shape) - 2)
    inner = call.join(row, column)
    if not (left.zero or right.zero):
        call.fix(inner, "it sums over channels that are not 0 when masked")
    ahead = [batch_of(value) for value in (left, right)]
    labels = meeting(call, ahead) if max(len(v.shape) for v in ahead) else {}
    labels = {dim - 2: row for dim, row in labels.items()}
    labels[-2] = left.labels.get(len(left.shape) - 2)
    labels[-1] = right.labels.get(len(right.shape) - 1)
    _make_product(call, left, right, labels, inner)
    return labels, left.zero and right.zero


def _make_product(
    call: Call,
    left: Value,
    right: Value,
    labels: dict[int, Labels | None],
    inner: Labels | None,
) -> None:
    """Record the dimensions of weights that make channels, and their products."""
    last = len(right.shape) - 1
    if left.sources and right.sources:  # a weight of low rank, made of two
        weight = call.weight_of(right)
        maker = weight if weight.trained else call.weight_of(left)
        maker.produce(last - 1 if maker is weight else len(left.shape) - 1, inner)
    elif right.sources:  # [in, out]
        weight = call.weight_of(right)
        weight.produce(last, labels[-1])
        weight.count(prod(left.shape[:-1]) // max(left.shape[0], 1))
    elif left.sources:  # [out, in]
        weight = call.weight_of(left)
        weight.produce(len(left.shape) - 2, labels[-2])
        batched = last > 1
        weight.count(prod(right.shape[1:-2]) * right.shape[-1] if batched else 1)


def einsum(call: Call) -> object:
    """``torch.einsum``: equal letters meet; summed ones must be 0 where masked."""
    equation, *operands = call.args
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = [*operands[0]]
    values = [cast("Value", item) for item in operands]
    inputs, arrow, output = str(equation).replace(" ", "").partition("->")
    terms = inputs.split(",")
    plain_terms = all(len(set(term)) == len(term) for term in terms)
    if not arrow or "." in inputs or not plain_terms:
        msg = f"its equation '{equation}' has an ellipsis, a repeated letter or no '->'"
        raise StructureError(msg)
    labels = {letter: _letter(call, terms, values, letter) for letter in "".join(terms)}
    for letter in sorted({*labels} - {*output}):
        if not any(v.zero for t, v in zip(terms, values, strict=True) if letter in t):
            call.fix(labels[letter], "it sums over channels that are not 0 when masked")
    _make_einsum(call, terms, values, output)
    return call.value(
        {dim: labels[letter] for dim, letter in enumerate(output)},
        zero=all(value.zero for value in values),
    )


def _make_einsum(
    call: Call, terms: Sequence[str], values: Sequence[Value], output: str
) -> None:
    """Record the dimensions of weights that make channels, and their products."""
    sizes = {
        letter: value.shape[dim]
        for term, value in zip(terms, values, strict=True)
        for dim, letter in enumerate(term)
    }
    batch = sizes[output[0]] if output else 1
    calculates = all(value.sources for value in values)  # a weight, made of several
    for term, value in zip(terms, values, strict=True):
        if not value.sources:
            continue
        weight = call.weight_of(value)
        for dim, letter in enumerate(term):
            alone = sum(letter in other for other in terms) == 1
            if (not alone if calculates else alone) and (
                letter in output
            ) != calculates:
                weight.produce(dim, value.labels.get(dim))
        if not calculates:
            positions = prod(sizes.values()) // max(prod(value.shape) * batch, 1)
            weight.count(positions)


def _letter(
    call: Call, terms: Sequence[str], values: Sequence[Value], letter: str
) -> Labels | None:
    """Return the labels that a letter stands for, those of all operands joined."""
    rows = [
        value.labels.get(term.index(letter))
        for term, value in zip(terms, values, strict=True)
        if letter in term
    ]
    first = rows[0]
    for row in rows[1:]:
        first = call.join(first, row)
    return first


def _second(call: Call) -> str:
    return "mat2" if "mat2" in call.kwargs else "other"


def batch_of(value: Value) -> Value:
    """Return what of a value is ahead of its last two dimensions."""
    rank = len(value.shape) - 2
    labels = {dim: row for dim, row in value.labels.items() if dim < rank}
    return Value(shape=value.shape[:-2], labels=labels)
