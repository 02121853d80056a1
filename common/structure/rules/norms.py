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

import numpy as np
import torch
from torch import nn
from torch.nn.modules.instancenorm import _InstanceNorm

from fedprune.common.errors import StructureError
from fedprune.common.structure.calls import Call, Weight, channels_only
from fedprune.common.structure.labels import Follower, Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """The tensors of a normalisation, each [channels] or None."""

    weight: Weight | None
    bias: Weight | None
    statistics: tuple[torch.Tensor, ...] = ()


def batch_norm(call: Call) -> object:
    """BatchNorm and InstanceNorm: one scale, shift, mean and variance a channel."""
    module = cast("nn.BatchNorm2d", call.module)
    if isinstance(module, _InstanceNorm):  # reads fewer as one without a batch
        channels_only(call, call.operand(), int(type(module).__name__[-2]) + 2)
    moments = (module.running_mean, module.running_var)
    scale = _Scale(
        weight=call.held(module.weight),
        bias=call.held(module.bias),
        statistics=tuple(item for item in moments if item is not None),
    )
    return _normalise_each(call, scale)


def batch_norm_function(call: Call) -> object:
    """``functional.batch_norm``."""
    moments = (call.tensor(1, "running_mean"), call.tensor(2, "running_var"))
    scale = _Scale(
        weight=call.weight(3, "weight"),
        bias=call.weight(4, "bias"),
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
    if scale.weight is not None and scale.weight.name:
        names.insert(0, scale.weight.name)
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
    zero = value.zero and not scale.statistics
    return call.value({1: labels}, zero=_is_zero(scale, without=zero))


def _is_zero(scale: _Scale, *, without: bool) -> bool:
    """Return whether a masked channel is 0 after its scale and shift.

    Args:
        scale: Scale and shift.
        without: Whether it is 0 when nothing scales it.
    """
    scaled = without or (scale.weight is not None and scale.weight.zero)
    return scaled and (scale.bias is None or scale.bias.zero)


def group_norm(call: Call) -> object:
    """GroupNorm: the channels of one normalisation group are cut together."""
    module = cast("nn.GroupNorm", call.module)
    scale = _Scale(weight=call.held(module.weight), bias=call.held(module.bias))
    return _normalise_groups(call, scale, module.num_groups, follow=True)


def group_norm_function(call: Call) -> object:
    """``functional.group_norm``: the number of groups is a constant, so it stays."""
    scale = _Scale(weight=call.weight(2, "weight"), bias=call.weight(3, "bias"))
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
        call.follow("num_channels", scale.weight.name, 0)
        call.follow("num_groups", scale.weight.name, 0, share)
    return call.value({1: labels}, zero=_is_zero(scale, without=False))


def _record_scale(call: Call, scale: _Scale, labels: Labels | None) -> None:
    """Record the scale and shift of a normalisation."""
    if scale.weight is not None:
        scale.weight.record(0, labels)
        if isinstance(scale.weight.tensor, nn.Parameter):  # a buffer is not trained
            call.labelling.norms.add(scale.weight.name)
    if scale.bias is not None:
        scale.bias.record(0, labels)


def layer_norm(call: Call) -> object:
    """LayerNorm and RMSNorm: normalised dimensions are not cut."""
    module = cast("nn.LayerNorm", call.module)
    tensors = (call.held(module.weight), call.held(getattr(module, "bias", None)))
    return _normalise_over(call, module.normalized_shape, tensors)


def layer_norm_function(call: Call) -> object:
    """``functional.layer_norm`` and ``functional.rms_norm``."""
    shape = cast("Sequence[int]", call.argument(1, "normalized_shape"))
    tensors = (call.weight(2, "weight"), call.weight(3, "bias"))
    return _normalise_over(call, shape, tensors)


def rms_norm_function(call: Call) -> object:
    """``functional.rms_norm``: a scale without a shift."""
    shape = cast("Sequence[int]", call.argument(1, "normalized_shape"))
    return _normalise_over(call, shape, (call.weight(2, "weight"),))


def _normalise_over(
    call: Call, shape: Sequence[int], tensors: Sequence[Weight | None]
) -> object:
    value = call.operand()
    over = range(len(value.shape) - len(shape), len(value.shape))
    for dim in over:
        why = f"it normalises over {value.shape[dim]} positions, which are not cut"
        call.fix(value.labels.get(dim), why)
    for tensor in tensors:
        for dim in range(0 if tensor is None else len(tensor.shape)):
            cast("Weight", tensor).record(dim, None)
    stay = {dim: row for dim, row in value.labels.items() if dim not in over}
    return call.value(stay, zero=False)


def weight_norm(call: Call) -> object:
    """``parametrizations.weight_norm``: a magnitude times a direction of length 1.

    Masked entries of the direction are 0 and add nothing to its length, except along
    the dimension of the magnitude, where that alone is 0
    (``fedprune.common.structure.directions``).
    """
    dim = cast("int", getattr(call.module, "dim"))  # noqa: B009 - a private class
    magnitude, direction = call.operand(0, "weight_g"), call.operand(1, "weight_v")
    if magnitude.tensor is None or direction.tensor is None or not magnitude.zero:
        msg = "its magnitude or its direction is calculated"
        raise StructureError(msg)
    labels: dict[int, Labels | None] = {**direction.labels}
    known = call.labelling.directions.get(id(direction.tensor))
    if dim >= 0 and known == dim:
        row = magnitude.labels.get(dim)
        labels[dim] = call.join(row, direction.labels.get(dim))
    elif dim != -1 or known is not None:
        msg = f"its dimension {dim} is not followed"
        raise StructureError(msg)
    return call.value(labels, zero=True)


def spectral_norm(call: Call) -> object:
    """``parametrizations.spectral_norm``: a weight by its largest singular value.

    The singular vectors lose the masked rows and columns: those of the weight are 0, so
    the product ``u W v``, and each step of the power method, is that of what is left.
    """
    value, module = call.operand(0, "weight"), call.module
    assert module is not None  # noqa: S101 - a rule of a module
    if not value.zero:
        msg = "it divides by a singular value of a weight that is not 0 when masked"
        raise StructureError(msg)
    if len(value.shape) == 1:
        return call.value(value.labels)
    dim = cast("int", module.dim)
    for axis in sorted(value.labels.keys() - {0, 1}):
        call.labelling.hold(value.labels[axis], "positions of a kernel")
    left, right = (cast("torch.Tensor", x) for x in (module._u, module._v))  # noqa: SLF001 - it has no public names
    call.labelling.record(left, 0, value.labels.get(dim))
    rest = [axis for axis in range(len(value.shape)) if axis != dim]
    inside = [axis for axis in rest if axis in value.labels and axis < 2]  # noqa: PLR2004 - weights are [out, in, positions]
    if len(inside) == 1:
        row = value.labels[inside[0]]
        spread = row.reshape([len(row) if axis == inside[0] else 1 for axis in rest])
        shape = [value.shape[axis] for axis in rest]
        call.labelling.record(right, 0, np.broadcast_to(spread, shape).reshape(-1))
    else:
        call.labelling.record(right, 0, None)
        for axis in inside:
            call.fix(value.labels[axis], "its singular vector mixes two dimensions")
    return call.value(value.labels)
