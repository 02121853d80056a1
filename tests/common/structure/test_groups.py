"""A pruning group is one width: every dimension has all of its units or none."""

import json

import numpy as np
import pytest
import torch
from helpers.pruning_nets import NETS, build
from torch import nn
from torch.nn import functional

from fedprune.common.errors import PayloadError
from fedprune.common.pruning.choose import choose_keep
from fedprune.common.pruning.cost import smallest_mask
from fedprune.common.pruning.importance import channel_weights
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.pruning.verify import check_exact, trial_masks
from fedprune.common.structure.structure import Structure
from fedprune.common.structure.tracing.find import find_structure


class TwoBranches(nn.Module):
    """Two convolutions whose channels meet in a sum, which a third one makes whole."""

    def __init__(self):
        super().__init__()
        self.left = nn.Conv2d(3, 6, 1)
        self.right = nn.Conv2d(3, 4, 1)
        self.both = nn.Conv2d(3, 10, 1)
        self.head = nn.Conv2d(10, 2, 1)

    def forward(self, x):
        beside = torch.cat([self.left(x), self.right(x)], 1)
        return self.head(functional.relu(beside + self.both(x)))


EXAMPLE = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))


def assert_whole(structure):
    for dim in structure.dims:
        units = set(dim.units[dim.units >= 0].tolist())
        for group in structure.groups:
            common = units & set(group.units.tolist())
            assert common in (set(), set(group.units.tolist()))


@pytest.mark.parametrize("name", NETS)
def test_every_dimension_consists_of_whole_groups(name):
    _, _, structure = build(name)
    assert_whole(structure)


def test_branches_that_are_concatenated_keep_a_width_each():
    model = TwoBranches()
    structure = find_structure(model, EXAMPLE)
    assert structure.widths(structure.full()) == {"left": 6, "right": 4}
    assert [g.producers for g in structure.groups] == [
        ("left.weight", "both.weight"),
        ("right.weight", "both.weight"),
    ]
    assert_whole(structure)
    assert check_exact(model, structure, EXAMPLE) <= 1e-12


def test_groups_of_one_producer_are_numbered():
    class Split(nn.Module):
        def __init__(self):
            super().__init__()
            self.both = nn.Linear(3, 8)
            self.one, self.other = nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x):
            one, other = self.both(x).chunk(2, 1)
            return self.one(one.relu()), self.other(other.tanh())

    structure = find_structure(Split(), torch.randn(2, 3))
    names = [group.name for group in structure.groups]
    assert names in (["both"], ["both", "both#2"])
    assert len(names) == len(set(names))
    assert_whole(structure)


def test_no_choice_empties_a_layer():
    structure = find_structure(TwoBranches(), EXAMPLE)
    rng = np.random.default_rng(0)
    masks = [smallest_mask(structure, floor=1, width_multiple=1)]
    masks += [*trial_masks(structure, 0)]
    for seed in range(5):
        # One branch is worth nothing: all of it would go first.
        importance = rng.random(structure.units).astype(np.float32)
        importance[structure.groups[seed % 2].units] *= 1e-6
        masks.append(
            choose_keep(
                structure,
                structure.full(),
                importance,
                {"params": 0.2},
                floor=1,
                step_cap=1.0,
                width_multiple=1,
            )
        )
    for keep in masks:
        assert all(0 not in t.shape for t in structure.spec(keep).tensors)
        assert apply_plan(TwoBranches(), structure, keep)(EXAMPLE).isfinite().all()


def test_a_producer_of_two_groups_counts_once_in_the_mean_over_producers():
    model = TwoBranches()
    structure = find_structure(model, EXAMPLE)
    tensors = {n: p.detach().numpy() for n, p in model.named_parameters()}
    found = channel_weights(
        structure, structure.full(), tensors, np.arange(10, dtype=np.int64)
    )
    assert [len(rows.unit) for rows in found.producers] == [6, 10, 4]


def test_a_forged_group_that_is_partly_in_a_dimension_is_refused():
    structure = find_structure(TwoBranches(), EXAMPLE)
    forged = json.loads(structure.to_json())
    left, right = forged["groups"]
    forged["groups"] = [["left", [[0, 10, 1]], sorted({*left[2], *right[2]}), []]]
    data = json.dumps(forged, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(PayloadError, match="only partly in dimension 0 of 'left"):
        Structure.from_json(data)


class Gate(nn.Module):
    """A gate that is reshaped by the channels of what it multiplies, or is beside."""

    def __init__(self, *, multiplies):
        super().__init__()
        self.multiplies = multiplies
        self.body = nn.Conv2d(3, 6, 1)
        self.inner, self.gate = nn.Linear(6, 4), nn.Linear(4, 6)
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x):
        x = self.body(x).relu()
        batch, channels, _, _ = x.size()
        gate = self.gate(self.inner(x.mean((2, 3))).relu())
        gate = gate.sigmoid().view(batch, channels, 1, 1)
        if self.multiplies:
            return self.head(x * gate)
        return self.head(x), gate


def test_a_gate_that_is_reshaped_by_other_channels_is_cut_with_them():
    model = Gate(multiplies=True)
    structure = find_structure(model, EXAMPLE)
    assert structure.widths(structure.full()) == {"body": 6, "inner": 4}
    assert check_exact(model, structure, EXAMPLE) <= 1e-12


def test_channels_that_are_a_length_of_an_output_are_cut_without_it():
    model = Gate(multiplies=False)
    structure = find_structure(model, EXAMPLE)
    assert structure.widths(structure.full()) == {"body": 6, "inner": 4}
    assert check_exact(model, structure, EXAMPLE) <= 1e-12
