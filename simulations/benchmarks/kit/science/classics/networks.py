"""The network of the row: residual, with batch norm, for 14 x 14 images."""

from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

_WIDTHS = (16, 32, 64)


class Block(nn.Module):
    """Two convolutions beside a shortcut; what blocks that cuts may drop are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(*_convolved(width, width), nn.ReLU())
        self.outer = nn.Sequential(*_convolved(width, width))

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        return functional.relu(x + self.outer(self.inner(x)))


class SmallResidual(nn.Sequential):
    """Three convolutions and two residual blocks; 47 290 parameters."""

    def __init__(self) -> None:
        first, second, third = _WIDTHS
        super().__init__(
            *_convolved(1, first),
            nn.ReLU(),
            nn.MaxPool2d(2),
            Block(first),
            *_convolved(first, second),
            nn.ReLU(),
            nn.MaxPool2d(2),
            Block(second),
            *_convolved(second, third),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(third, 10),
        )


def _convolved(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return conv, nn.BatchNorm2d(outputs)
