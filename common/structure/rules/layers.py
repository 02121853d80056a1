"""Rules for layers with weights: convolution, linear, embedding.

Each function records the labels of the positions of its tensors, and the module
attributes that follow them.  A module and its function (``nn.Linear`` and
``functional.linear``) share one description.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import cast

import torch
from torch import nn

from fedprune.common.errors import StructureError
from fedprune.common.structure.calls import Call, channels_only
from fedprune.common.structure.labels import Follower, Labels, Value
from fedprune.common.structure.sizes import follows


@dataclass(frozen=True, slots=True, kw_only=True)
class _Convolution:
    """A convolution: its tensors, and the inputs and outputs of one group.

    Attributes:
        weight: [out, in / groups, ...], or transposed [in, out / groups, ...].
        bias: [out], or None.
        groups: Number of groups.
        transposed: Whether it is a transposed convolution.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    groups: int
    transposed: bool

    @property
    def inputs(self) -> int:
        """Channels that go in, all groups together."""
        return int(self.weight.shape[0 if self.transposed else 1]) * (
            1 if self.transposed else self.groups
        )

    @property
    def outputs(self) -> int:
        """Channels that come out, all groups together."""
        return int(self.weight.shape[1 if self.transposed else 0]) * (
            self.groups if self.transposed else 1
        )


def convolution(call: Call) -> object:
    """Conv1d to 3d, ConvTranspose1d to 3d."""
    module = cast("nn.Conv2d", call.module)
    conv = _Convolution(
        weight=module.weight,
        bias=module.bias,
        groups=module.groups,
        transposed=isinstance(module, nn.modules.conv._ConvTransposeNd),  # noqa: SLF001 - the class of all three
    )
    return _convolve(call, call.operand(), conv)


def convolution_function(call: Call) -> object:
    """``functional.conv1d`` to ``conv3d``."""
    return _function(call, transposed=False)


def transposed_function(call: Call) -> object:
    """``functional.conv_transpose1d`` to ``conv_transpose3d``."""
    return _function(call, transposed=True)


def _function(call: Call, *, transposed: bool) -> object:
    weight = call.tensor(1, "weight")
    assert weight is not None  # noqa: S101 - no convolution without weights
    groups = call.argument(6, "groups", 1)
    conv = _Convolution(
        weight=weight,
        bias=call.tensor(2, "bias"),
        groups=int(cast("int", groups)),
        transposed=transposed,
    )
    value = call.operand()
    inputs = value.labels.get(1)
    single = 1 < conv.groups == conv.inputs
    # One group a channel: the number of groups has to follow.
    if inputs is not None and single and not follows(call.labelling, groups, inputs):
        call.fix(inputs, "its number of groups is written down")
    return _convolve(call, value, conv)


def _convolve(call: Call, value: Value, conv: _Convolution) -> object:
    inputs = channels_only(call, value, conv.weight.dim())
    labelling = call.labelling
    if conv.groups == 1:
        taken, made = (0, 1) if conv.transposed else (1, 0)
        outputs: Labels | None = labelling.new(conv.outputs)
        weight = labelling.record(conv.weight, taken, inputs)
        call.follow("in_channels", weight, taken)
        _produce(call, conv, outputs, made)
    elif conv.groups == conv.inputs:
        outputs = _depthwise(call, conv, inputs)
    else:
        outputs = _grouped(call, conv, inputs)
    result = call.value({1: outputs}, zero=True)
    positions = prod(result.shape) // (result.shape[0] * result.shape[1])
    if conv.transposed:  # every input position meets every weight once
        positions = prod(value.shape) // (value.shape[0] * value.shape[1])
    labelling.count(labelling.names[id(conv.weight)], positions)
    return result


def _produce(call: Call, conv: _Convolution, outputs: Labels | None, made: int) -> str:
    """Record the rows and biases that make ``outputs``."""
    weight = call.labelling.produce(conv.weight, made, outputs)
    call.follow("out_channels", weight, made)
    if conv.bias is not None:
        call.labelling.record(conv.bias, 0, outputs)
    return weight


