"""The convolutional network of HeteroFL and its slices, for 28 x 28 grey images.

Four convolutions, each of twice the channels of the one before (Diao et al. 2021,
arXiv:2010.01264; ``baselines/heterofl`` of Flower).  A slice keeps the first
channels of each layer, the same share in all: it is the same network with other widths.
"""

from collections.abc import Callable, Mapping

from torch import nn

_LAYERS, _CLASSES = 4, 10


class Slice(nn.Sequential):
    """One level of the ladder, with batch norm and one linear layer.

    Args:
        first: Channels of the first convolution, >= 1.
    """

    def __init__(self, first: int) -> None:
        before, layers = 1, []
        for number in range(_LAYERS):
            width = first << number
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width)]
            layers.append(nn.ReLU())
            last = number == _LAYERS - 1
            layers.append(nn.AdaptiveAvgPool2d(1) if last else nn.MaxPool2d(2))
            before = width
        super().__init__(*layers, nn.Flatten(), nn.Linear(before, _CLASSES))


def level_c() -> Slice:
    """Return the slice of a quarter of the widths, 16 to 128 channels."""
    return Slice(16)


def level_d() -> Slice:
    """Return the slice of an eighth of the widths, 8 to 64 channels."""
    return Slice(8)


def level_e() -> Slice:
    """Return the slice of a sixteenth of the widths, 4 to 32 channels."""
    return Slice(4)


PARAMETERS: Mapping[Callable[[], Slice], int] = {
    level_c: 98_922,
    level_d: 25_274,
    level_e: 6_594,
}
