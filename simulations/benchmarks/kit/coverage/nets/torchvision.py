"""Networks of torchvision: the smallest of each family of each task.

A detector is its backbone, its feature pyramid and its heads.  Its boxes are left out:
their number depends on the values, and ``nms`` is missing in a torchvision built for
another torch.  Quantised networks are left out: cut the float network, then quantise.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from fedprune.common.models.zoo import import_torchvision
from fedprune.simulations.benchmarks.kit.coverage.nets.entry import (
    TORCHVISION,
    Entry,
    Inputs,
    noise,
    noises,
)


class Pyramid(nn.Module):
    """Backbone and heads of a detector, without boxes.

    Args:
        network: The detector.
        heads: Returns its heads.
    """

    def __init__(
        self,
        network: Any,  # noqa: ANN401 - torchvision is untyped here
        heads: Callable[[nn.Module], nn.Module],
    ) -> None:
        super().__init__()
        self.backbone, self.head = network.backbone, heads(network)

    @override
    def forward(self, x: Tensor) -> object:
        """Return the outputs of the heads on all levels."""
        return self.head([*self.backbone(x).values()])


class RegionHeads(nn.Module):
    """Region proposals and the box head of a two-stage detector, on whole levels."""

    def __init__(self, network: Any) -> None:  # noqa: ANN401 - torchvision is untyped here
        super().__init__()
        self.proposals = network.rpn.head
        self.pool = nn.AdaptiveAvgPool2d(7)
        self.box, self.predict = (
            network.roi_heads.box_head,
            network.roi_heads.box_predictor,
        )

    @override
    def forward(self, levels: list[Tensor]) -> object:
        """Return scores and offsets of proposals, and of one box for each image."""
        return self.proposals(levels), self.predict(self.box(self.pool(levels[0])))


class MaskHeads(nn.Module):
    """The branch of masks or key points of a two-stage detector, on a whole level."""

    def __init__(self, network: Any, name: str) -> None:  # noqa: ANN401 - torchvision is untyped here
        super().__init__()
        self.proposals = network.rpn.head
        self.branch = getattr(network.roi_heads, f"{name}_head")
        self.predict = getattr(network.roi_heads, f"{name}_predictor")

    @override
    def forward(self, levels: list[Tensor]) -> object:
        """Return scores and offsets of proposals, and the branch's map."""
        return self.proposals(levels), self.predict(self.branch(levels[-1]))


