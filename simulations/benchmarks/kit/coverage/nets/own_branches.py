"""Kinds of convolutional networks that split, mix or join channels."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from fedprune.simulations.benchmarks.kit.coverage.nets.entry import (
    Entry,
    Kinds,
    noise,
    own,
)
from fedprune.simulations.benchmarks.kit.coverage.nets.own_conv import (
    conv,
    framed,
    head,
)
from fedprune.simulations.benchmarks.kit.networks import SmallUNet

_IMAGE = noise(3, 16, 16)


class _Shuffle(nn.Module):
    """Two groups whose channels are interleaved (Zhang et al., arXiv:1707.01083)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(24, 24, 1, groups=2), conv(24, 24, 1, groups=2)

    @override
    def forward(self, x: Tensor) -> object:
        x = self.conv1(x)
        batch, channels, height, width = x.size()
        x = x.view(batch, 2, channels // 2, height, width).transpose(1, 2)
        return self.conv2(x.contiguous().view(batch, -1, height, width))


class _DenseBlock(nn.Module):
    """Each layer sees all earlier ones (Huang et al. 2016, arXiv:1608.06993)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(conv(24 + 8 * n, 8) for n in range(3))

    @override
    def forward(self, x: Tensor) -> object:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x


class _Inception(nn.Module):
    """Branches of different widths, concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.three = (
            conv(24, 8, 1),
            nn.Sequential(conv(24, 8, 1), conv(8, 10)),
        )
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv(24, 6, 1))

    @override
    def forward(self, x: Tensor) -> object:
        return torch.cat([self.one(x), self.three(x), self.pool(x)], dim=1)


