"""Kinds of Python code that forward methods are written with."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from fedprune.simulations.benchmarks.kit.coverage.nets.entry import (
    Entry,
    Kinds,
    noise,
    own,
    tokens,
)
from fedprune.simulations.benchmarks.kit.coverage.nets.own_conv import conv, head

_IMAGE, _VECTOR = noise(3, 16, 16), noise(16)


class _UnusedLayers(nn.Module):
    """Layers that forward never reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.spare = conv(3, 16), nn.Conv2d(16, 32, 3)
        self.out, self.old = head(16), nn.Parameter(torch.zeros(7, 3))

    @override
    def forward(self, x: Tensor) -> object:
        return self.out(self.body(x))


class _AuxiliaryHead(nn.Module):
    """A second classifier that runs in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = conv(3, 16), conv(16, 24)
        self.aside, self.out = head(16), head(24)

    @override
    def forward(self, x: Tensor) -> object:
        x = self.one(x)
        y = self.out(self.two(x))
        return (y, self.aside(x)) if self.training else y


class _MadeInside(nn.Module):
    """Modules without weights that are made inside forward."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 24, 3)
        self.out = head(24)

    @override
    def forward(self, x: Tensor) -> object:
        x = nn.ReLU()(self.one(x))
        return self.out(nn.Sequential(nn.GELU(), nn.MaxPool2d(2))(self.two(x)))


class _DtypeAndDevice(nn.Module):
    """Limits of the dtype and tensors made on the device of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(16, 24), nn.Linear(24, 10)

    @override
    def forward(self, x: Tensor) -> object:
        y = self.one(x)
        if y.dtype in {torch.float16, torch.bfloat16}:
            y = y.float()
        low = torch.finfo(y.dtype).min
        near = torch.ones(1, y.shape[-1], device=y.device, dtype=y.dtype)
        y = y.to(self.two.weight.dtype).clamp(min=low) * near
        with torch.autocast(device_type=x.device.type, enabled=False):
            return self.two(y.relu())


class _ItemAssignment(nn.Module):
    """A tensor whose parts are written one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.out = (
            nn.Linear(16, 24),
            nn.Linear(16, 24),
            nn.Linear(24, 10),
        )

    @override
    def forward(self, x: Tensor) -> object:
        y = torch.zeros(x.shape[0], 2, self.one.out_features, dtype=x.dtype)
        y[:, 0] = self.one(x)
        y[:, 1] = self.two(x).relu()
        return self.out(y.mean(1))


class _NegatedSizes(nn.Module):
    """Shifts by negated sizes, numbers rounded by ``math`` and ``int``."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.out = nn.Conv2d(3, 16, 3, padding=1), head(16)

    @override
    def forward(self, x: Tensor) -> object:
        x = self.one(x).relu()
        half = x.shape[-1] // 2
        x = torch.roll(x, (-half, -half), (2, 3))
        size = int(math.ceil(x.shape[-1] / 3) * 3)
        x = functional.pad(x, (0, size - x.shape[-1], 0, size - x.shape[-2]))
        return self.out(x[..., : -(size // 3), :])


class _SizeChecks(nn.Module):
    """Asserts and messages about the number of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(16, 24), nn.Linear(24, 10)

    @override
    def forward(self, x: Tensor) -> object:
        x = self.one(x)
        assert x.shape[1] == self.one.out_features, f"{x.shape}"  # noqa: S101 - the kind
        if x.dim() != 2 or x.size(1) != self.two.in_features:  # noqa: PLR2004 - a matrix
            msg = f"found {tuple(x.shape)}"
            raise ValueError(msg)
        return self.two(x.relu())


class _Buffers(nn.Module):
    """A buffer that produces channels, beside those of a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 16, 3, padding=1), conv(20, 24)
        self.register_buffer("places", torch.randn(1, 4, 16, 16))
        self.register_buffer("shift", torch.randn(1, 16, 1, 1))
        self.out = head(24)

    @override
    def forward(self, x: Tensor) -> object:
        x = self.one(x) + self.shift
        x = torch.cat([x, self.places.expand(x.shape[0], -1, -1, -1)], 1)  # type: ignore[operator]
        return self.out(self.two(x))


class _RandomFeatures(nn.Module):
    """Fixed random features, sines and cosines (arXiv:2006.10739)."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("waves", torch.randn(16, 12))
        self.one, self.two = nn.Linear(24, 32), nn.Linear(32, 3)

    @override
    def forward(self, x: Tensor) -> object:
        x = 2 * math.pi * x @ self.waves  # type: ignore[operator]
        x = self.one(torch.cat([x.sin(), x.cos()], -1))
        return self.two(torch.sin(30.0 * x))


class _Table(nn.Module):
    """Rows of a parameter by ``functional.embedding``."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.one = nn.Parameter(torch.randn(64, 20)), nn.Linear(20, 32)
        self.places, self.out = nn.Parameter(torch.randn(1, 12, 20)), nn.Linear(32, 10)

    @override
    def forward(self, ids: Tensor) -> object:
        x = functional.embedding(ids, self.weight) + self.places
        return self.out(self.one(x).relu().mean(1))


class _Bag(nn.Module):
    """``nn.EmbeddingBag`` and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.EmbeddingBag(64, 24), nn.Linear(24, 10)

    @override
    def forward(self, ids: Tensor) -> object:
        return self.out(self.embed(ids))


