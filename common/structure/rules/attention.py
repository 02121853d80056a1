"""Rules for attention: heads are cut whole."""

from typing import cast

import numpy as np
import torch
from torch import nn

from fedprune.common.errors import StructureError
from fedprune.common.structure.calls import Call, Guarded, values_in
from fedprune.common.structure.labels import Labels, Value
from fedprune.common.structure.rules.elementwise import batch_of, meeting


def multihead_attention(call: Call) -> object:
    """One unit a head: its rows of queries, keys and values, its output columns."""
    module = cast("nn.MultiheadAttention", call.module)
    query, key = call.operand(0, "query"), call.operand(1, "key")
    value = call.operand(2, "value")
    if len(query.shape) != 3:  # noqa: PLR2004 - batch, position, channel
        msg = f"the input has {len(query.shape)} dimensions; want 3"
        raise StructureError(msg)
    if module.add_zero_attn:
        msg = "add_zero_attn is not followed; want False"
        raise StructureError(msg)
    heads = call.labelling.new(module.num_heads)
    _fix_positions(call, (query, key, value), heads)
    _record_inputs(call, module, (query, key, value), heads)
    outputs = call.labelling.new(module.embed_dim)
    rows = heads.repeat(module.head_dim)
    projection = module.out_proj
    weight = call.labelling.record(projection.weight, 1, rows)
    call.labelling.produce(projection.weight, 0, outputs)
    if projection.bias is not None:
        call.labelling.record(projection.bias, 0, outputs)
    call.labelling.count(weight, query.shape[1 if module.batch_first else 0])
    first, second = cast("tuple[Value, Value | None]", call.result)
    found = Value(shape=first.shape, labels={2: outputs})
    if second is None:
        return found, None
    why = f"{call.title}: the attention weights of all heads are used"
    return found, Guarded(value=second, labels=heads, why=why)


def _fix_positions(
    call: Call, inputs: tuple[Value, Value, Value], heads: Labels
) -> None:
    """Fix the positions that attention runs along, and heads with their own masks."""
    for item in inputs:
        for dim in item.labels.keys() - {2}:
            call.fix(item.labels[dim], "it runs along the positions")
    for mask in values_in((call.args[3:], dict(call.kwargs))):
        if mask not in inputs:
            call.fix_value(mask, "a mask runs along the positions")
            if len(mask.shape) == 3:  # noqa: PLR2004 - batch * heads, position, position
                call.fix(heads, "each head has a mask of its own")


def _record_inputs(
    call: Call,
    module: nn.MultiheadAttention,
    inputs: tuple[Value, Value, Value],
    heads: Labels,
) -> None:
    """Record the projections of queries, keys and values."""
    labelling = call.labelling
    rows = heads.repeat(module.head_dim)
    three = np.tile(rows, 3)
    whole = cast("torch.Tensor | None", module.in_proj_weight)
    if whole is not None:
        for item in inputs:
            labelling.record(whole, 1, item.labels.get(2))
        name = labelling.produce(whole, 0, three)
        call.follow("num_heads", name, 0, 3 * module.head_dim)
        labelling.count(name, inputs[0].shape[1 if module.batch_first else 0])
    else:
        parts = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
        for weight, item in zip(parts, inputs, strict=True):
            labelling.record(weight, 1, item.labels.get(2))
            name = labelling.produce(weight, 0, rows)
            call.follow("num_heads", name, 0, module.head_dim)
            labelling.count(name, item.shape[1 if module.batch_first else 0])
    if module.in_proj_bias is not None:
        labelling.record(module.in_proj_bias, 0, three)
    for bias in (module.bias_k, module.bias_v):
        if bias is not None:
            labelling.record(bias, 2, rows)


def attention(call: Call) -> object:
    """``scaled_dot_product_attention``: heads are cut whole; widths are fixed."""
    query, key = call.operand(0, "query"), call.operand(1, "key")
    value = call.operand(2, "value")
    mask = call.argument(3, "attn_mask")
    for item in (query, key):
        last = len(item.shape) - 1
        call.fix(item.labels.get(last), "its scale is that of the width of a head")
    for item in (key, value):
        axis = len(item.shape) - 2
        call.fix(item.labels.get(axis), "it runs along the positions of the keys")
    ahead = [batch_of(item) for item in (query, key, value)]
    if isinstance(mask, Value):
        ahead.append(batch_of(mask))
    if call.argument(7, "enable_gqa"):
        ahead[1:3] = [_serving(call, item, query) for item in ahead[1:3]]
    labels = {dim - 2: row for dim, row in meeting(call, ahead).items()}
    labels[-2] = _queries(call, query, mask)
    labels[-1] = value.labels.get(len(value.shape) - 1)
    return call.value(labels, zero=value.zero)


def _queries(call: Call, query: Value, mask: object) -> Labels | None:
    """Return the labels of the positions of queries, which a mask must not number."""
    row = query.labels.get(len(query.shape) - 2)
    if isinstance(mask, Value):
        axis = len(mask.shape) - 2
        call.fix(mask.labels.get(axis + 1), "a mask runs along the positions")
        if mask.shape[axis] > 1:
            return call.join(row, mask.labels.get(axis))
        call.fix(mask.labels.get(axis), "a mask runs along the positions")
    elif call.argument(5, "is_causal"):
        call.fix(row, "each query sees the keys up to its own position")
    return row


def _serving(call: Call, keys: Value, query: Value) -> Value:
    """Return key heads, each repeated for the run of query heads that it serves.

    Query head ``i`` meets key head ``i // (queries // keys)``, so a key head is cut
    with all of its query heads: the others stay in pairs.
    """
    axis = len(keys.shape) - 1
    queries, heads = query.shape[-3], keys.shape[axis]
    if heads in {1, queries}:  # one for all of them, or one for each
        return keys
    labels = dict(keys.labels)
    if axis in labels:
        labels[axis] = labels[axis].repeat(queries // heads)
    return Value(shape=(*keys.shape[:axis], queries), labels=labels)
