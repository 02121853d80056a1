"""The operations whose channels can be followed: three tables of small functions.

Adding an operation = writing a function ``Call -> result`` and naming it in
``MODULES``, ``FUNCTIONS`` or ``METHODS``.  Modules are matched by their exact type and
functions by identity, so no rule is applied to a similar operation; an operation in no
table is refused by ``fedprune.common.structure.tracing.walk`` unless none of its
operands can be cut, and is never treated as element-wise.
"""

import math
import operator
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import _SpectralNorm, _WeightNorm

from fedprune.common.structure.calls import Handler
from fedprune.common.structure.rules.attention import attention, multihead_attention
from fedprune.common.structure.rules.elementwise import (
    add,
    add_product,
    compare,
    concatenate,
    divide,
    einsum,
    floor_divide,
    grouped_product,
    matrix_product,
    meet,
    modulo,
    multiply,
    negate,
    stack,
    subtract,
    write_item,
)
from fedprune.common.structure.rules.indexing import gather, select
from fedprune.common.structure.rules.layers import (
    bilinear,
    bilinear_function,
    convolution,
    convolution_function,
    embedding,
    embedding_function,
    linear,
    linear_function,
    transposed_function,
)
from fedprune.common.structure.rules.norms import (
    batch_norm,
    batch_norm_function,
    group_norm,
    group_norm_function,
    instance_norm_function,
    layer_norm,
    layer_norm_function,
    rms_norm_function,
    spectral_norm,
    weight_norm,
)
from fedprune.common.structure.rules.recurrent import cell, recurrent
from fedprune.common.structure.rules.reshape import flatten, unflatten, view, view_as
from fedprune.common.structure.rules.shapes import (
    affine_grid,
    along,
    best,
    bounded,
    clamped,
    constant,
    converted,
    filled,
    flip,
    like,
    logarithm_of_sum,
    mean,
    moments,
    norm,
    normalise,
    order,
    pad,
    permute,
    pool,
    prelu,
    resize,
    roll,
    root,
    same,
    sample,
    shifted,
    squeeze,
    total,
    transpose,
    unfold,
    unsqueeze,
    zeros,
    zeros_like,
)
from fedprune.common.structure.rules.sizes import (
    calculate,
    number_of,
    read_attribute,
    read_item,
    read_length,
    read_number,
    read_size,
)
from fedprune.common.structure.rules.splitting import (
    channel_shuffle,
    chunk,
    expand,
    expand_as,
    gated,
    pixel_shuffle,
    pixel_unshuffle,
    repeat,
    repeat_each,
    split,
    unbind,
)

Functions = tuple[Callable[..., object], ...]

