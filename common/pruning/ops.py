"""The operations whose channels can be followed: three tables of small functions.

Adding an operation = writing a function ``Call -> result`` and naming it in
``MODULES``, ``FUNCTIONS`` or ``METHODS``.  Modules are matched by their exact type and
functions by identity, so nothing is ever taken for something it resembles; what is in
no table is refused by ``common.pruning.trace``, never treated as element-wise.
"""

import operator
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from common.pruning.calls import Call, Handler, channels_only
from common.pruning.op_layers import batch_norm, convolution, group_norm, linear
from common.pruning.op_shapes import (
    combine,
    flatten,
    mean,
    read_attribute,
    read_item,
    read_size,
    view,
)


def same(call: Call) -> object:
    """Activations, dropout, Identity: every position for itself."""
    return call.value(call.operand().labels)


def pool(spatial: int) -> Handler:
    """Pooling over the last ``spatial`` dimensions."""

    def handle(call: Call) -> object:
        return call.value({1: channels_only(call.operand(), 2 + spatial)})

    return handle


ELEMENTWISE_MODULES: tuple[type[nn.Module], ...] = (
    *(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Sigmoid, nn.LogSigmoid, nn.Hardsigmoid, nn.Tanh, nn.Hardtanh),
    *(nn.Hardswish, nn.Softplus, nn.Softsign, nn.Softshrink, nn.Hardshrink),
)
MODULES: dict[type[nn.Module], Handler] = {
    **dict.fromkeys(ELEMENTWISE_MODULES, same),
    **dict.fromkeys((nn.Conv1d, nn.Conv2d), convolution),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d), batch_norm),
    **dict.fromkeys((nn.MaxPool1d, nn.AvgPool1d), pool(1)),
    **dict.fromkeys((nn.AdaptiveAvgPool1d, nn.AdaptiveMaxPool1d), pool(1)),
    **dict.fromkeys((nn.MaxPool2d, nn.AvgPool2d), pool(2)),
    **dict.fromkeys((nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d), pool(2)),
    nn.Linear: linear,
    nn.GroupNorm: group_norm,
    nn.Flatten: flatten,
}
ELEMENTWISE_FUNCTIONS: tuple[Callable[..., object], ...] = (
    *(torch.relu, torch.relu_, functional.relu, functional.relu_, functional.relu6),
    *(functional.leaky_relu, functional.elu, functional.selu, functional.gelu),
    *(functional.silu, functional.mish, functional.hardswish, functional.hardtanh),
    *(torch.sigmoid, functional.sigmoid, functional.hardsigmoid),
    *(torch.tanh, functional.tanh, functional.softplus),
    *(functional.dropout, functional.dropout1d, functional.dropout2d),
)
ADDITIONS: tuple[Callable[..., object], ...] = (
    *(operator.add, operator.iadd, torch.add, operator.sub, operator.isub, torch.sub),
    *(operator.mul, operator.imul, torch.mul),
)
POOLS_1D: tuple[Callable[..., object], ...] = (
    *(functional.max_pool1d, functional.avg_pool1d, functional.adaptive_avg_pool1d),
    functional.adaptive_max_pool1d,
)
POOLS_2D: tuple[Callable[..., object], ...] = (
    *(functional.max_pool2d, functional.avg_pool2d, functional.adaptive_avg_pool2d),
    functional.adaptive_max_pool2d,
)
FUNCTIONS: dict[Callable[..., object], Handler] = {
    **dict.fromkeys(ELEMENTWISE_FUNCTIONS, same),
    **dict.fromkeys(ADDITIONS, combine),
    **dict.fromkeys(POOLS_1D, pool(1)),
    **dict.fromkeys(POOLS_2D, pool(2)),
    torch.flatten: flatten,
    torch.mean: mean,
    getattr: read_attribute,
    operator.getitem: read_item,
}
METHODS: dict[str, Handler] = {
    **dict.fromkeys(("relu", "relu_", "sigmoid", "tanh", "contiguous"), same),
    **dict.fromkeys(("add", "add_", "sub", "sub_", "mul", "mul_"), combine),
    **dict.fromkeys(("view", "reshape"), view),
    "flatten": flatten,
    "mean": mean,
    "size": read_size,
}
