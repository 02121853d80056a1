"""Structures that are found in networks, and operations that are refused."""

import copy

import numpy as np
import pytest
import torch
from helpers.pruning_nets import (
    NETS,
    Depthwise,
    LeNet,
    ResNet,
    build,
    group_norm,
    mask_model,
    random_mask,
)
from torch import nn
from torch.nn import functional

from fedprune.common.errors import ConfigError, StructureError
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.structure.tracing.find import examine, find_structure

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


class Recurrence(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class MyConv(nn.Conv2d):
    def forward(self, x):
        return functional.conv2d(x, self.weight / self.weight.norm(), self.bias)


def attention(net, x):
    flat_ = x.flatten(2)
    return functional.softmax(flat_, dim=1).reshape(x.shape)


class TwoInputs(nn.Module):
    def forward(self, x, y):
        return x + y


# name -> (network, words that the message must hold)
REFUSED = {
    "a recurrent layer": (
        lambda: Net(nn.LSTM(64, 64), 8, along_rows),
        ["'middle' (LSTM)"],
    ),
    "an unknown operation": (
        lambda: Net(None, 8, lambda _, x: torch.fft.fft2(x).abs()),
        ["'fft_fft2'", "own forward", "pruning_hints", "ignore="],
    ),
    "an unknown operation in a module": (
        lambda: Net(nn.Sequential(nn.Identity(), Determinant())),
        ["(linalg_det)", "module 'middle.1'"],
    ),
    "a branch on data": (lambda: Net(Recurrence()), ["'middle' cannot be traced"]),
    "a number read from data": (
        lambda: Net(None, 8, lambda _, x: x[:, : int(x.sum())]),
        ["cannot be traced"],
    ),
    "calculated weights": (lambda: Net(MyConv(8, 8, 1)), ["module 'middle'"]),
    "a parametrised layer": (
        lambda: Net(torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 1))),
        ["module 'middle"],
    ),
    "a whole shape": (lambda: Net(None, 8, lambda _, x: x * x.shape), ["does not run"]),
    "two inputs": (TwoInputs, ["takes 'y'", "no example"]),
    "hints of another form": (
        lambda: Net(Hinted({"in": {}})),
        ["'middle' (Hinted)", "pruning_hints"],
    ),
    "hints of a tensor that is not there": (
        lambda: Net(Hinted({"tensors": {"scale": ["c"]}})),
        ["'middle' (Hinted)", "['scale']"],
    ),
}


def along_rows(net, x):
    return net.middle(x.flatten(2))[0].unflatten(2, (8, 8))


class Determinant(nn.Module):
    def forward(self, x):
        return x * torch.linalg.det(x)[..., None, None]


class Hinted(nn.Module):
    def __init__(self, hints):
        super().__init__()
        self.pruning_hints = hints
        self.weight = nn.Parameter(torch.ones(8))

    def forward(self, x):
        return torch.fft.fft(x).real * self.weight.view(-1, 1, 1)


def halves(_, x):
    return x[:, :4] + x[:, 4:]


# What can be followed, but not cut: name -> (network, words of the note).
NOT_CUT = {
    "layer norm": (lambda: Net(nn.LayerNorm([8, 8, 8])), ["'middle' (LayerNorm)"]),
    "softmax over channels": (lambda: Net(nn.Softmax(1)), ["(Softmax)", "8 channels"]),
    "softmax in a function": (lambda: Net(None, 8, attention), ["(softmax)"]),
    "a mean over channels": (
        lambda: Net(None, 1, lambda _, x: x.mean(1, keepdim=True)),
        ["(mean)", "8 channels of dimension 1"],
    ),
    "a mean over everything": (lambda: Net(None, 8, lambda _, x: x - x.mean()), []),
    "the greatest channel": (
        lambda: Net(None, 1, lambda _, x: x.amax(1, keepdim=True)),
        ["(amax)"],
    ),
    "sizes written down": (
        lambda: Net(None, 8, lambda _, x: x.view(-1, 512).view(-1, 8, 8, 8)),
        ["(view)", "writes the length 512"],
    ),
    "an index": (lambda: Net(None, 4, halves), ["(getitem)", ":4 out of 8"]),
    "a list of places": (
        lambda: Net(None, 3, lambda _, x: x[:, [0, 2, 5]]),
        ["(getitem)", "list"],
    ),
    "padded channels": (
        lambda: Net(None, 10, lambda _, x: functional.pad(x, (0, 0, 0, 0, 1, 1))),
        ["(pad)"],
    ),
    "unequal parts": (
        lambda: Net(None, 3, lambda _, x: x.chunk(3, 1)[1]),
        ["(chunk)", "unequal"],
    ),
    "a split by a number": (
        lambda: Net(None, 4, lambda _, x: x.split(4, 1)[0]),
        ["(split)", "number, 4"],
    ),
    "channels in another order": (
        lambda: Net(None, 8, lambda _, x: x.flip(1)),
        ["(flip)"],
    ),
    "a division by channels": (
        lambda: Net(None, 8, lambda _, x: 1 / x),
        ["(truediv)", "divides by channels"],
    ),
    "a convolution over channels": (
        lambda: Net(None, 8, lambda _, x: functional.max_pool2d(x.transpose(1, 2), 1)),
        ["(max_pool2d)"],
    ),
    "groups written down": (
        lambda: Net(nn.GroupNorm(2, 8), 8, plain_group_norm),
        ["(group_norm)"],
    ),
    "a constant as long as the channels": (
        lambda: Net(None, 8, lambda _, x: x + torch.ones(x.shape[1], 1, 1)),
        ["(add)", "never changes"],
    ),
}


