"""Five small tasks: a table, a regression, several labels, segmentation, series.

Each is a class that a TOML file of the same name uses.  Data that are made in code
differ with the seed of the run; so do the fifths that are held out for the test.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits, make_friedman1
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset
from typing_extensions import override

from fedprune.common.tasks.task import Data, Task

SIDE = 32  # pixels of the edge of a segmented image
STEPS = 64  # of a series
CHANNELS = 3  # of a series

_FOLDS = 5
_TABLE_ROWS, _VALUES, _SERIES = 30, 2_000, 2_000
_IMAGES, _TEST_IMAGES = 500, 200
_WAVES = (2.0, 3.5, 5.0, 7.0)  # periods in a series of each class
# An even digit, one with a closed loop, a prime, one above four, one drawn straight.
_ATTRIBUTES = ((0, 2, 4, 6, 8), (0, 6, 8, 9), (2, 3, 5, 7), (5, 6, 7, 8, 9), (1, 4, 7))

Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Inputs and targets of both parts."""

    train: TensorDataset
    test: TensorDataset


class _Arrays(Task):
    """A task whose data are two arrays, made or loaded for a seed."""

    @override
    def train_data(self, client: str) -> Data:
        """Return the examples that ``task.partition`` deals out."""
        return self.split(self.config.run.seed).train

    @override
    def test_data(self) -> Data:
        """Return the held-out examples."""
        return self.split(self.config.run.seed).test

    def split(self, seed: int) -> Split:
        """Return both parts for a seed."""
        raise NotImplementedError


class Tabular(_Arrays):
    """Breast cancer of scikit-learn: 30 features, two classes."""

    @override
    def network(self) -> nn.Module:
        """Return a perceptron of two hidden layers."""
        return _perceptron(_TABLE_ROWS, 2)

    @override
    def split(self, seed: int) -> Split:
        """Return four fifths, and the fifth of the seed."""
        bunch = load_breast_cancer()
        return _standardised(bunch.data, bunch.target.astype(np.int64), seed)


class Regression(_Arrays):
    """Friedman's first function: five of ten features matter, not linearly."""

    @override
    def network(self) -> nn.Module:
        """Return a perceptron of two hidden layers."""
        return _perceptron(10, 1)

    @override
    def split(self, seed: int) -> Split:
        """Return 1 600 examples and 400 others."""
        x, y = make_friedman1(_VALUES, n_features=10, noise=1.0, random_state=seed)
        scaled = (y - y.mean()) / y.std()
        return _standardised(x, scaled[:, None].astype(np.float32), seed)


class MultiLabel(_Arrays):
    """Images of digits and five attributes of the digit, each 0 or 1."""

    @override
    def network(self) -> nn.Module:
        """Return two convolutions and a linear layer."""
        return nn.Sequential(
            *_convolution(nn.Conv2d(1, 24, 3, padding=1, bias=False)),
            nn.MaxPool2d(2),
            *_convolution(nn.Conv2d(24, 48, 3, padding=1, bias=False)),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(4 * 48, len(_ATTRIBUTES)),
        )

    @override
    def split(self, seed: int) -> Split:
        """Return four fifths, and the fifth of the seed."""
        bunch = load_digits()
        labels = [np.isin(bunch.target, digits) for digits in _ATTRIBUTES]
        x = (bunch.images[:, None] / 16.0 - 0.305).astype(np.float32)
        return _folded(x, np.stack(labels, axis=1).astype(np.int64), seed)


class Segmentation(_Arrays):
    """A disc and a square on noise: three classes of pixels."""

    @override
    def network(self) -> nn.Module:
        """Return a U-Net of two levels."""
        return UNet()

    @override
    def split(self, seed: int) -> Split:
        """Return 500 images and 200 others."""
        return _drawn(shapes, _IMAGES, _TEST_IMAGES, seed)


class Series(_Arrays):
    """Sines of four periods in three channels with noise."""

    @override
    def network(self) -> nn.Module:
        """Return two convolutions over time and a linear layer."""
        return nn.Sequential(
            *_convolution(nn.Conv1d(CHANNELS, 32, 7, padding=3, bias=False)),
            nn.MaxPool1d(2),
            *_convolution(nn.Conv1d(32, 64, 5, padding=2, bias=False)),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(64, len(_WAVES)),
        )

    @override
    def split(self, seed: int) -> Split:
        """Return 1 600 series and 400 others."""
        test = _SERIES // _FOLDS
        return _drawn(waves, _SERIES - test, test, seed)


