"""Networks and images of the benchmark ``trust``: MNIST, small enough for two cores."""

from torch import nn

from fedprune.simulations.benchmarks.kit.science.images import Arrays, first_images

TRAIN, TEST = 2_000, 2_000


def whole() -> Arrays:
    """Return the first images of both splits, float32[n, 1, 28, 28], 0..1."""
    return first_images(TRAIN, TEST, halved=False)


def halved() -> Arrays:
    """Return them at 14 x 14."""
    return first_images(TRAIN, TEST, halved=True)


def norm_net(num_outputs: int, input_shape: tuple[int, ...]) -> nn.Sequential:
    """Return two convolutions with batch norm and a linear layer, for small images.

    Args:
        num_outputs: Classes.
        input_shape: Channels, rows and columns of an image.
    """
    channels, rows, columns = input_shape
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * (rows // 4) * (columns // 4), num_outputs),
    )