# f(0) = 0: a masked channel stays 0.
PRESERVING_MODULES: tuple[type[nn.Module], ...] = (
    *(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d),
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Tanh, nn.Hardswish, nn.Softsign, nn.Softshrink),
    *(nn.Hardshrink, nn.Tanhshrink, nn.RReLU),
)
SHIFTING_MODULES: tuple[type[nn.Module], ...] = (
    *(nn.Sigmoid, nn.LogSigmoid, nn.Hardsigmoid, nn.Softplus, nn.Threshold),
    *(nn.AlphaDropout, nn.FeatureAlphaDropout),
)
CONVOLUTIONS: tuple[type[nn.Module], ...] = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
EACH_CHANNEL: tuple[type[nn.Module], ...] = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)
POOLS: tuple[type[nn.Module], ...] = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d),
    *(nn.AvgPool3d, nn.LPPool1d, nn.LPPool2d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ReflectionPad1d),
    *(nn.ReflectionPad2d, nn.ReplicationPad1d, nn.ReplicationPad2d, nn.CircularPad2d),
)
RESIZES: tuple[type[nn.Module], ...] = (
    *(nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d),
)
MODULES: dict[type[nn.Module], Handler] = {
    **dict.fromkeys(PRESERVING_MODULES, same),
    **dict.fromkeys(SHIFTING_MODULES, shifted),
    **dict.fromkeys(CONVOLUTIONS, convolution),
    **dict.fromkeys(EACH_CHANNEL, batch_norm),
    **{kind: pool(int(kind.__name__[-2])) for kind in POOLS},  # MaxPool2d
    **dict.fromkeys(RESIZES, resize),
    nn.Hardtanh: bounded,
    **dict.fromkeys((nn.LayerNorm, nn.RMSNorm), layer_norm),
    **dict.fromkeys((nn.Softmax, nn.LogSoftmax, nn.Softmin), along),
    nn.Linear: linear,
    nn.Bilinear: bilinear,
    _WeightNorm: weight_norm,
    _SpectralNorm: spectral_norm,
    **dict.fromkeys((nn.Embedding, nn.EmbeddingBag), embedding),
    nn.GroupNorm: group_norm,
    nn.PReLU: prelu,
    nn.MultiheadAttention: multihead_attention,
    **dict.fromkeys((nn.RNN, nn.GRU, nn.LSTM), recurrent),
    **dict.fromkeys((nn.RNNCell, nn.GRUCell, nn.LSTMCell), cell),
    nn.Unfold: unfold,
    nn.Flatten: flatten,
    nn.Unflatten: unflatten,
    nn.ChannelShuffle: channel_shuffle,
    nn.GLU: gated,
    nn.PixelShuffle: pixel_shuffle,
    nn.PixelUnshuffle: pixel_unshuffle,
}