def _depthwise(call: Call, conv: _Convolution, inputs: Labels | None) -> Labels | None:
    """One group for each input channel: it makes its own outputs, and is cut whole."""
    share = conv.outputs // conv.inputs
    outputs = None if inputs is None else inputs.repeat(share)
    weight = call.labelling.names[id(conv.weight)]
    if conv.transposed:  # [in, share, ...]: the rows are the input channels
        call.follow("in_channels", weight, 0)
        call.follow("groups", weight, 0)
        call.labelling.produce(conv.weight, 0, inputs)
        _follow_channels(call, "out_channels", outputs)
        if conv.bias is not None:
            call.labelling.record(conv.bias, 0, outputs)
        return outputs
    call.follow("in_channels", weight, 0, share)
    call.follow("groups", weight, 0, share)
    _produce(call, conv, outputs, 0)
    return outputs


def _grouped(call: Call, conv: _Convolution, inputs: Labels | None) -> Labels:
    """All groups lose the same positions, so that they stay equally large."""
    labelling = call.labelling
    groups = conv.groups
    outputs = labelling.new(conv.outputs)
    made = labelling.union_rows(outputs.reshape(groups, -1))
    taken = None
    if inputs is not None:
        taken = labelling.union_rows(inputs.reshape(groups, -1))
    _follow_channels(call, "in_channels", inputs)
    if conv.transposed:
        labelling.record(conv.weight, 0, inputs)
        labelling.produce(conv.weight, 1, made)
        _follow_channels(call, "out_channels", outputs)
        if conv.bias is not None:
            labelling.record(conv.bias, 0, outputs)
    else:
        labelling.record(conv.weight, 1, taken)
        _produce(call, conv, outputs, 0)
    return outputs


def _follow_channels(call: Call, name: str, labels: Labels | None) -> None:
    """Let an attribute follow labels that no dimension of its module counts."""
    if call.module is not None and labels is not None:
        call.labelling.follow_labels(
            Follower(
                module=call.module_name, name=name, labels=labels, ratio=Fraction(1)
            )
        )


def linear(call: Call) -> object:
    """Linear: acts on the last dimension."""
    module = cast("nn.Linear", call.module)
    return _apply_linear(call, module.weight, module.bias)


def linear_function(call: Call) -> object:
    """``functional.linear``, also with the weight of an embedding."""
    weight = call.tensor(1, "weight")
    assert weight is not None  # noqa: S101 - no linear map without weights
    return _apply_linear(call, weight, call.tensor(2, "bias"))


def _apply_linear(
    call: Call, weight: torch.Tensor, bias: torch.Tensor | None
) -> object:
    value = call.operand()
    last = len(value.shape) - 1
    if last < 1:
        msg = "the input has one dimension; want a batch dimension first"
        raise StructureError(msg)
    outputs = call.labelling.new(weight.shape[0])
    name = call.labelling.record(weight, 1, value.labels.get(last))
    call.follow("in_features", name, 1)
    call.labelling.produce(weight, 0, outputs)
    call.follow("out_features", name, 0)
    if bias is not None:
        call.labelling.record(bias, 0, outputs)
    call.labelling.count(name, prod(value.shape[1:last]))
    return call.value({**value.labels, last: outputs}, zero=True)


def embedding(call: Call) -> object:
    """Embedding: the entries of a row are channels, rows are units where asked for."""
    module = cast("nn.Embedding", call.module)
    if call.module_name not in call.labelling.vocabulary:
        return _look_up(call, module.weight, module.max_norm, None)
    rows = call.labelling.new(module.num_embeddings)
    if module.max_norm is not None or module.scale_grad_by_freq or module.sparse:
        why = "its rows depend on the tokens of a batch (max_norm, scale_grad_by_freq,"
        call.fix(rows, f"{why} sparse), so none is cut")
    return _look_up(call, module.weight, module.max_norm, rows)


def embedding_function(call: Call) -> object:
    """``functional.embedding``."""
    weight = call.tensor(1, "weight")
    assert weight is not None  # noqa: S101 - no embedding without weights
    return _look_up(call, weight, call.argument(3, "max_norm"), None)


def _look_up(
    call: Call, table: torch.Tensor, max_norm: object, rows: Labels | None
) -> object:
    outputs = call.labelling.new(table.shape[1])
    weight = call.labelling.produce(table, 1, outputs)
    if rows is None:
        call.labelling.record(table, 0, None)
    else:
        call.labelling.produce(table, 0, rows)
    call.follow("embedding_dim", weight, 1)
    if max_norm is not None:
        call.fix(outputs, "max_norm measures a row over all of its entries")
    result = call.result
    assert isinstance(result, Value)  # noqa: S101 - an embedding gives one tensor
    return call.value({len(result.shape) - 1: outputs}, zero=True)
