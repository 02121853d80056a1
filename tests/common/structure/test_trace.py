"""Structures that are found in networks, and operations that are refused."""

import copy

import numpy as np
import pytest
import torch
from helpers.pruning_nets import (
    NETS,
    ResNet,
    build,
    group_norm,
    mask_model,
    random_mask,
)
from torch import nn

from fedprune.common.pruning.plan import apply_plan
from fedprune.common.structure.tracing.find import find_structure

IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """conv -> whatever is in the middle -> pooling -> linear."""

    def __init__(self, middle, width=8, function=None):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.middle = middle
        self.conv2 = nn.Conv2d(width, 6, 3, padding=1)
        self.fc = nn.Linear(6, 2)
        self.function = function

    def forward(self, x):
        x = self.conv(x)
        x = self.middle(x) if self.function is None else self.function(self, x)
        return self.fc(self.conv2(x).mean((2, 3)))


@pytest.mark.parametrize(
    ("name", "units", "widths"),
    [
        ("lenet", 54, {"conv1": 6, "conv2": 16, "fc1": 20, "fc2": 12}),
        (
            "resnet",
            72,
            {"conv": 8, "layer1.0.conv1": 8, "layer1.1.conv1": 8}
            | {"layer2.0.conv1": 16, "layer2.0.conv2": 16, "layer2.1.conv1": 16},
        ),
        ("groupnorm", 6 * 4, None),
        ("depthwise", 32, {"stem": 8, "expand.0": 24}),
        ("signal", 23, {"conv": 6, "conv2": 10, "fc": 7}),
    ],
)
def test_units_and_groups_are_those_counted_by_hand(name, units, widths):
    _, _, structure = build(name)
    assert structure.units == units
    if widths is not None:
        assert structure.widths(structure.full()) == widths


def test_a_residual_group_holds_all_that_is_added():
    _, _, structure = build("resnet")
    group = {group.name: group for group in structure.groups}["layer2.0.conv2"]
    wanted = ("layer2.0.conv2", "layer2.0.shortcut.0", "layer2.1.conv2")
    assert group.producers == tuple(f"{name}.weight" for name in wanted)
    norms = ("layer2.0.bn2", "layer2.0.shortcut.1", "layer2.1.bn2")
    assert group.norms == tuple(f"{name}.weight" for name in norms)


def test_units_are_numbered_in_the_order_in_which_the_network_makes_channels():
    _, _, structure = build("lenet")
    starts = [(group.name, group.units[0]) for group in structure.groups]
    assert starts == [("conv1", 0), ("conv2", 6), ("fc1", 22), ("fc2", 42)]
    for group in structure.groups:
        assert (np.diff(group.units) == 1).all()


def test_a_flattened_channel_is_a_block_of_columns():
    _, _, structure = build("lenet")
    columns = structure.lookup["fc1.weight", 1]
    np.testing.assert_array_equal(columns, np.repeat(np.arange(6, 22), 4))


def test_a_group_norm_unit_is_a_whole_normalisation_group():
    _, _, structure = build("groupnorm")
    rows = structure.lookup["layer2.0.conv1.weight", 0]
    np.testing.assert_array_equal(rows, np.repeat(np.unique(rows), 4))
    assert set(structure.channels.tolist()) == {2, 4}


def test_different_group_norms_of_one_width_agree_on_the_coarser_units():
    both = nn.Sequential(nn.GroupNorm(4, 8), nn.ReLU(), nn.GroupNorm(2, 8))
    structure = find_structure(Net(both), IMAGE)
    np.testing.assert_array_equal(
        structure.lookup["conv.weight", 0], np.repeat([0, 1], 4)
    )


def test_a_depthwise_convolution_makes_no_channels_of_its_own():
    _, _, structure = build("depthwise")
    group = structure.groups[1]
    assert group.producers == ("expand.0.weight", "depth.0.weight")
    assert ("depth.0.weight", 1) not in structure.lookup
    follows = {
        (item.name, item.tensor, item.dim)
        for item in structure.attributes
        if item.module == "depth.0"
    }
    names = ("in_channels", "out_channels", "groups")
    assert follows == {(name, "depth.0.weight", 0) for name in names}


def test_one_output_channel_is_no_depthwise_convolution():
    net = Net(nn.Sequential(nn.Conv2d(8, 1, 1), nn.Conv2d(1, 1, 1)), width=1)
    structure = find_structure(net, IMAGE)
    assert [len(g.units) for g in structure.groups] == [8, 1, 1, 6]


