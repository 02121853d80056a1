"""Networks of the structure benchmark: of torchvision, of timm, and three own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from fedprune.common.models.registry import build_model

IMAGE = (3, 224, 224)
_CLASSES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network whose structure is traced.

    Attributes:
        make: Builds it with random weights.
        shape: Shape of an example, batch first.
        oracle: Whether torch-pruning can cut it, as a reference for plans.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    oracle: bool = False

    def example(self) -> Tensor:
        """Return an example: floats, or token ids for a shape of two dimensions."""
        if len(self.shape) == 2:  # noqa: PLR2004 - batch and position
            return torch.arange(self.shape[0] * self.shape[1]).reshape(self.shape)
        return torch.randn(self.shape, generator=torch.Generator().manual_seed(0))


class SmallUNet(nn.Module):
    """Two levels down and up again, with skips that are concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([_double(3, 32), _double(32, 64), _double(64, 128)])
        self.up = nn.ModuleList(
            [nn.ConvTranspose2d(128, 64, 2, 2), nn.ConvTranspose2d(64, 32, 2, 2)]
        )
        self.merge = nn.ModuleList([_double(128, 64), _double(64, 32)])
        self.out = nn.Conv2d(32, 2, 1)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Return float32[n, 2, height, width]."""
        one = self.down[0](x)
        two = self.down[1](functional.max_pool2d(one, 2))
        bottom = self.down[2](functional.max_pool2d(two, 2))
        y = self.merge[0](torch.cat([self.up[0](bottom), two], 1))
        y = self.merge[1](torch.cat([self.up[1](y), one], 1))
        found: Tensor = self.out(y)
        return found


def _double(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for taken in (inputs, outputs):
        layers += [
            nn.Conv2d(taken, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


class GatedDecoder(nn.Module):
    """One block of a language model: RMSNorm, causal attention, gated MLP, tied."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.head_dim = 8, 32
        self.embed = nn.Embedding(512, 256)
        self.norm1, self.norm2, self.norm3 = (nn.RMSNorm(256) for _ in range(3))
        self.qkv = nn.Linear(256, 768, bias=False)
        self.proj = nn.Linear(256, 256, bias=False)
        self.gate, self.up = (nn.Linear(256, 688, bias=False) for _ in range(2))
        self.down = nn.Linear(688, 256, bias=False)
        self.head = nn.Linear(256, 512, bias=False)
        self.head.weight = self.embed.weight

    @override
    def forward(self, ids: Tensor) -> Tensor:
        """Return float32[n, positions, 512]."""
        x: Tensor = self.embed(ids)
        batch, places, _ = x.shape
        qkv = self.qkv(self.norm1(x))
        qkv = qkv.view(batch, places, 3, self.num_heads, self.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).flatten(2))
        y = self.norm2(x)
        x = x + self.down(functional.silu(self.gate(y)) * self.up(y))
        found: Tensor = self.head(self.norm3(x))
        return found


def _encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(128, 8, 256, batch_first=True)
    return nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)


def _group_norm_resnet() -> nn.Module:
    model = build("torchvision:resnet18")
    for name, module in [*model.named_modules()]:
        if isinstance(module, nn.BatchNorm2d):
            path, _, last = name.rpartition(".")
            norm = nn.GroupNorm(8, module.num_features)
            setattr(model.get_submodule(path), last, norm)
    return model


def build(name: str) -> nn.Module:
    """Return a network of torchvision or timm with random weights."""
    return build_model(
        f"{name}@random", num_outputs=_CLASSES, input_shape=IMAGE, seed=0
    )


def _foreign(name: str, *, oracle: bool = False) -> Network:
    return Network(make=partial(build, name), shape=(1, *IMAGE), oracle=oracle)


NETWORKS: Mapping[str, Network] = {
    "ResNet-18": _foreign("torchvision:resnet18", oracle=True),
    "ResNet-50": _foreign("torchvision:resnet50", oracle=True),
    "ResNeXt-50": _foreign("torchvision:resnext50_32x4d", oracle=True),
    "MobileNetV2": _foreign("torchvision:mobilenet_v2", oracle=True),
    "MobileNetV3-Small": _foreign("torchvision:mobilenet_v3_small", oracle=True),
    "EfficientNet-B0": _foreign("torchvision:efficientnet_b0", oracle=True),
    "RegNetY-400MF": _foreign("torchvision:regnet_y_400mf", oracle=True),
    "DenseNet-121": _foreign("torchvision:densenet121", oracle=True),
    "GoogLeNet": _foreign("torchvision:googlenet", oracle=True),
    "ShuffleNetV2": _foreign("torchvision:shufflenet_v2_x1_0"),
    "VGG-16-BN": _foreign("torchvision:vgg16_bn"),
    "ConvNeXt-Tiny": _foreign("torchvision:convnext_tiny"),
    "GroupNorm-ResNet-18": Network(make=_group_norm_resnet, shape=(1, *IMAGE)),
    "ViT-Tiny": _foreign("timm:vit_tiny_patch16_224"),
    "nn.TransformerEncoder": Network(make=_encoder, shape=(2, 16, 128)),
    "gated-MLP decoder": Network(make=GatedDecoder, shape=(2, 16)),
    "small U-Net": Network(make=SmallUNet, shape=(1, 3, 64, 64)),
}
