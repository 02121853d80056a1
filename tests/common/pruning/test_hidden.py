"""Differences that a test of exactness must see: zeros, infinities, statistics."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from fedprune.common.errors import StructureError
from fedprune.common.pruning.verify import check_exact
from fedprune.common.structure.tracing.find import find_structure


class Scaled(nn.Module):
    """Keeps the size of its features while it trains, and divides by it afterwards."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.last = nn.Linear(8, 2)
        self.register_buffer("size", torch.ones(()))

    def forward(self, x):
        x = self.first(x)
        if not self.training:
            return self.last(x) / self.size
        self.size.mul_(0.9).add_(x.detach().abs().mean(), alpha=0.1)
        return self.last(x)


def test_a_statistic_that_training_alone_keeps_is_compared():
    example = torch.randn(4, 6)
    structure = find_structure(Scaled(), example)
    with pytest.raises(StructureError, match="differ in the buffer 'size'"):
        check_exact(Scaled(), structure, example)


class Often(nn.Module):
    """Doubles its features as often as it has channels, which tracing cannot see."""

    def __init__(self, first, last):
        super().__init__()
        self.first, self.act, self.last = first, nn.Linear(4, 8), last

    def forward(self, x):
        found = self.act(self.first(x))
        for _ in range(found.shape[-1]):
            found = found * 2
        return self.last(found)


class Gate(nn.Module):
    """A residual branch that starts at 0."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return x.detach() * 0 + self.gain * x


class Masked(nn.Module):
    def forward(self, x):
        return x.masked_fill(torch.tensor([True, False, False]), -math.inf)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (nn.Embedding(9, 4, padding_idx=0), ()),
        (nn.Embedding(9, 4), (Gate(),)),
        (nn.Embedding(9, 4), (Masked(),)),
    ],
    ids=["padding", "gate", "masked logits"],
)
def test_neither_zeros_nor_masked_logits_hide_a_difference(first, last):
    model = Often(first, nn.Sequential(nn.Linear(8, 3), *last))
    model.act.bias = None  # of a padding token alone nothing but 0 is left
    example = torch.zeros(2, 5, dtype=torch.long)
    structure = find_structure(model, example)
    assert structure.units
    with pytest.raises(StructureError, match=r"a cut network differs by"):
        check_exact(model, structure, example)


class Wrong(nn.Module):
    """Sums over its features in training, which tracing does not see."""

    def __init__(self, first, change):
        super().__init__()
        self.first, self.change, self.last = first, change, nn.Linear(8, 2)

    def forward(self, x):
        x = self.first(x)
        if self.training:
            x = self.change(x - x.mean(1, keepdim=True))
        return self.last(x)


@pytest.mark.parametrize(
    ("first", "change"),
    [
        (nn.Linear(6, 8), lambda x: x[torch.randperm(len(x))]),
        (nn.Linear(6, 8), lambda x: x * torch.randint(1, 4, (len(x), 1))),
        (parametrizations.spectral_norm(nn.Linear(6, 8)), lambda x: x),
    ],
    ids=["order", "factor", "spectral norm"],
)
def test_neither_equal_draws_nor_new_statistics_hide_another_training(first, change):
    model = Wrong(first, change)
    example = torch.randn(4, 6)
    structure = find_structure(model, example)
    assert structure.units == 8
    with pytest.raises(StructureError, match="does not match that of the masked one"):
        check_exact(model, structure, example)


def test_draws_that_depend_on_the_width_disturb_nothing():
    class Noise(nn.Module):
        def forward(self, x):
            return x + torch.empty_like(x).log_normal_() if self.training else x

    model = nn.Sequential(nn.Linear(6, 8), Noise(), nn.Linear(8, 2))
    example = torch.randn(4, 6)
    structure = find_structure(nn.Sequential(*model), example)
    assert check_exact(model, structure, example) <= 1e-12
