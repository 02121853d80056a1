"""Kinds of convolutional networks, each as small as its difficulty allows."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from typing_extensions import override

from fedprune.simulations.benchmarks.kit.coverage.nets.entry import (
    Entry,
    Kinds,
    noise,
    own,
)
from fedprune.simulations.benchmarks.kit.resnet20 import ResNet20

_IMAGE = noise(3, 16, 16)


def conv(
    before: int, after: int, size: int = 3, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Return convolution, batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(before, after, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    )


def head(channels: int, outputs: int = 10) -> nn.Sequential:
    """Return global average pooling and a classifier."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, outputs)
    )


def framed(block: nn.Module, inputs: int = 24, outputs: int = 24) -> nn.Sequential:
    """Return a stem, the block and a classifier."""
    return nn.Sequential(conv(3, inputs), block, head(outputs))


class _LeNet(nn.Module):
    """Convolutions, flattening, linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 5), nn.Conv2d(8, 16, 5)
        self.fc1, self.fc2 = nn.Linear(16, 32), nn.Linear(32, 10)

    @override
    def forward(self, x: Tensor) -> object:
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        return self.fc2(functional.relu(self.fc1(x.view(x.size(0), -1))))


class _Residual(nn.Module):
    """A basic block (He et al. 2015, arXiv:1512.03385)."""

    def __init__(self, before: int = 24, after: int = 24, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(before, after, 3, stride),
            nn.Conv2d(after, after, 3, padding=1),
            nn.BatchNorm2d(after),
        )
        self.shortcut = (
            nn.Identity()
            if before == after and stride == 1
            else nn.Conv2d(before, after, 1, stride)
        )

    @override
    def forward(self, x: Tensor) -> object:
        return functional.relu(self.body(x) + self.shortcut(x))


class _PreActivation(nn.Module):
    """Norm and ReLU before each convolution (He et al. 2016, arXiv:1603.05027)."""

    def __init__(self) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(24), nn.Conv2d(24, 32, 3, padding=1)
        self.bn2, self.conv2 = nn.BatchNorm2d(32), nn.Conv2d(32, 24, 3, padding=1)

    @override
    def forward(self, x: Tensor) -> object:
        y = self.conv1(functional.relu(self.bn1(x)))
        return x + self.conv2(functional.relu(self.bn2(y)))


class _PaddedShortcut(nn.Module):
    """Option A, the new channels after the old ones, as zeros that are concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(16, 32, stride=2), nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32)
        )

    @override
    def forward(self, x: Tensor) -> object:
        short = functional.avg_pool2d(x, 1, 2)
        short = torch.cat([short, torch.zeros_like(short)], 1)
        return functional.relu(self.body(x) + short)


class _SqueezeExcite(nn.Module):
    """A gate from the mean of each channel (Hu et al. 2017, arXiv:1709.01507)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(24, 6), nn.Linear(6, 24)

    @override
    def forward(self, x: Tensor) -> object:
        batch, channels, _, _ = x.size()
        y = functional.adaptive_avg_pool2d(x, 1).view(batch, channels)
        y = torch.sigmoid(self.fc2(functional.relu(self.fc1(y))))
        return x * y.view(batch, channels, 1, 1).expand_as(x)


class _Eca(nn.Module):
    """A gate by a convolution along channels (Wang et al. 2019, arXiv:1910.03151)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.after = conv(24, 24)

    @override
    def forward(self, x: Tensor) -> object:
        y = functional.adaptive_avg_pool2d(x, 1).squeeze(-1).transpose(-1, -2)
        gate = torch.sigmoid(self.conv(y)).transpose(-1, -2).unsqueeze(-1)
        return self.after(x * gate)