def plain_group_norm(net, x):
    return functional.group_norm(x, 2, net.middle.weight, net.middle.bias)


@pytest.mark.parametrize(("make", "words"), NOT_CUT.values(), ids=NOT_CUT)
def test_what_would_change_by_a_cut_is_left_and_noted(make, words):
    findings = examine(make(), IMAGE)
    assert findings.structure.widths(findings.structure.full()) == {"conv2": 6}
    notes = " | ".join(findings.notes)
    assert notes
    assert all(word in notes for word in words), notes


@pytest.mark.parametrize(("make", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_followed_is_refused_by_name(make, words):
    with pytest.raises(StructureError) as caught:
        find_structure(make(), IMAGE)
    message = str(caught.value)
    assert all(word in message for word in words), message


def test_the_way_out_leaves_the_rest_prunable():
    with pytest.raises(StructureError, match="ignore="):
        find_structure(Net(Determinant()), IMAGE)
    structure = find_structure(Net(Determinant()), IMAGE, ignore=["middle"])
    assert structure.widths(structure.full()) == {"conv2": 6}


def test_an_operation_is_ignored_by_the_name_that_the_error_gave():
    make = REFUSED["an unknown operation"][0]
    structure = find_structure(make(), IMAGE, ignore=["fft_fft2"])
    assert structure.widths(structure.full()) == {"conv2": 6}


def test_an_ignored_layer_keeps_its_inputs_and_outputs():
    structure = find_structure(LeNet(), torch.randn(1, 1, 14, 14), ignore=["fc1"])
    assert structure.widths(structure.full()) == {"conv1": 6, "fc2": 12}


def test_an_ignored_norm_keeps_its_place_in_the_statistics():
    structure = find_structure(Depthwise(), IMAGE, ignore=["expand.1"])
    assert structure.moments[0].name == "expand.1"
    assert ("expand.1.running_mean", 0) not in structure.lookup
    assert structure.spec(structure.full()).moments == 24 + 24 + 8


def test_ignoring_what_does_not_exist_is_an_error():
    with pytest.raises(ConfigError, match="fc9"):
        find_structure(LeNet(), torch.randn(1, 1, 14, 14), ignore=["fc9"])


def test_a_network_that_does_not_run_on_the_example_is_an_error():
    with pytest.raises(StructureError, match=r"does not run on .*\[1, 2, 8, 8\]"):
        find_structure(ResNet(), torch.randn(1, 2, 8, 8))


class Auxiliary(nn.Module):
    """A head that is used in training only."""

    def __init__(self):
        super().__init__()
        self.body, self.head, self.aux = (nn.Linear(4, 4) for _ in range(3))

    def forward(self, x):
        x = self.body(x)
        return (self.head(x), self.aux(x)) if self.training else self.head(x)


def test_a_parameter_that_is_not_reached_is_refused_unless_ignored():
    with pytest.raises(StructureError, match=r"'aux\.weight' is not reached"):
        find_structure(Auxiliary(), torch.randn(2, 4))
    structure = find_structure(Auxiliary(), torch.randn(2, 4), ignore=["aux"])
    assert structure.widths(structure.full()) == {"body": 4}


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
