"""Costs are those of the network that runs; impossible budgets are refused."""

import numpy as np
import pytest
import torch
from helpers.pruning_nets import NETS, build, random_mask
from torch.utils.flop_counter import FlopCounterMode

from fedprune.common.errors import ConfigError
from fedprune.common.pruning.cost import (
    Cost,
    check_budget,
    count_cost,
    flops,
    legal_cuts,
    shares,
    smallest_mask,
    width_step,
)
from fedprune.common.pruning.plan import apply_plan


def counted(model, example):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(example[:1])
    return counter.get_total_flops()


@pytest.mark.parametrize("seed", [None, 0, 1])
@pytest.mark.parametrize("name", NETS)
def test_costs_are_those_that_torch_counts(name, seed):
    model, example, structure = build(name)
    keep = structure.full() if seed is None else random_mask(structure, seed)
    apply_plan(model, structure, keep)
    cost = count_cost(structure, keep)
    assert cost.params == sum(item.numel() for item in model.parameters())
    assert cost.params == structure.spec(keep).size
    assert flops(cost) == counted(model, example)


def test_costs_of_a_chain_by_hand():
    _, _, structure = build("lenet")
    keep = structure.full()
    keep[[0, 6, 22]] = False  # conv1 6 -> 5, conv2 16 -> 15, fc1 20 -> 19
    params = 5 * 10 + 15 * (5 * 9 + 1) + 19 * (60 + 1) + 12 * 20 + 5 * 13
    macs = 5 * 9 * 144 + 15 * 5 * 9 * 16 + 19 * 60 + 12 * 19 + 5 * 12
    assert count_cost(structure, keep) == Cost(
        params=params, macs=macs, size=4 * params
    )


def test_shares_are_of_the_dense_network():
    _, _, structure = build("groupnorm")
    assert shares(structure, structure.full()) == {
        "params": 1.0,
        "flops": 1.0,
        "channel_density": 1.0,
        "bytes": 1.0,
    }
    keep = structure.full()
    keep[structure.groups[-1].units[:2]] = False
    found = shares(structure, keep)
    assert found["channel_density"] == 64 / 72  # two units of four channels
    assert 0.0 < found["params"] < 1.0


@pytest.mark.parametrize(
    ("channels", "floor", "multiple", "cuts"),
    [
        ([1] * 6, 1, 1, [1, 2, 3, 4, 5]),
        ([1] * 6, 3, 1, [1, 2, 3]),
        ([1] * 6, 1, 4, [2]),
        ([1] * 6, 1, 8, []),
        ([1] * 16, 2, 8, [8]),
        ([1] * 16, 9, 8, []),
        ([4] * 4, 1, 8, [2]),
        ([4] * 4, 2, 1, [1, 2, 3]),
        ([3] * 4, 1, 2, [2]),
        ([2, 1, 1, 2], 1, 3, [2]),
        ([], 1, 1, []),
        ([1] * 6, 1, 0, [1, 2, 3, 4, 5]),
        ([1] * 16, 1, 0, [2, 4, 6, 8, 10, 12, 14]),
        ([1] * 64, 9, 0, [8, 16, 24, 32, 40, 48]),
    ],
)
def test_legal_widths_are_multiples_not_below_the_floor(
    channels, floor, multiple, cuts
):
    found = legal_cuts(
        np.asarray(channels, np.int64),
        sum(channels),
        floor=floor,
        width_multiple=multiple,
    )
    assert found.tolist() == cuts


def test_a_cut_group_keeps_the_step_of_its_first_width():
    # 64 channels go by eights, and go on by eights when 16 are left.
    found = legal_cuts(np.ones(16, np.int64), 64, floor=1, width_multiple=0)
    assert found.tolist() == [8]


@pytest.mark.parametrize(
    ("width", "step"),
    [(1, 1), (15, 1), (16, 2), (31, 2), (32, 4), (63, 4), (64, 8), (4096, 8)],
)
def test_the_step_of_a_group_follows_its_width(width, step):
    assert width_step(width, 0) == step
    assert width_step(width, 3) == 3


def test_the_smallest_network_has_the_smallest_legal_widths():
    _, _, structure = build("resnet")
    keep = smallest_mask(structure, floor=3, width_multiple=2)
    assert set(structure.widths(keep).values()) == {4}
    keep = smallest_mask(structure, floor=1, width_multiple=16)
    assert keep.all()


@pytest.mark.parametrize(
    ("floor", "multiple", "target", "words"),
    [
        (8, 1, 0.3, "floor = 8"),
        (2, 8, 0.2, "width_multiple = 8"),
        (6, 8, 0.05, "floor = 6 together with width_multiple = 8"),
        (2, 8, 1e-4, "even one unit in each group is more"),
    ],
)
def test_an_impossible_budget_names_what_stands_in_the_way(
    floor, multiple, target, words
):
    _, _, structure = build("resnet")
    with pytest.raises(ConfigError, match=words) as caught:
        check_budget(
            structure, {"params": target}, floor=floor, width_multiple=multiple
        )
    reachable = smallest_mask(structure, floor=floor, width_multiple=multiple)
    assert f"{shares(structure, reachable)['params']:.4f}" in str(caught.value)


@pytest.mark.parametrize("kind", ["params", "flops", "channel_density"])
def test_a_budget_is_accepted_exactly_when_it_is_reachable(kind):
    _, _, structure = build("resnet")
    settings = {"floor": 2, "width_multiple": 4}
    reachable = shares(structure, smallest_mask(structure, **settings))[kind]
    check_budget(structure, {kind: reachable}, **settings)
    with pytest.raises(ConfigError, match=f"budget {kind}"):
        check_budget(structure, {kind: reachable * 0.999}, **settings)


@pytest.mark.parametrize(
    "targets",
    [{"macs": 0.5}, {"params": 0.0}, {"flops": 1.1}, {"params": float("nan")}],
)
def test_a_budget_of_another_form_is_refused(targets):
    _, _, structure = build("lenet")
    with pytest.raises(ConfigError, match="budget"):
        check_budget(structure, targets, floor=1, width_multiple=1)
