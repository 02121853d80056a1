"""Networks that do not fit the tiny images, or cannot be trained or cut."""

import torch
from torch import nn

from helpers.own_tasks import WORDS
from helpers.tiny_federation import Tiny


class Ends(Tiny):
    """The tiny network with another number of outputs, or another thing to return."""

    def __init__(self, outputs=3, end=None):
        super().__init__()
        self.fc = nn.Linear(8, outputs)
        self.end = end

    def forward(self, x):
        y = super().forward(x)
        return y if self.end is None else self.end(y)


def returning(end, outputs=3):
    """Return a factory of networks that return ``end`` of the outputs."""
    return lambda: Ends(outputs, end)


def wide(outputs):
    """Return a factory of networks with a number of outputs."""
    return lambda: Ends(outputs)


def flat(features=16, outputs=3):
    """Return a factory of networks on rows of features."""
    return lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(features, 8), nn.ReLU(), nn.Linear(8, outputs)
    )


def colour():
    """Return a network on colour images."""
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))


def of_colour_images():
    """Return a network on images of three channels."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


def of_words():
    """Return a network on the ids of words."""
    return nn.Sequential(
        nn.Embedding(WORDS, 8),
        nn.Flatten(),
        nn.Linear(48, 8),
        nn.ReLU(),
        nn.Linear(8, 3),
    )


def of_places(size=4, classes=3):
    """Return a factory of networks with outputs [n, classes, size, size]."""
    return lambda: nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, classes, 1),
        nn.AdaptiveAvgPool2d(size),
    )


class Counting(Tiny):
    """An integer buffer that training changes."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(1, dtype=torch.int64))

    def forward(self, x):
        if self.training:
            self.seen += len(x)
        return super().forward(x)


class Branching(Tiny):
    """A branch that depends on the values of the inputs."""

    def forward(self, x):
        y = super().forward(x)
        return y if float(y.detach().sum()) > 0 else 2.0 * y


class Spectral(nn.Module):
    """A Fourier transform over channels, which cannot be followed through it."""

    def __init__(self):
        super().__init__()
        self.cell = nn.Linear(16, 8)
        self.fc = nn.Linear(5, 3)

    def forward(self, x):
        return self.fc(torch.fft.rfft(self.cell(x.flatten(1))).abs())


class Noisy(Tiny):
    """Noise of a written width, in training only."""

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(torch.relu(self.bn(self.conv(x))))))
        if self.training:
            x = x + torch.zeros(1, 8, 1, 1)
        return self.fc(torch.relu(self.bn2(self.conv2(x))).mean((2, 3)))
