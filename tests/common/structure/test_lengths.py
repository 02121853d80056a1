"""Lengths in a network's own code: which follow a cut, which keep channels whole."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fedprune.common.errors import StructureError
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.pruning.verify import check_exact
from fedprune.common.structure.rules import tables
from fedprune.common.structure.structure import Structure
from fedprune.common.structure.tracing.find import examine

IMAGE = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
SERIES = torch.randn(3, 7, 12, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """Layers and settings, and a function of them and the input."""

    def __init__(self, run, **settings):
        super().__init__()
        for name, value in settings.items():
            setattr(self, name, value)
        self.run = run

    def forward(self, x):
        return self.run(self, x)


def image(run, channels=12, out=None, **settings):
    """Return a convolution, what ``run`` does with its channels, and a head."""

    def whole(net, x):
        return net.head(run(net, net.conv(x)).mean((2, 3)))

    layers = {"conv": nn.Conv2d(3, channels, 3, padding=1)}
    layers["head"] = nn.Linear(out or channels, 2)
    return Net(whole, **layers, **settings)


def line(run, channels=24, out=None, **settings):
    """Return a linear layer, what ``run`` does with its channels, and a head."""

    def whole(net, x):
        return net.head(run(net, net.body(x))).mean(1)

    layers = {"body": nn.Linear(12, channels)}
    layers["head"] = nn.Linear(out or channels, 2)
    return Net(whole, **layers, **settings)


def turned(parts):
    """Return parts of channels in another order, one of them shifted."""
    return torch.cat([parts[-1].sigmoid(), *parts[:-1]], 1)


def heads(net, y, width):
    """Return attention of heads whose width is ``width``."""
    y = y.view(*y.shape[:2], net.heads, width).transpose(1, 2)
    y = (y @ y.transpose(-1, -2)).softmax(-1) @ y
    return y.transpose(1, 2).reshape(y.shape[0], y.shape[2], -1)


def compared(net, y):
    same = y.shape[-1] == net.width and y.shape == (y.shape[0], 7, net.width)
    if not same or net.body.out_features != y.size(2) or y.size(2) % net.width:
        raise ValueError
    return functional.relu(y)


def joined(net, x):
    y = torch.cat([net.one(x), net.two(x)], 1)
    y = y.view(x.shape[0], net.first + net.second, *y.shape[2:])
    one, two = torch.split(y, [net.first, net.second], 1)
    return net.head(torch.cat([two.sigmoid(), one], 1).mean((2, 3)))


def steps(net, x):
    h, c = x.new_zeros(x.size(0), net.width), torch.zeros(x.size(0), net.width)
    for place in range(x.size(1)):
        h, c = net.cell(x[:, place], (h, c.to(x.dtype)))
    return net.head(h)


def stacked(net, x):
    h, state = None, None
    for place in range(x.size(1)):
        h = net.one(x[:, place], h)
        state = net.two(h, state)
    return net.head(state[0] + state[1])


def started(net, x):
    shape = (net.layer.num_layers, x.size(0), net.layer.hidden_size)
    h = torch.zeros(shape, dtype=x.dtype)
    _, (h, c) = net.layer(x, (h, h))
    return net.head(h[-1] + c[-1])


def from_inputs(net, x):
    found, _ = net.layer(x, net.start(x[:, 0]).sigmoid()[None])
    return net.head(found.mean(1))


# name -> (network, input, units of each group)
FOLLOWED = {
    "a split by a list": (
        lambda: image(lambda n, y: turned(y.split(n.sizes, 1)), sizes=[4, 8]),
        IMAGE,
        {"conv": 4, "conv#2": 8},
    ),
    "a split by a tuple": (
        lambda: image(lambda n, y: turned(y.split(n.sizes, 1)), sizes=(4, 2, 6)),
        IMAGE,
        {"conv": 4, "conv#2": 2, "conv#3": 6},
    ),
    "a part that no layer counts": (
        lambda: image(
            lambda n, y: torch.cat(
                [functional.max_pool2d(y[:, : n.part], 3, 1, 1), y[:, n.part :]], 1
            ),
            part=5,
        ),
        IMAGE,
        {"conv": 5, "conv#2": 7},
    ),
    "slices from the end": (
        lambda: image(
            lambda n, y: torch.cat([y[:, -n.part :].sigmoid(), y[:, : -n.part]], 1),
            part=5,
        ),
        IMAGE,
        {"conv": 7, "conv#2": 5},
    ),
    "halves of a size": (
        lambda: image(
            lambda _, y: y[:, : y.shape[1] // 2] * y[:, y.shape[1] // 2 :].sigmoid(),
            out=6,
        ),
        IMAGE,
        {"conv": 6},
    ),
    "a split by a quotient of attributes": (
        lambda: image(
            lambda n, y: turned(y.split(n.width // n.parts, 1)), width=12, parts=3
        ),
        IMAGE,
        {"conv": 4},
    ),
    "a sum of two attributes": (
        lambda: Net(
            joined,
            first=8,
            second=6,
            one=nn.Conv2d(3, 8, 1),
            two=nn.Conv2d(3, 6, 1),
            head=nn.Linear(14, 2),
        ),
        IMAGE,
        {"one": 8, "two": 6},
    ),
    "the width of a head as a quotient": (
        lambda: line(lambda n, y: heads(n, y, n.width // n.heads), width=24, heads=4),
        SERIES,
        {"body": 4},
    ),
    "nn.Unflatten": (
        lambda: line(
            lambda n, y: n.parts(y).relu().flatten(2), parts=nn.Unflatten(2, (4, 6))
        ),
        SERIES,
        {"body": 4},
    ),
    "comparisons of lengths of the same channels": (
        lambda: line(compared, width=24),
        SERIES,
        {"body": 24},
    ),
    "a setting of a layer": (
        lambda: image(lambda n, y: y.view(-1, n.conv.out_channels, 8, 8).relu()),
        IMAGE,
        {"conv": 12},
    ),
    "ones as long as the channels": (
        lambda: image(lambda _, y: y + torch.ones(y.shape[1], 1, 1)),
        IMAGE,
        {"conv": 12},
    ),
    "a size of channels that meet later": (
        lambda: image(
            lambda n, y: y * n.gate(y.mean((2, 3))).view(-1, y.shape[1], 1, 1),
            gate=nn.Linear(12, 12),
        ),
        IMAGE,
        {"conv": 12},
    ),
    "a negated size": (
        lambda: line(lambda _, y: y[..., -y.shape[-1] :].relu()),
        SERIES,
        {"body": 24},
    ),
    "an LSTM cell": (
        lambda: Net(steps, width=8, cell=nn.LSTMCell(12, 8), head=nn.Linear(8, 2)),
        SERIES,
        {"cell.weight_ih": 8},
    ),
    "cells on top of each other": (
        lambda: Net(
            stacked,
            one=nn.GRUCell(12, 10),
            two=nn.LSTMCell(10, 8),
            head=nn.Linear(8, 2),
        ),
        SERIES,
        {"one.weight_ih": 10, "two.weight_ih": 8},
    ),
    "an LSTM from zeros": (
        lambda: Net(
            started, layer=nn.LSTM(12, 8, 2, batch_first=True), head=nn.Linear(8, 2)
        ),
        SERIES,
        {"layer.weight_ih_l0": 8},
    ),
    "a GRU from a calculated state": (
        lambda: Net(
            from_inputs,
            start=nn.Linear(12, 8),
            layer=nn.GRU(12, 8, batch_first=True),
            head=nn.Linear(8, 2),
        ),
        SERIES,
        {"start": 8},
    ),
    "the largest entries along positions": (
        lambda: line(lambda _, y: y.topk(3, dim=1).values + y.sort(1)[0][:, :3]),
        SERIES,
        {"body": 24},
    ),
}


def exact(make, example):
    """Return the findings of a network, and check exactness and the form of it."""
    torch.manual_seed(0)
    model = make()
    for item in model.parameters():
        nn.init.normal_(item, std=0.5)
    found = examine(model, example)
    assert Structure.from_json(found.structure.to_json()) == found.structure
    for seed in range(3):
        for batch in (example, example[:1]):
            assert check_exact(model, found.structure, batch, seed=seed) <= 1e-12
    return found


@pytest.mark.parametrize(("make", "example", "widths"), FOLLOWED.values(), ids=FOLLOWED)
def test_lengths_that_count_the_channels_follow_every_cut(make, example, widths):
    structure = exact(make, example).structure
    assert structure.widths(structure.full()) == widths


# name -> (network, input, words of the note)
KEPT = {
    "a quotient with a rest, doubled": (
        lambda: image(lambda _, y: y.view(-1, y.shape[1] // 2 * 2, 8, 8).relu()),
        IMAGE,
        "its length 12 comes from elsewhere",
    ),
    "an attribute that is doubled": (
        lambda: image(lambda n, y: y.view(-1, 2 * n.half, 8, 8).relu(), half=6),
        IMAGE,
        "'half' of module '' counts parts of units",
    ),
    "a sum in another order": (
        lambda: image(
            lambda n, y: turned([y[:, : n.a], y[:, n.a :]]).view(-1, n.a + n.b, 8, 8),
            a=6,
            b=6,
        ),
        IMAGE,
        "its length 12 comes from elsewhere",
    ),
    "a length that is a scale too": (
        lambda: line(
            lambda n, y: y.view(y.shape[0], -1, n.width) * n.width**-0.5, width=24
        ),
        SERIES,
        "calculates with 'width'",
    ),
    "the width of heads that is a scale too": (
        lambda: line(
            lambda n, y: heads(n, y * n.width**-0.5, n.width // n.heads),
            width=24,
            heads=4,
        ),
        SERIES,
        "calculates with 'width'",
    ),
    "a check against a number": (
        lambda: line(lambda _, y: y.relu() if y.shape[-1] == 24 else None),
        SERIES,
        "a size, 24",
    ),
    "channels as image sizes": (
        lambda: image(
            lambda _, y: functional.interpolate(y, size=[y.shape[1], y.shape[1]])
        ),
        IMAGE,
        "a size, 12",
    ),
    "a tensor of a size": (
        lambda: line(lambda _, y: y / torch.tensor(y.shape[-1]).sqrt()),
        SERIES,
        "a size, 24",
    ),
    "a tensor of an attribute": (
        lambda: line(
            lambda n, y: y.view(y.shape[0], -1, n.width) / torch.tensor([n.width]),
            width=24,
        ),
        SERIES,
        "calculates with 'width'",
    ),
    "the number of ones": (
        lambda: line(lambda _, y: y * float(torch.ones(y.shape[-1]).sum())),
        SERIES,
        "a size, 24",
    ),
    "places in order": (
        lambda: line(lambda _, y: y * torch.arange(y.shape[-1])),
        SERIES,
        "a size, 24",
    ),
    "the largest channels": (
        lambda: line(lambda _, y: y.topk(6, dim=-1).values, out=6),
        SERIES,
        "runs along 24 channels",
    ),
}


@pytest.mark.parametrize(("make", "example", "words"), KEPT.values(), ids=KEPT)
def test_lengths_that_a_cut_would_make_wrong_keep_their_channels(make, example, words):
    found = exact(make, example)
    assert found.structure.units == 0
    assert any(words in note for note in found.notes), found.notes


def test_a_slice_by_numbers_keeps_the_channels_before_its_end():
    found = exact(lambda: image(lambda _, y: turned([y[:, :4], y[:, 4:]])), IMAGE)
    assert found.structure.widths(found.structure.full()) == {"conv": 8}
    assert any("test_lengths.py" in note for note in found.notes)


def test_groups_of_a_convolution_stay_where_they_are_read_as_a_length():
    def run(net, y):
        y = net.grouped(y)
        y = y.view(-1, net.grouped.groups, y.shape[1] // net.grouped.groups, 8, 8)
        return y.relu().flatten(1, 2)

    structure = exact(
        lambda: image(run, grouped=nn.Conv2d(12, 12, 1, groups=4)), IMAGE
    ).structure
    assert structure.widths(structure.full()) == {"conv": 3, "grouped": 3}


def split_by_list():
    return image(lambda n, y: turned(y.split(n.sizes, 1)), sizes=[4, 8])


def test_the_form_of_version_4_never_changes():
    data = json.loads(examine(split_by_list(), IMAGE).structure.to_json())
    assert data["version"] == 4
    assert data["attributes"][:2] == [
        ["conv", "out_channels", 0, 1],
        ["head", "in_features", 2, 1],
    ]
    assert data["attributes"][2:] == [
        ["", "sizes[0]", 0, 1, 0, 4],
        ["", "sizes[1]", 0, 1, 4, 12],
    ]


def test_a_list_that_two_networks_share_is_not_written_to():
    model = split_by_list()
    structure = examine(model, IMAGE).structure
    shared = model.sizes
    twin = copy.copy(model)
    keep = structure.full()
    keep[:3] = False
    cut = apply_plan(copy.deepcopy(model), structure, keep)
    assert cut.sizes == [1, 8]
    assert twin.sizes is shared
    assert shared == [4, 8]


@pytest.mark.parametrize(
    "sizes", [[4, 7], [4], (4.0, 8.0), {0: 4, 1: 8}, None, 4], ids=str
)
def test_a_network_whose_list_is_another_is_refused(sizes):
    model = split_by_list()
    structure = examine(model, IMAGE).structure
    model.sizes = sizes
    with pytest.raises(StructureError, match=r"no attribute 'sizes\[\d\]'"):
        apply_plan(model, structure, structure.full())


def test_a_forward_that_looks_into_its_own_zeros_is_traced():
    def run(_, y):
        start = torch.zeros(1, y.shape[1], 1, 1)
        return y + start if float(start.sum()) == 0 else y

    found = exact(lambda: image(run), IMAGE)
    assert any("a size, 12" in note for note in found.notes)


def test_a_rule_that_fails_leaves_its_operation_whole_and_warns(monkeypatch):
    def broken(call):
        return call.args[7]

    monkeypatch.setitem(tables.FUNCTIONS, torch.tanh, broken)
    model = image(lambda _, y: torch.tanh(y))
    with pytest.warns(RuntimeWarning, match=r"'tanh'.*IndexError.*report"):
        found = examine(model, IMAGE)
    assert found.structure.units == 0
    assert any("its rule failed" in note for note in found.notes)
    with pytest.raises(RuntimeWarning, match="report"):  # warnings are errors here
        examine(model, IMAGE)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_units_of_a_projected_lstm_are_cut_apart_from_its_outputs():
    def run(net, x):
        found, (_, c) = net.layer(x)
        return net.head(found.sum(1)) + net.side(c[-1])

    def make():
        layer = nn.LSTM(12, 8, batch_first=True, proj_size=4)
        return Net(run, layer=layer, head=nn.Linear(4, 2), side=nn.Linear(8, 2))

    structure = exact(make, SERIES).structure
    keep = structure.full()
    keep[[0, 3, 4]] = False
    cut = apply_plan(make(), structure, keep)
    # A cell as wide as the outputs would be one without a projection.
    assert structure.widths(structure.full()) == {
        "layer.weight_ih_l0": 3,
        "layer.weight_hr_l0": 4,
    }
    assert (cut.layer.hidden_size, cut.layer.proj_size) == (7, 2)
    assert np.shape(cut.layer.weight_hr_l0) == (2, 7)