class _Cbam(nn.Module):
    """Gates of channels and of places (Woo et al. 2018, arXiv:1807.06521)."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(24, 6), nn.ReLU(), nn.Linear(6, 24))
        self.place = nn.Conv2d(2, 1, 7, padding=3)
        self.after = conv(24, 32)

    @override
    def forward(self, x: Tensor) -> object:
        gate = torch.sigmoid(self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3))))
        x = x * gate[:, :, None, None]
        places = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)
        return self.after(x * torch.sigmoid(self.place(places)))


class _Grn(nn.Module):
    """The block of ConvNeXt V2: responses over the mean of all channels'.

    Source: Woo et al. 2023, arXiv:2301.00808.
    """

    def __init__(self) -> None:
        super().__init__()
        self.depth = nn.Conv2d(24, 24, 7, padding=3, groups=24)
        self.norm = nn.LayerNorm(24)
        self.fc1, self.fc2 = nn.Linear(24, 96), nn.Linear(96, 24)
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, 96))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, 96))

    @override
    def forward(self, x: Tensor) -> object:
        y = self.norm(self.depth(x).permute(0, 2, 3, 1))
        y = functional.gelu(self.fc1(y))
        size = torch.norm(y, p=2, dim=(1, 2), keepdim=True)
        share = size / (size.mean(dim=-1, keepdim=True) + 1e-6)
        y = self.gamma * (y * share) + self.beta + y
        return x + self.fc2(y).permute(0, 3, 1, 2)


class _SegNet(nn.Module):
    """Unpooling to the places of the maxima."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = conv(3, 16), conv(16, 12)
        self.out = nn.Conv2d(12, 2, 1)

    @override
    def forward(self, x: Tensor) -> object:
        x = self.down(x)
        y, where = functional.max_pool2d(x, 2, return_indices=True)
        return self.out(self.up(functional.max_unpool2d(y, where, [2, 2])))


class _StandardConv(nn.Conv2d):
    """A convolution with standardised weights (Qiao et al. 2019, arXiv:1903.10520)."""

    @override
    def forward(self, input: Tensor) -> Tensor:
        weight = self.weight
        weight = weight - weight.mean(dim=(1, 2, 3), keepdim=True)
        weight = weight / (weight.std(dim=(1, 2, 3), keepdim=True) + 1e-5)
        return functional.conv2d(
            input, weight, self.bias, self.stride, self.padding, self.dilation
        )


def _layers(*layers: nn.Module) -> nn.Module:
    """Return a network whose block is these layers, from 24 channels to 24."""
    return framed(nn.Sequential(*layers))


def _normalised(norm: nn.Module) -> nn.Module:
    return _layers(nn.Conv2d(24, 32, 3, padding=1), norm, nn.ReLU(), conv(32, 24))


def _inverted() -> nn.Module:
    depth = (conv(24, 96, 1), conv(96, 96, 3, groups=96))
    return _layers(*depth, nn.Conv2d(96, 24, 1), nn.BatchNorm2d(24))


def _shuffled_pixels() -> nn.Module:
    up = (nn.Conv2d(24, 64, 3, padding=1), nn.PixelShuffle(2), nn.ReLU())
    return nn.Sequential(conv(3, 24), *up, nn.Conv2d(16, 3, 3, padding=1))


def _unshuffled_pixels() -> nn.Module:
    return nn.Sequential(conv(3, 8), nn.PixelUnshuffle(2), conv(32, 24), head(24))


def _flat() -> nn.Module:
    layers = (nn.Conv1d(4, 16, 5), nn.BatchNorm1d(16), nn.ReLU(), nn.MaxPool1d(2))
    return nn.Sequential(*layers, nn.Conv1d(16, 24, 5), nn.ReLU(), *_ending(1, 24))


def _ending(dims: int, channels: int) -> tuple[nn.Module, ...]:
    pool = nn.AdaptiveAvgPool1d(1) if dims == 1 else nn.AdaptiveAvgPool3d(1)
    return pool, nn.Flatten(), nn.Linear(channels, 10)


def _solid() -> nn.Module:
    layers = (nn.Conv3d(1, 12, 3, padding=1), nn.BatchNorm3d(12), nn.ReLU())
    return nn.Sequential(*layers, nn.Conv3d(12, 16, 3), nn.ReLU(), *_ending(3, 16))


