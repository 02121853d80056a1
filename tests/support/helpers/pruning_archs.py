"""Small networks built as the well-known architectures are, one for each difficulty."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


def _conv(inputs: int, outputs: int, size: int = 3, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, padding=size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def _head(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3))


class ResNeXt(nn.Module):
    """Bottlenecks with grouped convolutions: 16 + 16 // 4 + 8 // 4 units."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, 16)
        self.inner = nn.Sequential(_conv(16, 16, 1), _conv(16, 8, 3, groups=4))
        self.out = nn.Conv2d(8, 16, 1)
        self.head = _head(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(functional.relu(x + self.out(self.inner(x))))


class SqueezeExcite(nn.Module):
    """An inverted residual with a gate, as in MobileNetV3 and EfficientNet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, 8)
        self.expand = _conv(8, 24, 1)
        self.depth = _conv(24, 24, 3, groups=24)
        self.squeeze = nn.Conv2d(24, 6, 1)
        self.excite = nn.Conv2d(6, 24, 1)
        self.project = nn.Sequential(nn.Conv2d(24, 8, 1), nn.BatchNorm2d(8))
        self.head = _head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.depth(self.expand(x))
        gate = functional.adaptive_avg_pool2d(y, 1)
        gate = functional.hardsigmoid(self.excite(functional.silu(self.squeeze(gate))))
        return self.head(x + self.project(gate * y))


class DenseNet(nn.Module):
    """Every layer sees all earlier ones: 8 + 4 * (8 + 4) + 12 units."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.layers = nn.ModuleList()
        for number in range(4):
            inputs = 8 + 4 * number
            self.layers.append(
                nn.Sequential(
                    *(nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, 8, 1)),
                    *(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1)),
                )
            )
        self.transition = nn.Sequential(
            nn.BatchNorm2d(24), nn.ReLU(), nn.Conv2d(24, 12, 1), nn.AvgPool2d(2)
        )
        self.head = _head(12)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.stem(x)]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return self.head(self.transition(torch.cat(features, 1)))


class Inception(nn.Module):
    """Branches of different widths, concatenated, then flattened with their places."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, 8)
        self.one = _conv(8, 4, 1)
        self.three = nn.Sequential(_conv(8, 6, 1), _conv(6, 10))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), _conv(8, 5, 1))
        self.fc = nn.Linear(19 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat((self.one(x), self.three(x), self.pool(x)), dim=1)
        return self.fc(functional.adaptive_max_pool2d(x, 2).flatten(1))


class Shuffle(nn.Module):
    """Channels are halved and shuffled, as in ShuffleNetV2."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, 16)
        self.branch = nn.Sequential(
            *(_conv(8, 12, 1), nn.Conv2d(12, 12, 3, padding=1, groups=12)),
            *(nn.BatchNorm2d(12), _conv(12, 8, 1)),
        )
        self.tail = _conv(16, 10, 1)
        self.head = _head(10)

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.stem(x).chunk(2, dim=1)
        x = torch.cat((one, self.branch(two)), dim=1)
        batch, channels, height, width = x.size()
        x = x.view(batch, 2, channels // 2, height, width)
        x = torch.transpose(x, 1, 2).contiguous().view(batch, channels, height, width)
        return self.head(self.tail(x))


class UNet(nn.Module):
    """Down, up by transposed convolution and by pixel shuffle, with skips."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = _conv(3, 6)
        self.down2 = _conv(6, 12)
        self.bottom = nn.Sequential(nn.Conv2d(12, 16, 3, padding=1), nn.PReLU(16))
        self.up2 = nn.ConvTranspose2d(16, 12, 2, stride=2)
        self.merge2 = _conv(24, 8)
        self.up1 = nn.Sequential(nn.Conv2d(8, 24, 1), nn.PixelShuffle(2))
        self.merge1 = nn.Sequential(
            nn.Conv2d(12, 6, 3, padding=1), nn.InstanceNorm2d(6, affine=True)
        )
        self.out = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.down1(x)
        two = self.down2(functional.max_pool2d(one, 2))
        y = self.bottom(functional.avg_pool2d(two, 2))
        y = self.merge2(torch.cat([self.up2(y), two], 1))
        y = self.merge1(torch.cat([self.up1(y), one], 1))
        return self.out(functional.interpolate(y, scale_factor=2.0))


class Transposed(nn.Module):
    """Transposed convolutions with as many groups as channels, and with fewer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, 8)
        self.depth = nn.ConvTranspose2d(8, 16, 2, stride=2, groups=8)
        self.group = nn.ConvTranspose2d(16, 8, 3, padding=1, groups=2)
        self.multiple = nn.Conv2d(8, 24, 1, groups=8)
        self.head = _head(24)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.multiple(self.group(self.depth(self.stem(x)))))