def test_input_and_outputs_are_never_cut():
    _, _, structure = build("resnet")
    assert ("conv.weight", 1) not in structure.lookup
    assert ("fc.weight", 0) not in structure.lookup
    assert ("fc.bias", 0) not in structure.lookup


class Two(nn.Module):
    """Returns features beside logits."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        x = self.a(x)
        return {"features": x, "logits": self.b(x)}


def test_every_output_is_fixed():
    assert find_structure(Two(), torch.randn(1, 3)).units == 0


@pytest.mark.parametrize("name", NETS)
def test_the_structure_depends_on_the_architecture_only(name):
    model, example, structure = build(name)
    other, _, _ = build(name, seed=7)
    for parameter in other.parameters():
        parameter.requires_grad_(requires_grad=False)
    two = torch.cat([example, example])
    assert find_structure(other.train(), two).to_json() == structure.to_json()
    assert find_structure(model, example).to_json() == structure.to_json()


def test_finding_leaves_the_network_and_the_generator_as_they_were():
    model = ResNet().train()
    model.layer1.eval()
    before = copy.deepcopy(model.state_dict())
    flags = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    find_structure(model, IMAGE)
    assert [module.training for module in model.modules()] == flags
    assert torch.equal(torch.get_rng_state(), random)
    after = model.state_dict()
    assert all(torch.equal(after[name], item) for name, item in before.items())


class Shared(nn.Module):
    """One convolution and one norm called three times."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.again = self.conv
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 2)

    def forward(self, x):
        x = self.norm(self.conv(self.stem(x)))
        x = self.norm(self.again(x))
        return self.fc(self.norm(self.conv(x)).mean([-1, -2]))


def test_a_shared_module_unions_its_calls_and_the_law_holds():
    model = Shared().double().eval()
    example = IMAGE.double()
    structure = find_structure(model, example)
    assert structure.units == 8
    assert structure.multiplies["conv.weight"] == 3 * 64
    keep = random_mask(structure, 0)
    masked = copy.deepcopy(model)
    mask_model(masked, structure, keep)
    cut = apply_plan(copy.deepcopy(model), structure, keep)
    assert cut.again is cut.conv
    torch.testing.assert_close(cut(example), masked(example), rtol=1e-12, atol=1e-14)


class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.scale = nn.Parameter(torch.ones(8, 1, 1))
        self.register_buffer("shift", torch.ones(1, 8, 1, 1))
        self.conv2 = nn.Conv2d(8, 8, 1)
        self.fc = nn.Linear(8, 2)

    def forward(self, x):
        x = self.conv2(self.conv(x) * self.scale) + 1.0
        return self.fc((x - self.shift).mean((2, 3)))


def test_a_bare_parameter_and_a_buffer_follow_their_channels():
    model = Bare().double()
    structure = find_structure(model, IMAGE.double())
    assert structure.units == 16
    assert [buffer.name for buffer in structure.buffers] == ["shift"]
    assert structure.lookup["shift", 1].tolist() == [*range(8, 16)]
    assert structure.lookup["scale", 0].tolist() == [*range(8)]
    assert find_structure(Bare(), IMAGE, ignore=["scale"]).units == 8
    keep = random_mask(structure, 0)
    cut = apply_plan(model, structure, keep)
    assert cut.shift.shape[1] == keep[8:].sum()


def test_a_size_that_is_calculated_with_is_never_cut():
    net = Net(None, 8, lambda _, x: x * x.shape[1])
    structure = find_structure(net, IMAGE)
    assert structure.widths(structure.full()) == {"conv2": 6}
    free = Net(None, 8, lambda _, x: x * x.size(2))
    assert set(find_structure(free, IMAGE).widths(np.ones(14, bool))) == {
        "conv",
        "conv2",
    }


def test_adding_one_channel_to_all_keeps_that_channel():
    class MeasurePoint(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Conv2d(8, 1, 1)

        def forward(self, x):
            return x + self.gate(x)

    structure = find_structure(Net(MeasurePoint()), IMAGE)
    assert structure.widths(structure.full()) == {"conv": 8, "conv2": 6}


def test_a_layer_that_feeds_attention_by_last_dimension_is_followed():
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
    structure = find_structure(model, torch.randn(2, 4, 5))
    assert structure.widths(structure.full()) == {"0": 7}
    assert structure.multiplies == {"0.weight": 4, "2.weight": 4}


def test_group_norm_of_one_network_can_be_cut_only_where_whole_groups_go():
    model = ResNet(group_norm)
    structure = find_structure(model, IMAGE)
    keep = structure.full()
    keep[structure.groups[0].units[0]] = False
    apply_plan(model, structure, keep)
    assert (model.bn.num_channels, model.bn.num_groups) == (6, 3)
