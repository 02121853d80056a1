"""ResNet-20 for 32 x 32 colour images, pretrained, and the images of its runs.

Names and layers are those of the weights in ``FEDPRUNE_DATA/pretrained`` (He et al.
2015, arXiv:1512.03385, section 4.2): three stages of 16, 32 and 64 channels, and a
shortcut without weights (option A: every second pixel, channels padded with zeros).
"""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from fedprune.common.data.arrays import RawData
from fedprune.common.data.parquet import read_parquet
from fedprune.common.data.places import DATA_VARIABLE, find_folder

WEIGHTS = Path("pretrained") / "cifar10-resnet20.safetensors"
TRAIN, TEST = 10_000, 2_000  # the first images of each split
MODEL = f"{__name__}:ResNet20"
DATA = f"{__name__}:cifar10"

_WIDTHS = (16, 32, 64)
_BLOCKS = 3  # of each stage
# Normalisation of the weights' training: pixels in 0..1, then mean and std.
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)


class Block(nn.Module):
    """Two convolutions beside a shortcut without weights."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride, self.pad = stride, (width - before) // 2
        self.conv1 = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.pad:
            pad = (0, 0, 0, 0, self.pad, self.pad)
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], pad)
        return functional.relu(y + x)


class ResNet20(nn.Module):
    """Three stages of three blocks; 269 722 parameters with ten outputs."""

    def __init__(self, num_outputs: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, _WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_WIDTHS[0])
        self.layer1 = _stage(_WIDTHS[0], _WIDTHS[0])
        self.layer2 = _stage(_WIDTHS[0], _WIDTHS[1])
        self.layer3 = _stage(_WIDTHS[1], _WIDTHS[2])
        self.linear = nn.Linear(_WIDTHS[2], num_outputs)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of the classes, float32[batch, num_outputs]."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        scores: Tensor = self.linear(x.mean(dim=(2, 3)))
        return scores


def weights_file() -> Path | None:
    """Return the pretrained weights, or None where they are missing."""
    root = os.environ.get(DATA_VARIABLE, "")
    path = Path(root).expanduser() / WEIGHTS
    return path if root and path.is_file() else None


def cifar10() -> tuple[NDArray[np.generic], ...]:
    """Return the first images of both splits, normalised as the weights need."""
    raw: RawData = read_parquet(find_folder("cifar10", ""))
    return (
        _normalised(raw.x_train[:TRAIN]),
        np.asarray(raw.y_train[:TRAIN]),
        _normalised(raw.x_test[:TEST]),
        np.asarray(raw.y_test[:TEST]),
    )


def _normalised(pixels: NDArray[np.generic]) -> NDArray[np.float32]:
    shape = (1, 3, 1, 1)
    mean = np.array(_MEAN, np.float32).reshape(shape)
    deviation = np.array(_DEVIATION, np.float32).reshape(shape)
    scaled = pixels.astype(np.float32) / np.float32(255)
    return (scaled - mean) / deviation


def _stage(before: int, width: int) -> nn.Sequential:
    first = Block(before, width, 1 if before == width else 2)
    return nn.Sequential(first, *(Block(width, width, 1) for _ in range(_BLOCKS - 1)))
