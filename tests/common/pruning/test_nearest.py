"""Warning for a network that ends far below its budget: groups, widths, floors."""

import numpy as np
import pytest
import torch
from helpers.pruning_nets import ResNet
from torch import nn

from fedprune.common.pruning.cost import shares
from fedprune.common.pruning.nearest import lowest, step_back
from fedprune.common.structure.tracing.find import find_structure


@pytest.fixture(scope="module")
def structure():
    """Return three linear layers: groups '0' and '2' of 20 and 12 channels."""
    model = nn.Sequential(
        *(nn.Linear(4, 20), nn.ReLU(), nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 3))
    )
    return find_structure(model, torch.zeros(1, 4))


def kept(structure, *widths):
    """Return a mask that keeps the first channels of each group."""
    keep = np.zeros(structure.units, dtype=np.bool_)
    for group, width in zip(structure.groups, widths, strict=True):
        keep[group.units[:width]] = True
    return keep


def test_the_smallest_step_back_is_the_next_legal_width_that_adds_least(structure):
    keep = kept(structure, 8, 8)
    options = {"floor": 2, "width_multiple": 8}
    by_channels = step_back(structure, keep, {"channel_density": 0.6}, **options)
    assert (by_channels.group, by_channels.before, by_channels.after) == ("2", 8, 12)
    assert by_channels.shares["channel_density"] == 20 / 32
    # 8 more of the first add 8 * (4 + 1 + 8) weights, 4 more of the other 4 * 12.
    by_weights = step_back(structure, keep, {"params": 0.5}, **options)
    assert by_weights.shares == shares(structure, kept(structure, 8, 12))
    full = kept(structure, 20, 12)
    assert step_back(structure, full, {"params": 0.5}, **options) is None


def test_of_equal_steps_the_earlier_group_is_named(structure):
    back = step_back(
        structure,
        kept(structure, 4, 4),
        {"channel_density": 0.3},
        floor=1,
        width_multiple=4,
    )
    assert (back.group, back.after) == ("0", 8)


@pytest.mark.parametrize(
    ("widths", "floor", "multiple", "names"),
    [
        ((8, 12), 2, 8, ("0",)),
        ((16, 12), 2, 8, ()),
        ((3, 2), 2, 1, ("2",)),
        ((3, 2), 3, 1, ("0", "2")),
        ((20, 12), 13, 1, ("2",)),
    ],
)
def test_the_groups_that_can_go_no_lower_are_named(
    structure, widths, floor, multiple, names
):
    found = lowest(
        structure, kept(structure, *widths), floor=floor, width_multiple=multiple
    )
    assert found == names


def test_groups_of_dropped_blocks_are_not_named():
    model = ResNet().eval()
    structure = find_structure(model, torch.zeros(2, 3, 8, 8), blocks=True)
    keep = structure.full()
    keep[structure.inner_units["layer2.1"]] = False
    options = {"floor": 1, "width_multiple": 1}
    assert step_back(structure, keep, {"params": 0.5}, **options) is None
    assert lowest(structure, keep, **options) == ()
