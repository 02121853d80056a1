"""Rules for normalisations.

A normalisation over examples or positions (batch norm, instance norm) treats each
channel by itself.  The statistics of one over channels change when a channel is cut:
the channels of one group of a GroupNorm are cut together, and those of a LayerNorm or
an RMSNorm are not cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import torch
from torch import nn

from fedprune.common.errors import StructureError
from fedprune.common.structure.calls import Call, channels_only
from fedprune.common.structure.labels import Follower, Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """The tensors of a normalisation, each [channels] or None."""

    weight: torch.Tensor | None
    bias: torch.Tensor | None
    statistics: tuple[torch.Tensor, ...] = ()


def batch_norm(call: Call) -> object:
    """BatchNorm and InstanceNorm: one scale, shift, mean and variance a channel."""
    module = cast("nn.BatchNorm2d", call.module)
    moments = (module.running_mean, module.running_var)
    scale = _Scale(
        weight=module.weight,
        bias=module.bias,
        statistics=tuple(item for item in moments if item is not None),
    )
    return _normalise_each(call, scale)


def batch_norm_function(call: Call) -> object:
    """``functional.batch_norm``."""
    moments = (call.tensor(1, "running_mean"), call.tensor(2, "running_var"))
    scale = _Scale(
        weight=call.tensor(3, "weight"),
        bias=call.tensor(4, "bias"),
        statistics=tuple(item for item in moments if item is not None),
    )
    return _normalise_each(call, scale)


def instance_norm_function(call: Call) -> object:
    """``functional.instance_norm``: the arguments of ``batch_norm``."""
    return batch_norm_function(call)


def _normalise_each(call: Call, scale: _Scale) -> object:
    value = call.operand()
    labels = channels_only(call, value, len(value.shape))
    _record_scale(call, scale, labels)
    names = [call.labelling.record(item, 0, labels) for item in scale.statistics]
    if scale.weight is not None:
        names.insert(0, call.labelling.names[id(scale.weight)])
    if names:
        call.follow("num_features", names[0], 0)
    elif labels is not None and call.module is not None:
        call.labelling.follow_labels(
            Follower(
                module=call.module_name,
                name="num_features",
                labels=labels,
                ratio=Fraction(1),
            )
        )
    # Without a scale a masked channel keeps the shift of the statistics.
    zero = True if scale.weight is not None else value.zero and not scale.statistics
    return call.value({1: labels}, zero=zero)


def group_norm(call: Call) -> object:
    """GroupNorm: the channels of one normalisation group are cut together."""
    module = cast("nn.GroupNorm", call.module)
    scale = _Scale(weight=module.weight, bias=module.bias)
    return _normalise_groups(call, scale, module.num_groups, follow=True)


def group_norm_function(call: Call) -> object:
    """``functional.group_norm``: the number of groups is a constant, so it stays."""
    scale = _Scale(weight=call.tensor(2, "weight"), bias=call.tensor(3, "bias"))
    groups = cast("int", call.argument(1, "num_groups"))
    return _normalise_groups(call, scale, groups, follow=False)


def _normalise_groups(
    call: Call, scale: _Scale, groups: int, *, follow: bool
) -> object:
    value = call.operand()
    labels = channels_only(call, value, len(value.shape))
    if labels is not None and not follow:
        call.fix(labels, "its number of groups is written down")
    if labels is not None and scale.weight is None:
        msg = "no weights hold its channels; want affine=True"
        raise StructureError(msg)
    share = value.shape[1] // groups
    if labels is not None:
        call.labelling.union_rows(labels.reshape(groups, share).T)
    _record_scale(call, scale, labels)
    if scale.weight is not None:
        weight = call.labelling.names[id(scale.weight)]
        call.follow("num_channels", weight, 0)
        call.follow("num_groups", weight, 0, share)
    return call.value({1: labels}, zero=True)


def _record_scale(call: Call, scale: _Scale, labels: Labels | None) -> None:
    """Record the scale and shift of a normalisation."""
    if scale.weight is not None:
        name = call.labelling.record(scale.weight, 0, labels)
        if isinstance(scale.weight, nn.Parameter):  # a buffer scales, untrained
            call.labelling.norms.add(name)
    if scale.bias is not None:
        call.labelling.record(scale.bias, 0, labels)


def layer_norm(call: Call) -> object:
    """LayerNorm and RMSNorm: normalised dimensions are not cut."""
    module = cast("nn.LayerNorm", call.module)
    tensors = (module.weight, getattr(module, "bias", None))
    return _normalise_over(call, module.normalized_shape, tensors)


def layer_norm_function(call: Call) -> object:
    """``functional.layer_norm`` and ``functional.rms_norm``."""
    shape = cast("Sequence[int]", call.argument(1, "normalized_shape"))
    tensors = (call.tensor(2, "weight"), call.tensor(3, "bias"))
    return _normalise_over(call, shape, tensors)


def rms_norm_function(call: Call) -> object:
    """``functional.rms_norm``: a scale without a shift."""
    shape = cast("Sequence[int]", call.argument(1, "normalized_shape"))
    return _normalise_over(call, shape, (call.tensor(2, "weight"),))


def _normalise_over(
    call: Call, shape: Sequence[int], tensors: Sequence[torch.Tensor | None]
) -> object:
    value = call.operand()
    over = range(len(value.shape) - len(shape), len(value.shape))
    for dim in over:
        why = f"it normalises over {value.shape[dim]} positions, which are not cut"
        call.fix(value.labels.get(dim), why)
    for tensor in tensors:
        for dim in range(0 if tensor is None else tensor.dim()):
            call.labelling.record(cast("torch.Tensor", tensor), dim, None)
    stay = {dim: row for dim, row in value.labels.items() if dim not in over}
    return call.value(stay, zero=False)