_SMALL = noise(3, 64, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One network.

    Attributes:
        source: Its module.
        inputs: Its inputs.
        given: Arguments of its builder.
        heads: The heads of a detector.
        make: Builds it, where that of the registry builds only large ones.
    """

    source: str = "torchvision.models"
    inputs: Inputs = _SMALL
    given: Mapping[str, object] = field(default_factory=dict)
    heads: Callable[[nn.Module], nn.Module] | None = None
    make: Callable[[], nn.Module] | None = None

    def build(self, name: str) -> nn.Module:
        """Return the network called ``name`` with random weights."""
        import_torchvision()
        if self.make is not None:
            return self.make()
        models: Any = import_module("torchvision.models")
        given: dict[str, object] = {"weights": None, **self.given}
        if self.source.endswith(("segmentation", "detection")):
            given = {"weights_backbone": None, **given}
        network: nn.Module = models.get_model(name.partition(" ")[0], **given)
        return network if self.heads is None else Pyramid(network, self.heads)


def _head(network: Any) -> nn.Module:  # noqa: ANN401 - torchvision is untyped here
    found: nn.Module = network.head
    return found


def _mvit(*, second: bool) -> nn.Module:
    """Return an MViT with four of the sixteen blocks, on 8 images of 64 x 64 pixels.

    The networks of the registry take clips of 16 x 224 x 224 only: 70 GFLOPs.

    Args:
        second: Whether it is built as MViT v2: relative positions, residual pooling.
    """
    video: Any = import_module("torchvision.models.video.mvit")
    wide, kernel = [1, 2, 2], [3, 3, 3]
    whole = [1, 1, 1]
    # heads, channels in, channels out, strides of queries, of keys and values
    rows = [
        (1, 96, 192, whole, [1, 4, 4]),
        (2, 192, 192, wide, wide),
        (2, 192, 384, whole, wide),
        (4, 384, 384, wide, whole),
    ]
    blocks = [
        video.MSBlockConfig(heads, before, after, kernel, kernel, queries, keys)
        for heads, before, after, queries, keys in rows
    ]
    network: nn.Module = video.MViT(
        spatial_size=(64, 64),
        temporal_size=8,
        block_setting=blocks,
        residual_pool=second,
        residual_with_cls_embed=not second,
        rel_pos_embed=second,
        proj_after_attn=second,
    )
    return network


_SEGMENTATION = "torchvision.models.segmentation"
_DETECTION = "torchvision.models.detection"
_FLOW = "torchvision.models.optical_flow"
_VIDEO = "torchvision.models.video"
_LARGE = noise(3, 96, 96)
_FILM = noise(3, 8, 64, 64)
_QUIET = {"init_weights": False}

_ROWS = {
    "alexnet": _Row(),
    "convnext_tiny": _Row(),
    "densenet121": _Row(),
    "efficientnet_b0": _Row(),
    "efficientnet_v2_s": _Row(),
    "googlenet": _Row(given=_QUIET | {"aux_logits": False}),
    "googlenet with auxiliary heads": _Row(given=_QUIET),
    "inception_v3": _Row(inputs=noise(3, 299, 299), given=_QUIET),
    "maxvit_t": _Row(inputs=noise(3, 224, 224)),
    "mnasnet0_5": _Row(),
    "mobilenet_v2": _Row(),
    "mobilenet_v3_small": _Row(),
    "regnet_x_400mf": _Row(),
    "regnet_y_400mf": _Row(),
    "resnet18": _Row(),
    "resnet50": _Row(),
    "resnext50_32x4d": _Row(),
    "shufflenet_v2_x0_5": _Row(),
    "squeezenet1_1": _Row(),
    "swin_t": _Row(inputs=_LARGE),
    "swin_v2_t": _Row(inputs=_LARGE),
    "vgg11": _Row(given=_QUIET),
    "vgg11_bn": _Row(given=_QUIET),
    "vit_b_32": _Row(given={"image_size": 96}, inputs=_LARGE),
    "wide_resnet50_2": _Row(),
    "deeplabv3_mobilenet_v3_large": _Row(source=_SEGMENTATION),
    "fcn_resnet50": _Row(source=_SEGMENTATION),
    "lraspp_mobilenet_v3_large": _Row(source=_SEGMENTATION),
    "fasterrcnn_mobilenet_v3_large_320_fpn": _Row(source=_DETECTION, heads=RegionHeads),
    "fcos_resnet50_fpn": _Row(source=_DETECTION, heads=_head),
    "keypointrcnn_resnet50_fpn": _Row(
        source=_DETECTION, heads=lambda network: MaskHeads(network, "keypoint")
    ),
    "maskrcnn_resnet50_fpn": _Row(
        source=_DETECTION, heads=lambda network: MaskHeads(network, "mask")
    ),
    "retinanet_resnet50_fpn": _Row(source=_DETECTION, heads=_head),
    "ssd300_vgg16": _Row(source=_DETECTION, inputs=noise(3, 300, 300), heads=_head),
    "ssdlite320_mobilenet_v3_large": _Row(
        source=_DETECTION, inputs=noise(3, 96, 96), heads=_head
    ),
    "raft_large": _Row(source=_FLOW, inputs=noises((3, 128, 128), (3, 128, 128))),
    "raft_small": _Row(source=_FLOW, inputs=noises((3, 128, 128), (3, 128, 128))),
    "mc3_18": _Row(source=_VIDEO, inputs=_FILM),
    "mvit of four blocks, as v1": _Row(
        source=_VIDEO, inputs=_FILM, make=partial(_mvit, second=False)
    ),
    "mvit of four blocks, as v2": _Row(
        source=_VIDEO, inputs=_FILM, make=partial(_mvit, second=True)
    ),
    "r2plus1d_18": _Row(source=_VIDEO, inputs=_FILM),
    "r3d_18": _Row(source=_VIDEO, inputs=_FILM),
    "s3d": _Row(source=_VIDEO, inputs=noise(3, 14, 224, 224)),
    "swin3d_t": _Row(source=_VIDEO, inputs=_FILM),
}


def entries() -> list[Entry]:
    """Return the networks of this set, in the order of the list."""
    return [
        Entry(
            origin=TORCHVISION,
            name=name,
            source=row.source,
            make=partial(row.build, name),
            inputs=row.inputs,
        )
        for name, row in _ROWS.items()
    ]
