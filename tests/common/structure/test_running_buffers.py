"""Running buffers are cut with their channels, however code reads and changes them."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from fedprune.common.pruning.verify import check_exact
from fedprune.common.structure.tracing.find import find

EXAMPLE = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class Running(nn.Module):
    """Two convolutions with something between them that reads running buffers."""

    def __init__(self, read, change=None):
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 12, 3), nn.Conv2d(12, 5, 3)
        self.register_buffer("scale", torch.rand(12) + 0.5)
        self.register_buffer("mean", torch.rand(1, 12, 1, 1))
        self.read, self.change = read, change

    def forward(self, x):
        x = self.one(x)
        if self.training and self.change:
            self.change(self, x.detach().abs().mean((0, 2, 3)))
        return self.two(self.read(self, x))


READ = {
    "as it is": lambda net, x: x - net.mean,
    "by a view": lambda net, x: x * net.scale.view(1, -1, 1, 1),
    "by None": lambda net, x: x * net.scale[:, None, None],
    "as a denominator": lambda net, x: x / net.scale[None, :, None, None],
    "as a denominator above 0": lambda net, x: x / (net.mean + 1e-3),
    "as moments": lambda net, x: (
        (x - net.mean) * torch.rsqrt(net.scale[:, None, None] + 1e-5)
    ),
    "by batch norm": lambda net, x: functional.batch_norm(x, net.scale, net.scale),
    "clamped": lambda net, x: x / net.scale.clamp(min=0.1).reshape(1, -1, 1, 1),
}


def assigned(net, now):
    net.scale = 0.9 * net.scale + 0.1 * now


CHANGED = {
    "assigned": assigned,
    "multiplied and added": lambda net, now: net.scale.mul_(0.9).add_(0.1 * now),
    "interpolated": lambda net, now: net.scale.lerp_(now, 0.1),
    "copied": lambda net, now: net.scale.copy_(0.9 * net.scale + 0.1 * now),
}


def structure_of(net, running):
    return find(net.eval(), EXAMPLE, running=running).structure


@pytest.mark.parametrize("read", READ.values(), ids=READ)
def test_a_running_buffer_is_cut_however_it_is_read(read):
    net = Running(read)
    structure = structure_of(net, ["scale", "mean"])
    assert structure.units == 12
    assert {dim.tensor for dim in structure.dims} & {"scale", "mean"}
    check_exact(net, structure, EXAMPLE)


@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED)
def test_a_running_buffer_that_only_training_uses_is_cut(change):
    net = Running(lambda _, x: x, change)
    structure = structure_of(net, ["scale"])
    assert structure.lookup[("scale", 0)].tolist() == list(range(12))
    check_exact(net, structure, EXAMPLE)
    assert type(net.scale) is torch.Tensor


def test_code_that_needs_the_number_in_a_running_buffer_is_followed_without_it():
    net = Running(lambda net, x: x * (2 if net.scale.sum() > 0 else 1))
    structure = structure_of(net, ["scale", "mean"])
    assert structure.units == 12
    assert not structure.buffers
    check_exact(net, structure, EXAMPLE)


def test_a_constant_buffer_that_is_read_through_a_view_keeps_its_channels_whole():
    structure = structure_of(Running(READ["by a view"]), [])
    assert structure.units == 0