PRESERVING: Functions = (
    *(torch.relu, torch.relu_, functional.relu, functional.relu_, functional.relu6),
    *(functional.leaky_relu, functional.elu, functional.selu, functional.gelu),
    *(functional.silu, functional.mish, functional.hardswish),
    *(functional.tanh, torch.tanh, functional.celu, functional.softsign),
    *(functional.dropout, functional.dropout1d, functional.dropout2d),
    *(functional.dropout3d, torch.clone),
    *(torch.sin, torch.sign, torch.nan_to_num),
)
SHIFTING: Functions = (
    *(torch.sigmoid, functional.sigmoid, functional.hardsigmoid, torch.exp),
    *(functional.softplus, functional.logsigmoid, torch.cos, torch.rsqrt),
    *(torch.reciprocal, torch.log, torch.erf, torch.logical_not),
)
ROOTS: Functions = (torch.abs, torch.sqrt, torch.square)
NORMS: Functions = (torch.norm, torch.linalg.vector_norm, torch.linalg.norm)
ADDITIONS: Functions = (operator.add, operator.iadd, torch.add)
SUBTRACTIONS: Functions = (operator.sub, operator.isub, torch.sub)
COMPARISONS: Functions = (
    *(operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge),
)
MEETINGS: Functions = (
    *(torch.where, torch.maximum, torch.minimum, torch.masked_fill, torch.pow),
    *(operator.pow, operator.and_, operator.or_),
    *(torch.addcmul, torch.addcdiv, torch.lerp),
)
POOLINGS: dict[int, Functions] = {
    1: (
        *(functional.max_pool1d, functional.avg_pool1d),
        *(functional.adaptive_avg_pool1d, functional.adaptive_max_pool1d),
    ),
    2: (
        *(functional.max_pool2d, functional.avg_pool2d, functional.lp_pool2d),
        *(functional.adaptive_avg_pool2d, functional.adaptive_max_pool2d),
    ),
    3: (
        *(functional.max_pool3d, functional.avg_pool3d),
        functional.adaptive_avg_pool3d,
    ),
}
CONSTANTS: Functions = (*(torch.arange, torch.linspace, torch.tensor),)
REDUCTIONS: Functions = (
    *(torch.mean, torch.amax, torch.amin, torch.max, torch.min),
    *(torch.var, torch.std, torch.median),
)
ALONG: Functions = (
    *(functional.softmax, torch.softmax, functional.log_softmax, torch.log_softmax),
    *(torch.cumsum, torch.argsort),
)
# One function of torch under two names; older releases have one of them.
GROUPED: Functions = tuple(
    getattr(place, name)
    for place, name in ((functional, "grouped_mm"), (torch, "_grouped_mm"))
    if hasattr(place, name)
)
FUNCTIONS: dict[Callable[..., object], Handler] = {
    **dict.fromkeys(PRESERVING, same),
    **dict.fromkeys(SHIFTING, shifted),
    **dict.fromkeys(ROOTS, root),
    **dict.fromkeys((torch.clamp, torch.clamp_min), clamped),
    **dict.fromkeys(ADDITIONS, add),
    **dict.fromkeys(SUBTRACTIONS, subtract),
    **dict.fromkeys((operator.neg, torch.neg), negate),
    **dict.fromkeys(COMPARISONS, compare),
    operator.mod: modulo,
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, torch.multiply), multiply),
    **dict.fromkeys((operator.truediv, operator.itruediv, torch.div), divide),
    **dict.fromkeys((operator.floordiv, torch.floor_divide), floor_divide),
    **dict.fromkeys(MEETINGS, meet),
    **{item: pool(n) for n, functions in POOLINGS.items() for item in functions},
    **dict.fromkeys((functional.interpolate, functional.upsample), resize),
    functional.hardtanh: bounded,
    **dict.fromkeys(CONSTANTS, constant),
    **dict.fromkeys((torch.ones, torch.full, torch.empty), filled),
    **dict.fromkeys((torch.ones_like, torch.full_like), like),
    torch.zeros: zeros,
    torch.zeros_like: zeros_like,
    **dict.fromkeys(REDUCTIONS, mean),
    **dict.fromkeys(NORMS, norm),
    **dict.fromkeys((torch.var_mean, torch.std_mean), moments),
    torch.logsumexp: logarithm_of_sum,
    **dict.fromkeys(ALONG, along),
    **dict.fromkeys((torch.topk, torch.kthvalue), best),
    torch.sort: order,
    **dict.fromkeys(
        (functional.conv1d, functional.conv2d, functional.conv3d), convolution_function
    ),
    functional.conv_transpose1d: transposed_function,
    functional.conv_transpose2d: transposed_function,
    functional.conv_transpose3d: transposed_function,
    functional.linear: linear_function,
    functional.bilinear: bilinear_function,
    functional.batch_norm: batch_norm_function,
    functional.instance_norm: instance_norm_function,
    functional.group_norm: group_norm_function,
    functional.layer_norm: layer_norm_function,
    functional.rms_norm: rms_norm_function,
    functional.normalize: normalise,
    functional.scaled_dot_product_attention: attention,
    functional.pad: pad,
    functional.channel_shuffle: channel_shuffle,
    functional.glu: gated,
    functional.pixel_shuffle: pixel_shuffle,
    functional.pixel_unshuffle: pixel_unshuffle,
    **dict.fromkeys((torch.matmul, operator.matmul, torch.bmm), matrix_product),
    **dict.fromkeys((torch.addmm, torch.baddbmm), add_product),
    **dict.fromkeys(GROUPED, grouped_product),
    torch.sum: total,
    torch.einsum: einsum,
    torch.tile: repeat,
    functional.embedding: embedding_function,
    functional.unfold: unfold,
    functional.grid_sample: sample,
    functional.affine_grid: affine_grid,
    torch.cat: concatenate,
    torch.concat: concatenate,
    torch.stack: stack,
    torch.chunk: chunk,
    torch.split: split,
    torch.unbind: unbind,
    torch.flatten: flatten,
    torch.unflatten: unflatten,
    torch.reshape: view,
    torch.permute: permute,
    torch.transpose: transpose,
    torch.t: transpose,
    torch.swapaxes: transpose,
    torch.squeeze: squeeze,
    torch.unsqueeze: unsqueeze,
    torch.roll: roll,
    torch.flip: flip,
    torch.repeat_interleave: repeat_each,
    **dict.fromkeys(
        (torch._assert, int, float, math.ceil, math.floor, operator.not_),  # noqa: SLF001 - what fx makes of an assertion
        calculate,
    ),
    torch.gather: gather,
    torch.index_select: select,
    len: read_length,
    getattr: read_attribute,
    operator.getitem: read_item,
    **dict.fromkeys((operator.setitem, torch.Tensor.__setitem__), write_item),
}
METHODS: dict[str, Handler] = {
    **dict.fromkeys(("relu", "relu_", "tanh", "contiguous", "clone", "detach"), same),
    **dict.fromkeys(("to", "float", "double", "half", "type", "type_as"), converted),
    **dict.fromkeys(("abs", "sqrt", "square"), root),
    **dict.fromkeys(("neg", "requires_grad_"), same),
    **dict.fromkeys(("clamp", "clamp_", "clamp_min", "clamp_min_"), clamped),
    **dict.fromkeys(("sin", "sign", "erf", "bfloat16", "expm1", "log1p"), same),
    **dict.fromkeys(("sigmoid", "exp", "rsqrt", "log"), shifted),
    **dict.fromkeys(("cos", "reciprocal", "bool", "int", "long"), shifted),
    **dict.fromkeys(("add", "add_"), add),
    **dict.fromkeys(("sub", "sub_"), subtract),
    **dict.fromkeys(("mul", "mul_"), multiply),
    **dict.fromkeys(("div", "div_"), divide),
    **dict.fromkeys(("lt", "le", "gt", "ge", "maximum", "minimum"), meet),
    **dict.fromkeys(("pow", "masked_fill", "masked_fill_", "where", "eq", "ne"), meet),
    **dict.fromkeys(("matmul", "bmm"), matrix_product),
    **dict.fromkeys(("addcmul", "addcdiv", "lerp"), meet),
    **dict.fromkeys(("addcmul_", "addcdiv_", "lerp_", "copy_"), meet),
    **dict.fromkeys(("reshape_as", "view_as"), view_as),
    "tile": repeat,
    **dict.fromkeys(("view", "reshape"), view),
    **dict.fromkeys(("softmax", "log_softmax", "cumsum"), along),
    **dict.fromkeys(("mean", "amax", "amin", "max", "min", "var", "std"), mean),
    **dict.fromkeys(("transpose", "swapaxes", "t"), transpose),
    **dict.fromkeys(("new_ones", "new_full", "new_empty"), filled),
    "new_zeros": zeros,
    **dict.fromkeys(("topk", "kthvalue"), best),
    "sort": order,
    "sum": total,
    "norm": norm,
    "logsumexp": logarithm_of_sum,
    "flatten": flatten,
    "unflatten": unflatten,
    "permute": permute,
    "squeeze": squeeze,
    "unsqueeze": unsqueeze,
    "expand": expand,
    "expand_as": expand_as,
    "repeat": repeat,
    "repeat_interleave": repeat_each,
    "chunk": chunk,
    "split": split,
    "unbind": unbind,
    "roll": roll,
    "flip": flip,
    **dict.fromkeys(("addmm", "baddbmm"), add_product),
    "numel": read_number,
    "gather": gather,
    "index_select": select,
    "size": read_size,
    "dim": number_of,
}
# Rules that follow lengths themselves; for all others a length is a plain number.
LENGTHS: frozenset[Handler] = frozenset(
    {
        view,
        view_as,
        unflatten,
        expand,
        repeat,
        chunk,
        split,
        add,
        subtract,
        negate,
        multiply,
        divide,
        meet,
        write_item,
        modulo,
        compare,
    }
    | {
        affine_grid,
        floor_divide,
        calculate,
        number_of,
        constant,
        filled,
        zeros,
        channel_shuffle,
    }
    | {read_attribute, read_size, read_length, read_item, convolution_function}
    | {transposed_function, compare}
)