class _Aspp(nn.Module):
    """Dilated branches and image pooling (Chen et al. 2017, arXiv:1706.05587)."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Conv2d(24, 12, 3, padding=rate, dilation=rate) for rate in (1, 2, 4)
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(24, 12, 1))
        self.project = conv(48, 24, 1)

    @override
    def forward(self, x: Tensor) -> object:
        found = [branch(x) for branch in self.branches]
        pooled = functional.interpolate(
            self.pool(x), size=x.shape[-2:], mode="bilinear"
        )
        return self.project(torch.cat([*found, pooled], dim=1))


class _Pyramid(nn.Module):
    """Top-down sums of three levels, one output each (Lin et al., arXiv:1612.03144)."""

    def __init__(self) -> None:
        super().__init__()
        widths = (16, 24, 32)
        self.stages = nn.ModuleList(
            [conv(3, 16), conv(16, 24, 3, 2), conv(24, 32, 3, 2)]
        )
        self.lateral = nn.ModuleList(nn.Conv2d(width, 20, 1) for width in widths)
        self.out = nn.ModuleList(nn.Conv2d(20, 20, 3, padding=1) for _ in widths)
        self.score = nn.Conv2d(20, 4, 1)

    @override
    def forward(self, x: Tensor) -> object:
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        found = [self.lateral[-1](levels[-1])]
        for number in (1, 0):
            side = self.lateral[number](levels[number])
            up = functional.interpolate(found[-1], size=side.shape[-2:], mode="nearest")
            found.append(side + up)
        return tuple(
            self.score(out(x)) for out, x in zip(self.out, found[::-1], strict=True)
        )


class _MixedConv(nn.Module):
    """Channels split by a list attribute into kernels of several sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.splits = [8, 8, 8]
        self.convs = nn.ModuleList(
            nn.Conv2d(8, 8, size, padding=size // 2, groups=8) for size in (3, 5, 7)
        )

    @override
    def forward(self, x: Tensor) -> object:
        parts = torch.split(x, self.splits, 1)
        found = [f(part) for f, part in zip(self.convs, parts, strict=True)]
        return torch.cat(found, 1)


class _Res2(nn.Module):
    """Slices by numbers, each added to the next (Gao et al. 2019, arXiv:1904.01169)."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv(8, 8) for _ in range(2))

    @override
    def forward(self, x: Tensor) -> object:
        first = self.convs[0](x[:, 8:16])
        second = self.convs[1](x[:, 16:] + first)
        return torch.cat([x[:, :8], first, second], 1)


class _Maxout(nn.Module):
    """The larger of each two channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(24, 48, 3, padding=1)

    @override
    def forward(self, x: Tensor) -> object:
        x = self.conv(x)
        return x.view(x.size(0), -1, 2, x.size(2), x.size(3)).amax(2)


class _Crelu(nn.Module):
    """A concatenation of a map and its negative (Shang et al., arXiv:1603.05201)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(24, 12, 3, padding=1), conv(24, 24)

    @override
    def forward(self, x: Tensor) -> object:
        x = self.conv1(x)
        return self.conv2(functional.relu(torch.cat([x, -x], 1)))


class _GatedConv(nn.Module):
    """Halves of a convolution, one the gate of the other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(24, 64, 1), nn.Conv2d(32, 24, 1)

    @override
    def forward(self, x: Tensor) -> object:
        return x + self.conv2(functional.glu(self.conv1(x), dim=1))


class _NonLocal(nn.Module):
    """Attention of all places (Wang et al. 2017, arXiv:1711.07971)."""

    def __init__(self) -> None:
        super().__init__()
        self.theta, self.phi, self.g = (nn.Conv2d(24, 12, 1) for _ in range(3))
        self.out = nn.Conv2d(12, 24, 1)

    @override
    def forward(self, x: Tensor) -> object:
        batch, _, height, width = x.shape
        theta = self.theta(x).flatten(2).transpose(1, 2)
        scores = torch.bmm(theta, self.phi(x).flatten(2)).softmax(-1)
        y = torch.bmm(scores, self.g(x).flatten(2).transpose(1, 2))
        return x + self.out(y.transpose(1, 2).reshape(batch, -1, height, width))


class _SpatialTransformer(nn.Module):
    """Features resampled on a learned grid (Jaderberg et al., arXiv:1506.02025)."""

    def __init__(self) -> None:
        super().__init__()
        self.locate = nn.Sequential(conv(24, 8), head(8, 6))
        self.after = conv(24, 24)

    @override
    def forward(self, x: Tensor) -> object:
        grid = functional.affine_grid(
            self.locate(x).view(-1, 2, 3), list(x.size()), align_corners=False
        )
        return self.after(functional.grid_sample(x, grid, align_corners=False))


class _BlurPool(nn.Module):
    """A fixed kernel, repeated for each channel (Zhang 2019, arXiv:1904.11486)."""

    def __init__(self) -> None:
        super().__init__()
        line = torch.tensor([1.0, 2.0, 1.0])
        kernel = (line[:, None] * line[None, :] / 16)[None, None].repeat(24, 1, 1, 1)
        self.register_buffer("kernel", kernel)

    @override
    def forward(self, x: Tensor) -> object:
        assert isinstance(self.kernel, Tensor)  # noqa: S101 - for the types
        kernel = self.kernel
        return functional.conv2d(x, kernel, stride=2, padding=1, groups=x.shape[1])


class _SelectiveKernel(nn.Module):
    """Branches weighted by a softmax over them (Li et al. 2019, arXiv:1903.06586)."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = conv(24, 24, 3), conv(24, 24, 5)
        self.fc1, self.fc2 = nn.Linear(24, 8), nn.Linear(8, 48)

    @override
    def forward(self, x: Tensor) -> object:
        both = torch.stack([self.small(x), self.large(x)], 1)
        y = functional.relu(self.fc1(both.sum(1).mean((2, 3))))
        gate = self.fc2(y).view(x.size(0), 2, -1).softmax(1)
        return (both * gate[..., None, None]).sum(1)


class _MixedKernels(nn.Module):
    """A kernel for each image, the mixture of three (Chen et al., arXiv:1912.03458)."""

    def __init__(self) -> None:
        super().__init__()
        self.mixture = nn.Linear(24, 3)
        self.weight = nn.Parameter(torch.randn(3, 32, 24, 3, 3) / 10)
        self.after = conv(32, 24)

    @override
    def forward(self, x: Tensor) -> object:
        batch, channels, height, width = x.shape
        share = self.mixture(x.mean((2, 3))).softmax(-1)
        weight = (share @ self.weight.flatten(1)).view(-1, channels, 3, 3)
        y = x.reshape(1, batch * channels, height, width)
        y = functional.conv2d(y, weight, padding=1, groups=batch)
        return self.after(y.view(batch, -1, height, width))


class _RepVgg(nn.Module):
    """Three parallel branches, summed (Ding et al. 2021, arXiv:2101.03697)."""

    def __init__(self) -> None:
        super().__init__()
        self.three = nn.Conv2d(24, 24, 3, padding=1, bias=False)
        self.one = nn.Conv2d(24, 24, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(24) for _ in range(3))

    @override
    def forward(self, x: Tensor) -> object:
        y = self.norms[0](self.three(x)) + self.norms[1](self.one(x))
        return functional.relu(y + self.norms[2](x))


KINDS: Kinds = {
    "channel shuffle": (lambda: framed(_Shuffle()), _IMAGE),
    "dense connections": (lambda: framed(_DenseBlock(), 24, 48), _IMAGE),
    "inception": (lambda: framed(_Inception()), _IMAGE),
    "U-Net": (SmallUNet, noise(3, 32, 32)),
    "dilated pyramid pooling": (lambda: framed(_Aspp()), _IMAGE),
    "feature pyramid": (_Pyramid, _IMAGE),
    "split by a list attribute": (lambda: framed(_MixedConv()), _IMAGE),
    "slices by numbers": (lambda: framed(_Res2()), _IMAGE),
    "maxout": (lambda: framed(_Maxout()), _IMAGE),
    "concatenated negative": (lambda: framed(_Crelu()), _IMAGE),
    "gated convolution": (lambda: framed(_GatedConv()), _IMAGE),
    "non-local block": (lambda: framed(_NonLocal()), _IMAGE),
    "spatial transformer": (lambda: framed(_SpatialTransformer()), _IMAGE),
    "blur pooling": (lambda: framed(_BlurPool()), _IMAGE),
    "selective kernel": (lambda: framed(_SelectiveKernel()), _IMAGE),
    "mixture of kernels": (lambda: framed(_MixedKernels()), _IMAGE),
    "parallel branches": (lambda: framed(_RepVgg()), _IMAGE),
}


def entries() -> list[Entry]:
    """Return the networks of this file, in the order of the list."""
    return own(KINDS, __name__)
