"""Norms of a group: only those that scale all that its producers make."""

import copy

import numpy as np
import pytest
import torch
from helpers.pruning_nets import flat
from torch import nn

from fedprune.common.pruning.importance import measure_points, zero_units
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.structure.tracing.find import find_structure


class Residual(nn.Module):
    """A stem and a residual block; 8 channels in the stream, 6 inside of the block."""

    def __init__(self, *, stem_norm=False, last_norm=False, first=False, fresh=False):
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.stem_norm = nn.BatchNorm2d(8) if stem_norm else nn.Identity()
        self.conv1 = nn.Conv2d(8, 6, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(8 if first else 6)
        self.conv2 = nn.Conv2d(6, 8, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(6 if first else 8)
        self.last_norm = nn.BatchNorm2d(8) if last_norm else nn.Identity()
        self.fc = nn.Linear(8, 3)
        self.first = first
        if fresh:
            nn.init.zeros_(self.bn2.weight)
            nn.init.zeros_(self.fc.weight)

    def forward(self, x):
        x = self.stem_norm(self.stem(x))
        if self.first:  # norms in front of the convolutions
            y = self.conv1(torch.relu(self.bn1(x)))
            y = self.conv2(torch.relu(self.bn2(y)))
        else:
            y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return self.fc(self.last_norm(x + y).mean((2, 3)))


def found(**kinds):
    torch.manual_seed(0)
    model = Residual(**kinds).eval()
    return model, find_structure(model, torch.zeros(2, 1, 6, 6))


COVERED = [
    {"stem_norm": True},
    {"stem_norm": True, "fresh": True},
    {"first": True, "last_norm": True},
]
# In the second one the block reads the stem, before the last norm.
BARE = [
    {},
    {"last_norm": True},
    {"fresh": True},
    {"first": True},
    {"first": True, "fresh": True},
]


@pytest.mark.parametrize("kinds", COVERED, ids=str)
def test_a_group_has_norms_where_nothing_goes_past_them(kinds):
    _, structure = found(**kinds)
    assert all(group.norms for group in structure.groups)


@pytest.mark.parametrize("kinds", BARE, ids=str)
def test_a_group_has_none_where_a_producer_goes_past_them(kinds):
    _, structure = found(**kinds)
    norms = {group.name: bool(group.norms) for group in structure.groups}
    assert norms == {"stem": False, "conv1": True}
    points = {point.module for point in measure_points(structure)}
    assert {"stem", "conv2"} <= points


@pytest.mark.parametrize("kinds", [*COVERED, *BARE], ids=str)
def test_a_unit_that_counts_as_zero_is_cut_at_no_loss(kinds):
    model, structure = found(**kinds)
    with torch.no_grad():
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.weight[:3] = norm.bias[:3] = 0.0
                norm.weight[3:].fill_(1.0)
        nn.init.normal_(model.fc.weight)
    keep = ~zero_units(structure, structure.full(), flat(model))
    assert not keep.all()
    inputs = torch.randn(4, 1, 6, 6)
    cut = apply_plan(copy.deepcopy(model), structure, keep)
    with torch.no_grad():
        np.testing.assert_allclose(cut(inputs), model(inputs), atol=1e-6)


class Joined(nn.Module):
    """Two layers behind one norm; the second is read without it as well."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 6, 3)
        self.bn = nn.BatchNorm2d(10)
        self.fc = nn.Linear(16, 3)

    def forward(self, x):
        one, two = self.one(x), self.two(x)
        both = torch.cat([self.bn(torch.cat([one, two], 1)), two], 1)
        return self.fc(both.mean((2, 3)))


def test_of_one_norm_each_group_counts_by_itself():
    structure = find_structure(Joined().eval(), torch.zeros(2, 1, 6, 6))
    norms = {group.name: len(group.norms) for group in structure.groups}
    assert norms == {"one": 1, "two": 0}
    points = {p.module: (p.units >= 0).sum() for p in measure_points(structure)}
    assert points == {"two": 6, "bn": 4}


def test_the_network_is_left_as_it_was():
    model = Residual(fresh=True).eval()
    before = {name: item.clone() for name, item in model.state_dict().items()}
    find_structure(model, torch.zeros(2, 1, 6, 6))
    for name, item in model.state_dict().items():
        assert torch.equal(item, before[name]), name