def _transposed() -> nn.Module:
    down = (conv(3, 16, stride=2), conv(16, 24, stride=2))
    up = (nn.ConvTranspose2d(24, 16, 2, 2), nn.BatchNorm2d(16), nn.ReLU())
    return nn.Sequential(*down, *up, nn.ConvTranspose2d(16, 3, 2, 2))


def _dilated() -> nn.Module:
    return _layers(nn.Conv2d(24, 32, 3, padding=2, dilation=2), nn.ReLU(), conv(32, 24))


KINDS: Kinds = {
    "convolutions and linear layers": (_LeNet, _IMAGE),
    "residual": (lambda: framed(_Residual()), _IMAGE),
    "residual, projected": (lambda: framed(_Residual(24, 32, 2), 24, 32), _IMAGE),
    "pre-activation": (lambda: framed(_PreActivation()), _IMAGE),
    "padding shortcut (option A)": (ResNet20, _IMAGE),
    "shortcut with zeros concatenated": (
        lambda: framed(_PaddedShortcut(), 16, 32),
        _IMAGE,
    ),
    "squeeze-and-excitation": (lambda: framed(_SqueezeExcite()), _IMAGE),
    "efficient channel attention": (lambda: framed(_Eca()), _IMAGE),
    "CBAM": (lambda: framed(_Cbam(), 24, 32), _IMAGE),
    "global response norm": (lambda: framed(_Grn()), _IMAGE),
    "unpooling by indices": (_SegNet, _IMAGE),
    "weight standardisation": (
        lambda: _layers(_StandardConv(24, 32, 3), nn.ReLU(), conv(32, 24)),
        _IMAGE,
    ),
    "weight norm": (
        lambda: _layers(weight_norm(nn.Conv2d(24, 32, 3)), nn.ReLU(), conv(32, 24)),
        _IMAGE,
    ),
    "spectral norm": (
        lambda: _layers(spectral_norm(nn.Conv2d(24, 32, 3)), nn.ReLU(), conv(32, 24)),
        _IMAGE,
    ),
    "instance norm without affine": (
        lambda: _normalised(nn.InstanceNorm2d(32)),
        _IMAGE,
    ),
    "instance norm, affine": (
        lambda: _normalised(nn.InstanceNorm2d(32, affine=True)),
        _IMAGE,
    ),
    "group norm": (lambda: _normalised(nn.GroupNorm(8, 32)), _IMAGE),
    "batch norm without affine": (
        lambda: _normalised(nn.BatchNorm2d(32, affine=False)),
        _IMAGE,
    ),
    "local response norm": (lambda: _normalised(nn.LocalResponseNorm(5)), _IMAGE),
    "PReLU for each channel": (lambda: _normalised(nn.PReLU(32)), _IMAGE),
    "depthwise separable": (
        lambda: _layers(conv(24, 24, groups=24), conv(24, 32, 1), conv(32, 24)),
        _IMAGE,
    ),
    "inverted residual": (_inverted, _IMAGE),
    "grouped convolution": (
        lambda: _layers(conv(24, 32, 1), conv(32, 32, groups=4), conv(32, 24, 1)),
        _IMAGE,
    ),
    "nn.ChannelShuffle": (
        lambda: _layers(nn.ChannelShuffle(2), conv(24, 24, 1, groups=2)),
        _IMAGE,
    ),
    "pixel shuffle": (_shuffled_pixels, _IMAGE),
    "pixel unshuffle": (_unshuffled_pixels, _IMAGE),
    "1-D convolution": (_flat, noise(4, 40)),
    "3-D convolution": (_solid, noise(1, 8, 8, 8)),
    "transposed convolution": (_transposed, _IMAGE),
    "dilated convolution": (_dilated, _IMAGE),
}


def entries() -> list[Entry]:
    """Return the networks of this file, in the order of the list."""
    return own(KINDS, __name__)
