"""CIFAR-10 with a pretrained ResNet-20: map-style images, flips and crops.

Used by ``pretrained-vision.toml``; needs ``FEDPRUNE_DATA``.
"""

from io import BytesIO
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from fedprune.common.data.examples import Batch
from fedprune.common.data.places import find_folder
from fedprune.common.description import Description
from fedprune.common.tasks.task import Data, Task
from fedprune.simulations.benchmarks.kit.resnet20 import ResNet20

TRAIN, TEST = 10_000, 2_000  # the first images of each split
_CROP = 4  # pixels by which an image is moved at most
# Normalisation of the weights' training: pixels in 0..1, then mean and deviation.
_MEAN = torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1)
_DEVIATION = torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)


class Images:
    """Encoded images, decoded when they are read.

    Args:
        encoded: Bytes of each PNG or JPEG.
        targets: Their classes, int64[n].
    """

    def __init__(self, encoded: list[bytes], targets: np.ndarray) -> None:
        self._encoded, self.targets = encoded, targets

    def __len__(self) -> int:
        return len(self._encoded)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return pixels uint8[3, 32, 32] and the class."""
        with Image.open(BytesIO(self._encoded[index])) as image:
            pixels = np.array(image.convert("RGB"))
        return torch.from_numpy(pixels).permute(2, 0, 1), int(self.targets[index])


class PretrainedVision(Task):
    """Ten classes of photographs; the network starts from ``task.weights``.

    Attributes:
        sizes: Number of training and of test images, the first of each split.
    """

    sizes = (TRAIN, TEST)

    @override
    def network(self) -> nn.Module:
        """Return ResNet-20, 269 722 parameters."""
        return ResNet20()

    @override
    def train_data(self, client: str) -> Data:
        """Return the images that ``task.partition`` deals out."""
        return self._split("train", self.sizes[0])

    @override
    def test_data(self) -> Data:
        """Return the first test images."""
        return self._split("test", self.sizes[1])

    @override
    def example(self) -> Tensor:
        """Return zeros: a server has no images."""
        return torch.zeros(2, 3, 32, 32)

    @override
    def collate(self, items: Any) -> Batch:
        """Return normalised images float32[b, 3, 32, 32] and classes int64[b]."""
        pixels = torch.stack([item[0] for item in items])
        inputs = (pixels / 255.0 - _MEAN) / _DEVIATION
        return Batch(inputs, torch.tensor([item[1] for item in items]))

    @override
    def describe(self) -> Description:
        """Return the preprocessing of pixels 0..255."""
        return Description(
            offset=tuple((255.0 * _MEAN).flatten().tolist()),
            scale=tuple((1.0 / (255.0 * _DEVIATION)).flatten().tolist()),
            stored="uint8",
        )

    @override
    def augment(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return each image flipped or not, and moved by up to four pixels."""
        images: Tensor = batch.inputs
        count, side = len(images), images.shape[-1]
        flips = torch.rand(count, generator=generator) < 0.5  # noqa: PLR2004 - a half
        images = torch.where(flips.view(-1, 1, 1, 1), images.flip(3), images)
        padded = functional.pad(images, (_CROP,) * 4)
        corners = torch.randint(2 * _CROP + 1, (count, 2), generator=generator)
        moved = [
            image[:, top : top + side, left : left + side]
            for image, (top, left) in zip(padded, corners.tolist(), strict=True)
        ]
        return Batch(torch.stack(moved), batch.targets)

    def _split(self, name: str, most: int) -> Images:
        path = find_folder("cifar10", self.config.task.data_dir) / f"{name}.parquet"
        table = pq.read_table(path, columns=["image", "label"]).slice(0, most)
        encoded = [image["bytes"] for image in table.column("image").to_pylist()]
        return Images(encoded, table.column("label").to_numpy())


class FewImages(PretrainedVision):
    """The same task with as many images as three small devices need."""

    sizes = (300, 100)