class _Shared(nn.Module):
    """One block applied three times."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.out = conv(3, 16), conv(16, 16), head(16)

    @override
    def forward(self, x: Tensor) -> object:
        x = self.stem(x)
        for _ in range(3):
            x = x + self.block(x)
        return self.out(x)


class _Functional(nn.Module):
    """Parameters in a list, used by functions only."""

    def __init__(self) -> None:
        super().__init__()
        shapes = [(24, 3, 3, 3), (24,), (10, 24), (10,)]
        self.weights = nn.ParameterList(torch.randn(shape) / 5 for shape in shapes)

    @override
    def forward(self, x: Tensor) -> object:
        x = functional.conv2d(x, self.weights[0], self.weights[1])
        x = functional.adaptive_avg_pool2d(functional.relu(x), 1).flatten(1)
        return functional.linear(x, self.weights[2], self.weights[3])


class _Named(nn.Module):
    """Layers in a dict and in a list, called in loops."""

    def __init__(self) -> None:
        super().__init__()
        self.stems = nn.ModuleDict({"one": conv(3, 8), "two": conv(3, 12, 5)})
        self.layers = nn.ModuleList([conv(20, 16), conv(16, 16)])
        self.out = head(16)

    @override
    def forward(self, x: Tensor) -> object:
        x = torch.cat([stem(x) for _, stem in self.stems.items()], 1)
        for number, layer in enumerate(self.layers):
            x = x + layer(x) if number else layer(x)
        return self.out(x)


class _Spectrogram(nn.Module):
    """A Fourier transform, mel bands by einsum, convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bands", torch.rand(8, 33))
        self.one, self.two = nn.Conv1d(8, 24, 3), nn.Linear(24, 10)

    @override
    def forward(self, x: Tensor) -> object:
        x = torch.fft.rfft(x.unfold(-1, 64, 32)).abs()
        x = torch.einsum("mf,btf->bmt", self.bands, x)
        return self.two(self.one(torch.log1p(x)).relu().mean(-1))


class _FourierLayer(nn.Module):
    """Channels mixed in the frequency domain (FNO, arXiv:2010.08895)."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.local = nn.Linear(2, 12), nn.Conv1d(12, 12, 1)
        self.weight = nn.Parameter(torch.randn(12, 12, 5, dtype=torch.cfloat) / 12)
        self.out = nn.Linear(12, 1)

    @override
    def forward(self, x: Tensor) -> object:
        x = self.lift(x).transpose(1, 2)
        low = torch.fft.rfft(x)[..., :5]
        low = torch.einsum("bim,iom->bom", low, self.weight)
        y = torch.fft.irfft(low, n=x.shape[-1])
        return self.out(functional.gelu(y + self.local(x)).transpose(1, 2))


class _Choice(nn.Module):
    """Masks, ``where`` and the largest entries along positions."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.out = nn.Conv1d(16, 24, 1), nn.Linear(24, 10)

    @override
    def forward(self, x: Tensor) -> object:
        x = self.one(x.transpose(1, 2))
        x = torch.where(x > 0, x, 0.1 * x).masked_fill(x < -1, 0.0)
        return self.out(x.topk(3, dim=-1).values.mean(-1))


class _EarlyExit(nn.Module):
    """A second half that runs only when the first is not sure."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(16, 24), nn.Linear(24, 24)
        self.exit, self.out = nn.Linear(24, 10), nn.Linear(24, 10)

    @override
    def forward(self, x: Tensor) -> object:
        x = self.one(x).relu()
        y = self.exit(x)
        if y.softmax(-1).amax() > 0.9:  # noqa: PLR2004 - a confidence
            return y
        return self.out(self.two(x).relu())


class _Capsules(nn.Module):
    """Votes of capsules for others, routed once (arXiv:1710.09829)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 5, stride=4)
        self.vote = nn.Parameter(torch.randn(5, 36, 8, 4) / 3)

    @override
    def forward(self, x: Tensor) -> object:
        x = self.stem(x).reshape(x.shape[0], -1, 4)
        votes = torch.einsum("jiok,bik->bjio", self.vote[:, : x.shape[1]], x)
        total = votes.mean(2)
        size = total.pow(2).sum(-1, keepdim=True)
        return (total * size.sqrt() / (1 + size)).norm(dim=-1)


KINDS: Kinds = {
    "unused layers": (_UnusedLayers, _IMAGE),
    "auxiliary head in training": (_AuxiliaryHead, _IMAGE),
    "modules made inside forward": (_MadeInside, _IMAGE),
    "dtype and device": (_DtypeAndDevice, _VECTOR),
    "item assignment": (_ItemAssignment, _VECTOR),
    "negated sizes": (_NegatedSizes, _IMAGE),
    "size checks": (_SizeChecks, _VECTOR),
    "buffers that produce channels": (_Buffers, _IMAGE),
    "random features": (_RandomFeatures, _VECTOR),
    "functional.embedding": (_Table, tokens(12)),
    "bag of embeddings": (_Bag, tokens(12)),
    "shared block": (_Shared, _IMAGE),
    "functions with parameters": (_Functional, _IMAGE),
    "dict and list of layers": (_Named, _IMAGE),
    "spectrogram": (_Spectrogram, noise(640)),
    "Fourier layer": (_FourierLayer, noise(16, 2)),
    "masks and top-k": (_Choice, noise(12, 16)),
    "early exit": (_EarlyExit, _VECTOR),
    "capsules": (_Capsules, _IMAGE),
}


def entries() -> list[Entry]:
    """Return the networks of this file, in the order of the list."""
    return own(KINDS, __name__)
