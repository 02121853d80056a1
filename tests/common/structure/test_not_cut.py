"""Parts of a network that are not cut: noted where left, refused where needed."""

import copy
import math

import numpy as np
import pytest
import torch
from helpers.pruning_nets import (
    Depthwise,
    LeNet,
    ResNet,
)
from torch import nn
from torch.nn import functional

from fedprune.common.errors import ConfigError, StructureError
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.pruning.verify import check_exact
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


class Recurrence(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class MyConv(nn.Conv2d):
    def forward(self, x):
        weight = self.weight.cumsum(0).cumsum(1)
        return functional.conv2d(x, weight, self.bias)


def attention(net, x):
    flat_ = x.flatten(2)
    return functional.softmax(flat_, dim=1).reshape(x.shape)


class TwoInputs(nn.Module):
    def forward(self, x, y):
        return x + y


# What cannot be followed: name -> (network, words of the note).
LEFT = {
    "a recurrent layer": (
        lambda: Net(nn.LSTM(64, 64), 8, along_rows),
        ["'middle' (LSTM)"],
    ),
    "an unknown operation": (
        lambda: Net(None, 8, lambda _, x: torch.fft.fft2(x).abs()),
        ["'fft_fft2'", "own forward", "test_not_cut.py:"],
    ),
    "an unknown operation in a module": (
        lambda: Net(nn.Sequential(nn.Identity(), Determinant())),
        ["(linalg_det)", "module 'middle.1'"],
    ),
    "calculated weights": (lambda: Net(MyConv(8, 8, 1)), ["module 'middle'"]),
    "a parametrised layer": (
        lambda: Net(torch.nn.utils.parametrizations.orthogonal(nn.Conv2d(8, 8, 1))),
        ["module 'middle"],
    ),
}

# name -> (network, words that the message must hold)
REFUSED = {
    "a branch on data": (lambda: Net(Recurrence()), ["'middle' cannot be traced"]),
    "a number read from data": (
        lambda: Net(None, 8, lambda _, x: x[:, : int(x.sum())]),
        ["cannot be traced"],
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
    "channels that are dropped and padded": (
        lambda: Net(None, 8, lambda _, x: functional.pad(x, (0, 0, 0, 0, -1, 1))),
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
        lambda: Net(None, 8, lambda _, x: x + torch.arange(x.shape[1])[:, None, None]),
        ["a size, 8"],
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
def test_what_cannot_be_traced_is_refused_with_its_place(make, words):
    with pytest.raises(StructureError) as caught:
        find_structure(make(), IMAGE)
    message = str(caught.value)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(("make", "words"), LEFT.values(), ids=LEFT)
def test_what_cannot_be_followed_is_left_uncut_and_noted(make, words):
    model = make()
    findings = examine(model, IMAGE)
    assert findings.structure.widths(findings.structure.full()) == {"conv2": 6}
    notes = " | ".join(findings.notes)
    assert all(word in notes for word in words), notes
    check_exact(model, findings.structure, IMAGE)


def test_an_unknown_operation_that_works_in_place_fixes_what_it_changes():
    def scramble(_, x):
        x.cumsum_(1)
        return x

    model = Net(None, 8, scramble)
    findings = examine(model, IMAGE)
    assert findings.structure.widths(findings.structure.full()) == {"conv2": 6}
    check_exact(model, findings.structure, IMAGE)


def test_an_operation_is_ignored_by_the_name_that_its_note_gave():
    structure = find_structure(
        LEFT["an unknown operation"][0](), IMAGE, ignore=["fft_fft2"]
    )
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


def test_what_only_training_runs_is_cut_with_the_rest():
    model, example = Auxiliary(), torch.randn(2, 4)
    structure = find_structure(model, example)
    assert structure.widths(structure.full()) == {"body": 4}
    keep = np.array([True, False, True, True])
    cut = apply_plan(copy.deepcopy(model), structure, keep).train()
    assert [tuple(item.shape) for item in cut(example)] == [(2, 4), (2, 4)]
    assert cut.aux.weight.shape == (4, 3)


class Spare(nn.Module):
    """A layer that no forward uses, and one that training cannot be traced with."""

    def __init__(self, *, branches=False):
        super().__init__()
        self.body, self.head, self.spare = (nn.Linear(4, 4) for _ in range(3))
        self.branches = branches

    def forward(self, x):
        x = self.body(x)
        if self.training and self.branches and x.sum() > 0:
            return self.spare(x)
        return self.head(x)


@pytest.mark.parametrize("branches", [False, True])
def test_a_parameter_that_is_not_reached_stays_whole_and_is_noted(branches):
    findings = examine(Spare(branches=branches), torch.randn(2, 4))
    assert findings.structure.widths(findings.structure.full()) == {"body": 4}
    assert any("'spare.weight'" in note for note in findings.notes)


class Dtypes(nn.Module):
    """The kind of a tensor, and numbers that are calculated from sizes."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 1), nn.Linear(8, 3)

    def forward(self, x):
        x = nn.ReLU()(self.conv(x))  # a module that no attribute names
        if x.dtype.is_floating_point and x.device.type == "cpu" and not x.is_sparse:
            x = x + torch.finfo(x.dtype).eps
        rows = math.ceil(x.shape[2] * 0.5) + int(x.shape[3] / 8) + round(0.4)
        return self.head(x[:, :, :rows].mean((2, 3)))


def test_kinds_of_tensors_and_calculated_sizes_are_known_while_tracing():
    model = Dtypes()
    structure = find_structure(model, IMAGE)
    assert structure.widths(structure.full()) == {"conv": 8}
    check_exact(model, structure, IMAGE)
