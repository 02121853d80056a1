"""The reference networks: convolution, linear, batch norm, ReLU, pooling, flatten, add.

All of them can be traced by ``torch.fx``, so their channels can be pruned.  No ReLU
works in place: scores are taken at batch-norm outputs, which must survive.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from typing_extensions import override

from fedprune.common.errors import ConfigError

Shape = tuple[int, ...]

_IMAGE_DIMS = 3
_VGG11 = ((64,), (128,), (256, 256), (512, 512), (512, 512))
_LENET_SIDE = 16


def _image_shape(name: str, input_shape: Shape, smallest: int) -> tuple[int, int, int]:
    """Return (channels, height, width), or refuse an input that does not fit."""
    if len(input_shape) != _IMAGE_DIMS or min(input_shape[1:]) < smallest:
        msg = (
            f"'{name}' takes images (channels, height, width) of at least "
            f"{smallest} x {smallest}, the data has shape {input_shape}"
        )
        raise ConfigError(msg)
    channels, height, width = input_shape
    return channels, height, width


def _conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    # No bias: the batch norm after it would subtract it again.
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


def _initialise(model: nn.Module) -> None:
    """Draw convolutions after He et al. 2015, arXiv:1502.01852; gamma 1, beta 0."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class LeNet5(nn.Module):
    """LeNet-5 as in Caffe: no ReLU after the convolutions.

    Source: LeCun et al. 1998, in the form of Caffe's ``lenet.prototxt``; 431 080
    parameters on 28 x 28 x 1 and ten classes.

    Args:
        num_outputs: Entries of the output, >= 1.
        input_shape: (channels, height, width), at least 16 x 16.
    """

    def __init__(self, num_outputs: int, input_shape: Shape) -> None:
        super().__init__()
        channels, height, width = _image_shape("lenet5", input_shape, _LENET_SIDE)
        self.conv1 = nn.Conv2d(channels, 20, 5)
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.pool2 = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        positions = (((height - 4) // 2 - 4) // 2) * (((width - 4) // 2 - 4) // 2)
        self.fc1 = nn.Linear(50 * positions, 500)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(500, num_outputs)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Return float32[n, num_outputs] for float32[n, channels, height, width]."""
        x = self.pool1(self.conv1(x))
        x = self.pool2(self.conv2(x))
        x = self.relu(self.fc1(self.flatten(x)))
        out: Tensor = self.fc2(x)
        return out


class Perceptron(nn.Sequential):
    """Two hidden layers of 128 with ReLU, on inputs of any shape.

    Args:
        num_outputs: Entries of the output, >= 1.
        input_shape: Shape of one example; flattened.
    """

    def __init__(self, num_outputs: int, input_shape: Shape) -> None:
        size = 1
        for length in input_shape:
            size *= length
        super().__init__(
            nn.Flatten(),
            nn.Linear(size, 128),
            nn.ReLU(),
            nn.Linear(128, 128),
            nn.ReLU(),
            nn.Linear(128, num_outputs),
        )


class BasicBlock(nn.Module):
    """Two convolutions and a shortcut: 1 x 1 convolution where the shape changes.

    Source: He et al. 2016, arXiv:1512.03385, option B.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = _conv3x3(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.shortcut: nn.Module | None = None
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                nn.BatchNorm2d(outputs),
            )

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Return float32[n, outputs, height / stride, width / stride]."""
        passed = x if self.shortcut is None else self.shortcut(x)
        out = self.relu1(self.bn1(self.conv1(x)))
        result: Tensor = self.relu2(self.bn2(self.conv2(out)) + passed)
        return result


class ResNet(nn.Module):
    """Residual network with a 3 x 3 stem, for small images.

    Every stage but the first halves the image.

    Args:
        num_outputs: Entries of the output, >= 1.
        channels: Channels of the image.
        widths: Channels of each stage.
        blocks: Basic blocks of each stage.
    """

    def __init__(
        self,
        num_outputs: int,
        channels: int,
        widths: Sequence[int],
        blocks: Sequence[int],
    ) -> None:
        super().__init__()
        self.conv = _conv3x3(channels, widths[0])
        self.bn = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        stages = []
        inputs = widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            strides = [2 if stage else 1] + [1] * (count - 1)
            layers = []
            for stride in strides:
                layers.append(BasicBlock(inputs, width, stride))
                inputs = width
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(inputs, num_outputs)
        _initialise(self)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Return float32[n, num_outputs] for float32[n, channels, height, width]."""
        x = self.relu(self.bn(self.conv(x)))
        x = self.flatten(self.pool(self.stages(x)))
        out: Tensor = self.fc(x)
        return out


class VGG11(nn.Sequential):
    """VGG-11 with batch norm and one linear classifier on 512 pooled features.

    An image too small for all five halvings is halved while it has two rows.
    Source: Simonyan & Zisserman 2015, arXiv:1409.1556, configuration A, with the
    classifier that is usual for 32 x 32 images.

    Args:
        num_outputs: Entries of the output, >= 1.
        input_shape: (channels, height, width).
    """

    def __init__(self, num_outputs: int, input_shape: Shape) -> None:
        inputs, height, width = _image_shape("vgg11_bn", input_shape, 1)
        side = min(height, width)
        layers: list[nn.Module] = []
        for stage in _VGG11:
            for outputs in stage:
                layers += [
                    _conv3x3(inputs, outputs),
                    nn.BatchNorm2d(outputs),
                    nn.ReLU(),
                ]
                inputs = outputs
            if side > 1:
                layers.append(nn.MaxPool2d(2))
                side //= 2
        layers += [
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(inputs, num_outputs),
        ]
        super().__init__(*layers)
        _initialise(self)


def small_resnet(num_outputs: int, input_shape: Shape) -> ResNet:
    """Return a residual network of about 150 000 parameters, cheap on 8 x 8 digits.

    Four blocks, most of the parameters in the last stage: 1.06 M multiply-accumulates
    on an 8 x 8 image.
    """
    channels, _, _ = _image_shape("small-resnet", input_shape, 1)
    return ResNet(num_outputs, channels, (16, 32, 64), (1, 1, 2))


def resnet18(num_outputs: int, input_shape: Shape) -> ResNet:
    """Return ResNet-18 with the stem for 32 x 32 images: 3 x 3, no pooling."""
    channels, _, _ = _image_shape("resnet18", input_shape, 1)
    return ResNet(num_outputs, channels, (64, 128, 256, 512), (2, 2, 2, 2))