class ConvNeXt(nn.Module):
    """Depthwise convolution, LayerNorm, an MLP in the last dimension, a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 4, stride=4)
        self.depth = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.norm = nn.LayerNorm(12)
        self.mlp = nn.Sequential(nn.Linear(12, 48), nn.GELU(), nn.Linear(48, 12))
        self.scale = nn.Parameter(torch.full((12, 1, 1), 0.5))
        self.norm2 = nn.LayerNorm(12)
        self.fc = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.depth(x).permute(0, 2, 3, 1))
        x = x + self.scale * torch.permute(self.mlp(y), (0, 3, 1, 2))
        return self.fc(self.norm2(x.mean([-2, -1])))


class Attention(nn.Module):
    """Fused queries, keys and values, as in the vision transformers of timm."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.head_dim = dim // heads
        self.inner = dim
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, places, _ = x.shape
        qkv = self.qkv(x).reshape(batch, places, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        x = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(batch, places, self.inner))


class VisionTransformer(nn.Module):
    """Patches, a class token, positions, pre-norm blocks: 2 * (4 + 32) units."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.places = nn.Parameter(torch.randn(1, 5, 16))
        self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(5))
        self.attention = nn.ModuleList(Attention(16, 4) for _ in range(2))
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
            for _ in range(2)
        )
        self.fc = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        for number in range(2):
            x = x + self.attention[number](self.norms[2 * number](x))
            x = x + self.mlp[number](self.norms[2 * number + 1](x))
        return self.fc(self.norms[4](x)[:, 0])


class Decoder(nn.Module):
    """Embedding tied to the output, RMSNorm, causal attention, a gated MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.width = 4, 4
        self.embed = nn.Embedding(11, 16)
        self.norm1, self.norm2, self.norm3 = (nn.RMSNorm(16) for _ in range(3))
        self.q, self.k, self.v = (nn.Linear(16, 16, bias=False) for _ in range(3))
        self.o = nn.Linear(16, 16, bias=False)
        self.gate_up = nn.Linear(16, 48, bias=False)
        self.down = nn.Linear(24, 16, bias=False)
        self.head = nn.Linear(16, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        y = self.norm1(x)
        shape = (*y.shape[:-1], -1, self.width)
        q, k, v = (f(y).view(shape).transpose(1, 2) for f in (self.q, self.k, self.v))
        scores = q @ k.transpose(-2, -1) * self.width**-0.5
        mask = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
        scores = scores.masked_fill(~mask, float("-inf")).softmax(-1)
        y = (scores @ v).transpose(1, 2).reshape(*x.shape[:-1], -1)
        x = x + self.o(y)
        gate, up = self.gate_up(self.norm2(x)).chunk(2, -1)
        x = x + self.down(functional.silu(gate) * up)
        return self.head(self.norm3(x))


class Bag(nn.Module):
    """Embedded words are summed and classified: the embedding itself is cut."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 12)
        self.fc1 = nn.Linear(12, 8)
        self.fc2 = nn.Linear(8, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.fc2(functional.relu(self.fc1(self.embed(ids).sum(1))))


def encoder(*, norm_first: bool = False) -> nn.Module:
    """Return ``nn.TransformerEncoder`` of two layers: 2 * (4 + 24) units."""
    layer = nn.TransformerEncoderLayer(
        16, 4, 24, batch_first=True, norm_first=norm_first
    )
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


class Cross(nn.Module):
    """Cross-attention with keys and values of other widths, sequence first."""

    def __init__(self) -> None:
        super().__init__()
        self.keys = nn.Linear(6, 10)
        self.attention = nn.MultiheadAttention(8, 2, kdim=10, vdim=6, add_bias_kv=True)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        found, _ = self.attention(x[..., :8], self.keys(x[..., 2:]), x[..., 2:])
        return self.fc(found)


IMAGE = (2, 3, 8, 8)
# name -> (network, shape of an example, units counted by hand)
ARCHITECTURES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "ResNeXt": (ResNeXt, IMAGE, 16 + 4 + 2),
    "squeeze and excite": (SqueezeExcite, IMAGE, 8 + 24 + 6),
    "DenseNet": (DenseNet, IMAGE, 8 + 4 * (8 + 4) + 12),
    "Inception": (Inception, IMAGE, 8 + 4 + 6 + 10 + 5),
    "ShuffleNet": (Shuffle, IMAGE, 8 + 12 + 10),
    "U-Net": (UNet, IMAGE, 6 + 12 + 16 + 12 + 8 + 6 + 6),
    "transposed": (Transposed, IMAGE, 4 + 4),
    "ConvNeXt": (ConvNeXt, IMAGE, 48),
    "vision transformer": (VisionTransformer, IMAGE, 2 * (4 + 32)),
    "TransformerEncoder": (encoder, (2, 5, 16), 2 * (4 + 24)),
    "pre-norm encoder": (lambda: encoder(norm_first=True), (2, 5, 16), 2 * (4 + 24)),
    "gated decoder": (Decoder, (2, 5), 4 + 24),
    "embedding": (Bag, (2, 5), 12 + 8),
    "cross-attention": (Cross, (5, 2, 8), 10 + 2 + 8),
}


def example_of(shape: tuple[int, ...]) -> Tensor:
    """Return an example: images and sequences of numbers, or word numbers."""
    if len(shape) == 2:
        return torch.arange(shape[0] * shape[1]).reshape(shape) % 11
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).double()