class UNet(nn.Module):
    """Two levels down and up again; the skips are concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(*_convolution(_three(1, 16)))
        self.two = nn.Sequential(*_convolution(_three(16, 32)))
        self.bottom = nn.Sequential(*_convolution(_three(32, 64)))
        self.up_two, self.up_one = (
            nn.ConvTranspose2d(2 * width, width, 2, 2) for width in (32, 16)
        )
        self.back_two = nn.Sequential(*_convolution(_three(64, 32)))
        self.back_one = nn.Sequential(*_convolution(_three(32, 16)))
        self.out = nn.Conv2d(16, 3, 1)

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of each pixel, float32[n, 3, height, width]."""
        one = self.one(x)
        two = self.two(functional.max_pool2d(one, 2))
        y = self.bottom(functional.max_pool2d(two, 2))
        y = self.back_two(torch.cat([self.up_two(y), two], 1))
        y = self.back_one(torch.cat([self.up_one(y), one], 1))
        scores: Tensor = self.out(y)
        return scores


def shapes(count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return images float32[n, 1, 32, 32] and the class of each pixel, int64."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    targets = np.zeros((count, SIDE, SIDE), dtype=np.int64)
    for target in targets:
        top, left, middle, centre = rng.integers(6, SIDE - 6, 4)
        size, radius = rng.integers(3, 7, 2)
        far = np.maximum(abs(rows - top), abs(columns - left))
        target[far <= size] = 2
        target[np.hypot(rows - middle, columns - centre) <= radius] = 1
    bright = rng.uniform(0.5, 1.5, (count, 1, 1)) * (targets > 0)
    noise = rng.normal(0.0, 0.3, targets.shape)
    return (bright + noise)[:, None].astype(np.float32), targets


def waves(count: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return series float32[n, 3, 64] and their classes int64[n]."""
    targets = rng.integers(0, len(_WAVES), count)
    periods = np.array(_WAVES)[targets] * rng.uniform(0.9, 1.1, count)
    phase = rng.uniform(0.0, 2 * np.pi, (count, CHANNELS, 1))
    time = np.linspace(0.0, 2 * np.pi, STEPS)
    clean = np.sin(periods[:, None, None] * time + phase)
    return (clean + rng.normal(0.0, 0.7, clean.shape)).astype(np.float32), targets


def _drawn(
    draw: Callable[[int, np.random.Generator], tuple[Array, Array]],
    train: int,
    test: int,
    seed: int,
) -> Split:
    rng = np.random.default_rng(seed)
    return Split(train=_set(*draw(train, rng)), test=_set(*draw(test, rng)))


def _standardised(x: Array, y: Array, seed: int) -> Split:
    """Return a split by fold, each feature scaled by the training part."""
    train, _ = _fold(len(x), seed)
    scaled = (x - x[train].mean(axis=0)) / x[train].std(axis=0)
    return _folded(scaled.astype(np.float32), y, seed)


def _folded(x: Array, y: Array, seed: int) -> Split:
    train, test = _fold(len(x), seed)
    return Split(train=_set(x[train], y[train]), test=_set(x[test], y[test]))


def _fold(count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions outside and inside of the seed's fifth."""
    order = np.random.default_rng(0).permutation(count)
    parts = np.array_split(order, _FOLDS)
    test = parts.pop(seed % _FOLDS)
    return np.sort(np.concatenate(parts)), np.sort(test)


def _set(x: Array, y: Array) -> TensorDataset:
    return TensorDataset(torch.from_numpy(x), torch.from_numpy(y))


def _perceptron(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, 64),
        nn.ReLU(),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Linear(64, outputs),
    )


def _three(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


def _convolution(layer: nn.Conv1d | nn.Conv2d) -> tuple[nn.Module, ...]:
    """Return a convolution with its batch norm and ReLU."""
    norm = nn.BatchNorm1d if isinstance(layer, nn.Conv1d) else nn.BatchNorm2d
    return layer, norm(layer.out_channels), nn.ReLU()
