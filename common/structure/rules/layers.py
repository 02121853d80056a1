"""Rules for layers with weights: convolution, linear, embedding.

Each function records the labels of the positions of its tensors, and the module
attributes that follow them.  A module and its function (``nn.Linear`` and
``functional.linear``) share one description.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import cast

from torch import nn
from torch.nn.modules.conv import _ConvNd

from fedprune.common.errors import StructureError
from fedprune.common.structure.calls import Call, Weight, channels_only, values_in
from fedprune.common.structure.labels import Follower, Labels, Value
from fedprune.common.structure.rules.sizes import count
from fedprune.common.structure.sizes import number_in, plain

SUMS = "it sums over channels that are not 0 when masked"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Convolution:
    """A convolution: its tensors, and the inputs and outputs of one group.

    Attributes:
        weight: [out, in / groups, ...], or transposed [in, out / groups, ...].
        bias: [out], or None.
        groups: Number of groups.
        transposed: Whether it is a transposed convolution.
    """

    weight: Weight
    bias: Weight | None
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
    weight = call.held(module.weight)
    assert weight is not None  # noqa: S101 - no convolution without weights
    conv = _Convolution(
        weight=weight,
        bias=call.held(module.bias),
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
    weight = call.weight(1, "weight")
    assert weight is not None  # noqa: S101 - no convolution without weights
    groups = call.argument(6, "groups", 1)
    conv = _Convolution(
        weight=weight,
        bias=call.weight(2, "bias"),
        groups=number_in(groups),
        transposed=transposed,
    )
    value = call.operand()
    inputs = value.labels.get(1)
    single = 1 < conv.groups == conv.inputs
    # One group a channel: the number of groups has to follow.
    if inputs is not None and single:
        count(call, groups, inputs, "its number of groups is written down")
    else:
        plain(call.labelling, groups)
    return _convolve(call, value, conv)


def _convolve(call: Call, value: Value, conv: _Convolution) -> object:
    inputs = channels_only(call, value, len(conv.weight.shape))
    for dim in sorted(conv.weight.value.labels.keys() - {0, 1}):
        call.labelling.hold(conv.weight.value.labels[dim], "positions of a kernel")
    if conv.groups != conv.inputs and not (value.zero or conv.weight.zero):
        call.fix(inputs, SUMS)
    if conv.groups == 1:
        taken, made = (0, 1) if conv.transposed else (1, 0)
        outputs: Labels | None = call.labelling.new(conv.outputs)
        conv.weight.record(taken, inputs)
        _follow(call, "in_channels", conv.weight, taken, inputs)
        _produce(call, conv, outputs, made)
    elif conv.groups == conv.inputs:
        outputs = _depthwise(call, conv, inputs)
    else:
        outputs = _grouped(call, conv, inputs)
    each = conv.groups == conv.inputs > 1  # a masked channel goes to its own outputs
    zero = conv.weight.zero or (each and value.zero)
    zero = zero and (conv.bias is None or conv.bias.zero)
    result = call.value({1: outputs}, zero=zero)
    positions = prod(result.shape) // (result.shape[0] * result.shape[1])
    if conv.transposed:  # every input position meets every weight once
        positions = prod(value.shape) // (value.shape[0] * value.shape[1])
    conv.weight.count(positions)
    return result


def _is_zero(weight: Weight, bias: Weight | None) -> bool:
    """Return whether the outputs of a masked unit are 0."""
    return weight.zero and (bias is None or bias.zero)


def _produce(call: Call, conv: _Convolution, outputs: Labels | None, made: int) -> None:
    """Record the rows and biases that make ``outputs``."""
    conv.weight.produce(made, outputs)
    _follow(call, "out_channels", conv.weight, made, outputs)
    _shift(conv.bias, outputs)


def _shift(bias: Weight | None, outputs: Labels | None) -> None:
    if bias is not None:
        bias.record(0, outputs)


def _depthwise(call: Call, conv: _Convolution, inputs: Labels | None) -> Labels | None:
    """One group for each input channel: it makes its own outputs, and is cut whole."""
    share = conv.outputs // conv.inputs
    outputs = None if inputs is None else inputs.repeat(share)
    weight = conv.weight
    rows = inputs if conv.transposed else outputs  # [in, share, ...], [out, 1, ...]
    if weight.trained:
        weight.produce(0, rows)
    else:  # a fixed kernel makes no channel of its own
        weight.record(0, rows)
    for name in ("in_channels", "groups"):
        divisor = 1 if conv.transposed else share
        _follow(call, name, weight, 0, inputs, divisor=divisor)
    if conv.transposed:
        _follow_channels(call, "out_channels", outputs)
    else:
        _follow(call, "out_channels", weight, 0, outputs)
    _shift(conv.bias, outputs)
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
        conv.weight.record(0, inputs)
        conv.weight.produce(1, made)
        _follow_channels(call, "out_channels", outputs)
        _shift(conv.bias, outputs)
    else:
        conv.weight.record(1, taken)
        _produce(call, conv, outputs, 0)
    return outputs


def _follow(
    call: Call,
    name: str,
    weight: Weight,
    dim: int,
    labels: Labels | None,
    *,
    divisor: int = 1,
) -> None:
    """Let an attribute of a layer follow a dimension of its weight."""
    if call.module is not None:
        call.follow(name, weight.name, dim, divisor)
    else:
        _follow_channels(call, name, labels)


def _follow_channels(call: Call, name: str, labels: Labels | None) -> None:
    """Let an attribute follow labels that no dimension of its module counts.

    The own code of a layer (a subclass, or one with a calculated weight) calls the
    function: its attribute follows if it counts these channels.
    """
    if labels is None:
        return
    if call.module is None:
        layer = isinstance(call.caller, nn.Linear | nn.Bilinear | _ConvNd)
        count = vars(call.caller).get(name) if layer else None
        if not isinstance(count, int) or int(count) != len(labels):
            return
    call.labelling.follow_labels(
        Follower(module=call.module_name, name=name, labels=labels, ratio=Fraction(1))
    )


def linear(call: Call) -> object:
    """Linear: acts on the last dimension."""
    module = cast("nn.Linear", call.module)
    return _apply_linear(call, call.held(module.weight), call.held(module.bias))


def linear_function(call: Call) -> object:
    """``functional.linear``, also with the weight of an embedding."""
    return _apply_linear(call, call.weight(1, "weight"), call.weight(2, "bias"))


def _apply_linear(call: Call, weight: Weight | None, bias: Weight | None) -> object:
    assert weight is not None  # noqa: S101 - no linear map without weights
    value = call.operand()
    last = len(value.shape) - 1
    if last < 1:
        msg = "the input has one dimension; want a batch dimension first"
        raise StructureError(msg)
    inputs, outputs = value.labels.get(last), call.labelling.new(weight.shape[0])
    if inputs is not None and not (value.zero or weight.zero):
        call.fix(inputs, SUMS)
    weight.record(1, inputs)
    _follow(call, "in_features", weight, 1, inputs)
    weight.produce(0, outputs)
    _follow(call, "out_features", weight, 0, outputs)
    _shift(bias, outputs)
    weight.count(prod(value.shape[1:last]))
    zero = _is_zero(weight, bias)
    others = [row for dim, row in value.labels.items() if dim != last]
    if not all(map(call.labelling.is_fixed, others)):  # a masked position has the bias
        zero = zero and value.zero and bias is None
    return call.value({**value.labels, last: outputs}, zero=zero)


def bilinear(call: Call) -> object:
    """Bilinear: two inputs and a weight [out, in1, in2]."""
    module = cast("nn.Bilinear", call.module)
    return _apply_bilinear(call, call.held(module.weight), call.held(module.bias))


def bilinear_function(call: Call) -> object:
    """``functional.bilinear``."""
    return _apply_bilinear(call, call.weight(2, "weight"), call.weight(3, "bias"))


def _apply_bilinear(call: Call, weight: Weight | None, bias: Weight | None) -> object:
    assert weight is not None  # noqa: S101 - no bilinear map without weights
    one, two = call.operand(0, "input1"), call.operand(1, "input2")
    last = len(one.shape) - 1
    if last < 1:
        msg = "the inputs have one dimension; want a batch dimension first"
        raise StructureError(msg)
    labels = {dim: one.labels.get(dim) for dim in range(last)}
    for dim, row in labels.items():
        labels[dim] = call.join(row, two.labels.get(dim))
    for dim, value in ((1, one), (2, two)):
        inputs = value.labels.get(last)
        if not (value.zero or weight.zero):
            call.fix(inputs, SUMS)
        weight.record(dim, inputs)
        _follow(call, f"in{dim}_features", weight, dim, inputs)
    outputs = call.labelling.new(weight.shape[0])
    weight.produce(0, outputs)
    _follow(call, "out_features", weight, 0, outputs)
    _shift(bias, outputs)
    weight.count(prod(one.shape[1:last]))
    zero = _is_zero(weight, bias)
    if any(row is not None for row in labels.values()):
        zero = zero and (one.zero or two.zero) and bias is None
    return call.value({**labels, last: outputs}, zero=zero)


def embedding(call: Call) -> object:
    """Embedding: the entries of a row are channels, rows are units where asked for."""
    module = cast("nn.Embedding", call.module)
    table = call.held(module.weight)
    if call.module_name not in call.labelling.vocabulary:
        return _look_up(call, table, module.max_norm, None)
    rows = call.labelling.new(module.num_embeddings)
    if module.max_norm is not None or module.scale_grad_by_freq or module.sparse:
        why = "its rows depend on the tokens of a batch (max_norm, scale_grad_by_freq,"
        call.fix(rows, f"{why} sparse), so none is cut")
    return _look_up(call, table, module.max_norm, rows)


def embedding_function(call: Call) -> object:
    """``functional.embedding``."""
    return _look_up(call, call.weight(1, "weight"), call.argument(3, "max_norm"), None)


def _look_up(
    call: Call, table: Weight | None, max_norm: object, rows: Labels | None
) -> object:
    assert table is not None  # noqa: S101 - no embedding without weights
    for item in values_in((call.args, call.kwargs)):
        if item is not table.value:
            call.fix_value(item, "its channels say which rows are taken")
    outputs = call.labelling.new(table.shape[1])
    table.produce(1, outputs)
    if rows is None:
        table.record(0, None)
    else:
        table.produce(0, rows)
    call.follow("embedding_dim", table.name, 1)
    if max_norm is not None:
        call.fix(outputs, "max_norm measures a row over all of its entries")
    result = call.result
    assert isinstance(result, Value)  # noqa: S101 - an embedding gives one tensor
    return call.value({len(result.shape) - 1: outputs}, zero=table.zero)
