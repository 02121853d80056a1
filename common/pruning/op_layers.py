"""How channels pass through layers that hold weights.

Each function records which positions of its module's tensors carry which label, and
which module attributes follow them.
"""

from math import prod
from typing import cast

from torch import nn

from common.errors import StructureError
from common.pruning.calls import Call, channels_only
from common.pruning.labels import Labels


def convolution(call: Call) -> object:
    """Conv1d, Conv2d: an output channel for each row of the weight."""
    module = cast("nn.Conv2d", call.module)
    value = call.operand()
    inputs = channels_only(value, 2 + len(module.kernel_size))
    ledger = call.ledger
    if module.groups == 1:
        outputs: Labels | None = ledger.new(module.out_channels)
        weight = ledger.record(module.weight, 1, inputs)
        call.follow("in_channels", weight, 1)
    elif module.groups == module.in_channels == module.out_channels:
        outputs = inputs
        weight = ledger.names[id(module.weight)]
        call.follow("in_channels", weight, 0)
        call.follow("groups", weight, 0)
    else:
        msg = f"groups={module.groups} of {module.in_channels} -> {module.out_channels}"
        msg += " channels; want 1 (or depthwise: all three equal)"
        raise StructureError(msg)
    _produce(call, outputs, "out_channels")
    result = call.value({1: outputs})
    positions = prod(result.shape) // (result.shape[0] * result.shape[1])
    ledger.count(weight, positions)
    return result


def linear(call: Call) -> object:
    """Linear: acts on the last dimension, whatever the others are."""
    module = cast("nn.Linear", call.module)
    value = call.operand()
    last = len(value.shape) - 1
    if last < 1:
        msg = "the input has one dimension; want a batch dimension first"
        raise StructureError(msg)
    outputs = call.ledger.new(module.out_features)
    weight = call.ledger.record(module.weight, 1, value.labels.get(last))
    call.follow("in_features", weight, 1)
    _produce(call, outputs, "out_features")
    call.ledger.count(weight, prod(value.shape[1:last]))
    return call.value({**value.labels, last: outputs})


def _produce(call: Call, outputs: Labels | None, attribute: str) -> None:
    """Record the rows and biases that make ``outputs``."""
    module = cast("nn.Linear | nn.Conv2d", call.module)
    weight = call.ledger.record(module.weight, 0, outputs)
    call.ledger.producers.add(weight)
    call.follow(attribute, weight, 0)
    if module.bias is not None:
        call.ledger.record(module.bias, 0, outputs)


def batch_norm(call: Call) -> object:
    """BatchNorm1d, BatchNorm2d: one scale, shift, mean and variance a channel."""
    module = cast("nn.BatchNorm2d", call.module)
    value = call.operand()
    labels = channels_only(value, len(value.shape))
    _scale(call, labels)
    names = [
        call.ledger.record(buffer, 0, labels)
        for buffer in (module.running_mean, module.running_var)
        if buffer is not None
    ]
    if module.affine:
        names.insert(0, call.ledger.names[id(module.weight)])
    if names:
        call.follow("num_features", names[0], 0)
    elif labels is not None:
        msg = "neither weights nor statistics hold its channels; want affine=True"
        raise StructureError(msg)
    return call.value({1: labels})


def group_norm(call: Call) -> object:
    """GroupNorm: the channels of one normalisation group live and die together."""
    module = cast("nn.GroupNorm", call.module)
    value = call.operand()
    labels = channels_only(value, len(value.shape))
    if labels is not None and not module.affine:
        msg = "no weights hold its channels; want affine=True"
        raise StructureError(msg)
    share = module.num_channels // module.num_groups
    if labels is not None:
        grid = labels.reshape(module.num_groups, share)
        for column in range(1, share):
            call.ledger.union(grid[:, 0], grid[:, column])
    _scale(call, labels)
    if module.affine:
        weight = call.ledger.names[id(module.weight)]
        call.follow("num_channels", weight, 0)
        call.follow("num_groups", weight, 0, share)
    return call.value({1: labels})


def _scale(call: Call, labels: Labels | None) -> None:
    """Record the scale and shift of a normalisation."""
    module = cast("nn.BatchNorm2d | nn.GroupNorm", call.module)
    if module.affine:
        call.ledger.norms.add(call.ledger.record(module.weight, 0, labels))
        call.ledger.record(module.bias, 0, labels)
