"""Operations that read another thing than the channels that tracing sees."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.functional import scaled_dot_product_attention

from fedprune.common.pruning.plan import apply_plan
from fedprune.common.pruning.verify import check_exact
from fedprune.common.structure.tracing.find import examine

FLAT = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
LONG = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Named layers, and a function that calls them."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def widths(net, *inputs):
    """Return the width of each group and the notes; the cuts are exact."""
    found = examine(net, inputs)
    for seed in range(3):
        assert check_exact(net, found.structure, inputs, seed=seed) <= 1e-12
    return found.structure.widths(found.structure.full()), " ".join(found.notes)


def first_units(structure):
    keep = np.zeros(structure.units, dtype=np.bool_)
    keep[[group.units[0] for group in structure.groups]] = True
    return keep


@pytest.mark.parametrize("dim", [(), (-1,), (1,)], ids=str)
def test_a_dimension_that_squeeze_would_remove_keeps_two_channels(dim):
    net = Net(
        lambda net, x: net.out(net.inner(x).squeeze(*dim)),
        inner=nn.Linear(6, 16),
        out=nn.Linear(16, 2),
    )
    found, notes = widths(net, FLAT)
    assert found == {"inner": 15}
    assert "removes a dimension of one channel" in notes
    structure = examine(net, FLAT).structure
    cut = apply_plan(net, structure, first_units(structure))
    assert cut.inner.out_features == 2
    assert cut(FLAT[:2]).shape == (2, 2)


def test_a_dimension_of_two_positions_a_unit_is_squeezed_without_a_loss():
    net = Net(
        lambda net, x: net.out(net.inner(x).flatten(1).squeeze()),
        inner=nn.Conv1d(5, 8, 1),
        out=nn.Linear(48, 2),
    )
    assert widths(net, LONG) == ({"inner": 8}, "")


def test_channels_that_choose_rows_of_an_embedding_are_not_cut():
    net = Net(
        lambda net, x: net.out(net.table((net.inner(x) > 0).long()).sum(1)),
        inner=nn.Linear(6, 8),
        table=nn.Embedding(2, 4),
        out=nn.Linear(4, 2),
    )
    found, notes = widths(net, FLAT)
    assert found == {"table": 4}
    assert "its channels say which rows are taken" in notes


def test_the_weights_of_the_rows_of_a_bag_are_not_cut():
    net = Net(
        lambda net, x, i: net.out(net.table(i, per_sample_weights=net.inner(x))),
        inner=nn.Linear(6, 8),
        table=nn.EmbeddingBag(9, 4, mode="sum"),
        out=nn.Linear(4, 2),
    )
    assert widths(net, FLAT, torch.arange(32).reshape(4, 8) % 9)[0] == {"table": 4}


@pytest.mark.parametrize("rows", [5, 1])
def test_a_mask_that_the_network_makes_keeps_its_keys(rows):
    def attend(net, x):
        mask = net.mask(x)[:, :rows]
        return net.out(scaled_dot_product_attention(x, x, net.value(x), mask))

    layers = {"mask": nn.Linear(6, 5), "value": nn.Linear(6, 8), "out": nn.Linear(8, 2)}
    found, notes = widths(Net(attend, **layers), LONG)
    assert found == {"value": 8}
    assert "a mask runs along the positions" in notes


@pytest.mark.parametrize(
    "middle",
    [
        nn.AvgPool1d(3, 1, 1),
        nn.MaxPool1d(3, 1, 1),
        nn.ZeroPad1d((1, -1)),
        nn.InstanceNorm1d(4),
    ],
    ids=repr,
)
def test_channels_that_torch_takes_for_positions_are_not_cut(middle):
    net = nn.Sequential(nn.Linear(6, 8), middle, nn.Linear(8, 2))
    found, notes = widths(net, FLAT)
    assert found == {}
    assert "want 3, batch first" in notes


def test_the_same_pooling_behind_a_batch_is_followed():
    net = nn.Sequential(nn.Conv1d(5, 8, 1), nn.AvgPool1d(3, 1, 1), nn.Conv1d(8, 2, 1))
    assert widths(net, LONG) == ({"0": 8}, "")


@pytest.mark.parametrize(("bounds", "cut"), [((-1, 2), 8), ((0, 6), 8), ((0.5, 2), 0)])
@pytest.mark.parametrize("called", [False, True])
def test_bounds_that_exclude_0_shift_a_masked_channel(bounds, cut, called):
    act = nn.Hardtanh(*bounds)

    def forward(net, x):
        x = net.inner(x)
        x = functional.hardtanh(x, *bounds) if called else net.act(x)
        return net.out(x.sum(1, keepdim=True))

    net = Net(forward, inner=nn.Linear(6, 8), act=act, out=nn.Linear(1, 2))
    assert sum(widths(net, FLAT)[0].values()) == cut


@pytest.mark.parametrize(
    ("change", "cut"),
    [
        (lambda x: nn.functional.relu(x, inplace=True), 8),
        (lambda x: nn.functional.relu(x, inplace=True).add_(1), 0),
        (lambda x: nn.functional.dropout1d(x, 0.5, False).add_(1), 0),  # noqa: FBT003
        (nn.Hardsigmoid(inplace=True), 0),
        (lambda x: nn.ReLU(inplace=True)(x).add_(1), 0),
    ],
)
def test_what_changes_an_input_in_place_changes_what_reads_it_later(change, cut):
    def forward(net, x):
        x = net.inner(x)
        net.act(x)
        return net.out(x.sum(1, keepdim=True))

    act = change if isinstance(change, nn.Module) else Net(lambda _, x: change(x))
    net = Net(forward, inner=nn.Linear(6, 8), act=act, out=nn.Linear(1, 2))
    structure = examine(net, FLAT).structure
    assert structure.units == cut
    if cut:  # torch trains no ReLU whose output is changed
        assert check_exact(net, structure, FLAT) <= 1e-12


@pytest.mark.parametrize(
    "read", [lambda x: x.shape[1], lambda x: x.shape], ids=["one", "all"]
)
def test_a_size_among_the_outputs_does_not_change(read):
    def forward(net, x):
        x = net.inner(x)
        return net.out(x), read(x)

    net = Net(forward, inner=nn.Linear(6, 8), out=nn.Linear(8, 2))
    assert widths(net, FLAT)[0] == {}


def test_an_attribute_is_asked_whether_it_is_0_before_and_after_a_cut():
    class Asks(nn.Module):
        def __init__(self):
            super().__init__()
            self.width = 8
            self.inner, self.out = nn.Linear(6, 8), nn.Linear(8, 2)

        def forward(self, x):
            x = self.inner(x).view(-1, self.width)
            return self.out(x) * (2 if self.width % 2 else 1)

    assert widths(Asks(), FLAT)[0] == {}


@pytest.mark.parametrize(
    ("read", "cut"),
    [
        (lambda n: n % 2, False),
        (lambda n: n % 2 == 0, False),
        (lambda n: -n % 4, False),
        (lambda n: n // 4 > 0, False),
        (lambda n: n - 8, False),
        (abs, False),
        (lambda n: n & 8, False),
        (lambda n: divmod(n, 3)[1], False),
        (bool, True),
        (lambda n: 2 * n > 0, True),
    ],
    ids=[
        "rest",
        "no rest",
        "lack",
        "share",
        "less",
        "abs",
        "bit",
        "divmod",
        "any",
        "0",
    ],
)
def test_a_number_that_may_become_another_is_not_asked_for_0(read, cut):
    """With 2, 4 and 6 of 8 channels all of these rests are what they were."""

    def forward(net, x):
        x = net.inner(x)
        return net.out(x) * (2.0 if read(x.shape[1]) else 1.0)

    net = Net(forward, inner=nn.Linear(6, 8), out=nn.Linear(8, 2))
    assert bool(widths(net, FLAT)[0]) == cut
