"""Budgets are met within 2 %, from below, wherever legal widths allow it."""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers.pruning_nets import choose, scores
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedprune.common.methods.schedule import density_at
from fedprune.common.models.registry import build_model
from fedprune.common.pruning.cost import check_budget, is_met, shares, smallest_mask
from fedprune.common.structure.tracing.find import find_structure


def unmet(structure, keep, targets):
    left = shares(structure, keep)
    return {kind for kind, share in targets.items() if not is_met(left[kind], share)}


def used(structure, keep, targets):
    left = shares(structure, keep)
    return max(left[kind] / share for kind, share in targets.items())


# Networks whose widths are near to what people use, and budgets of all kinds.
TABLE = {
    "lenet5": (1, 28, 28),
    "small-resnet": (1, 8, 8),
    "vgg11_bn": (3, 32, 32),
    "resnet18": (3, 32, 32),
}
BUDGETS = [
    {"params": 0.3, "flops": 0.35},
    {"params": 0.3},
    {"params": 0.5},
    {"params": 0.15},
    {"flops": 0.5},
    {"flops": 0.25},
    {"bytes": 0.3},
]


@cache
def known(name):
    """Return the structure of a network of the registry."""
    shape = TABLE[name]
    model = build_model(name, num_outputs=10, input_shape=shape, seed=0)
    return find_structure(model.eval(), torch.zeros(1, *shape))


def kept(structure, keep, targets):
    """Return whether a budget is met, and within 2 % of it."""
    return 0.98 <= used(structure, keep, targets) <= 1.0


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
@pytest.mark.parametrize("name", TABLE)
def test_a_budget_is_met_within_2_percent_from_below(name, budget):
    structure = known(name)
    settings = {"floor": 2, "width_multiple": 8}
    check_budget(structure, budget, **settings)
    for seed in (0, 1):
        keep = choose(structure, scores(structure, seed), budget, **settings)
        assert kept(structure, keep, budget)


def cut_by_schedule(structure, importances, budget, **settings):
    """Cut as a run does: four cuts by the cubic schedule, more until it is met."""
    seen = [structure.full()]
    for number in range(1, 9):
        progress = min(number / 4, 1.0)
        now = {k: density_at("cubic", end, progress) for k, end in budget.items()}
        scored = importances[number % len(importances)]
        seen.append(
            choose(structure, scored, now, keep=seen[-1], final=budget, **settings)
        )
        if not unmet(structure, seen[-1], budget):
            break
    return seen


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
@pytest.mark.parametrize("name", ["lenet5", "small-resnet", "vgg11_bn"])
def test_cuts_by_a_schedule_end_within_2_percent(name, budget):
    structure = known(name)
    settings = {"floor": 2, "step_cap": 0.4, "width_multiple": 8}
    for seed in (0, 1):
        seen = cut_by_schedule(structure, [scores(structure, seed)], budget, **settings)
        assert kept(structure, seen[-1], budget)
        cuts = [(a != b).any() for a, b in pairwise(seen)]
        assert sum(cuts) >= 3


def test_a_step_that_is_too_large_is_left_out_for_smaller_ones():
    # 16 -> 8 units of the second layer free 0.4 of the weights, and cost nothing.
    structure = chain([40, 16])
    importance = np.ones(structure.units, np.float32)
    importance[40:] = 1e-6
    keep = choose(structure, importance, {"params": 0.82}, width_multiple=8)
    assert [*structure.widths(keep).values()] == [32, 16]
    assert kept(structure, keep, {"params": 0.82})


def test_where_no_legal_width_is_near_the_nearest_is_taken():
    # 16 channels by 8: half of them, or all.
    structure = chain([16])
    keep = choose(structure, np.ones(16), {"channel_density": 0.7}, width_multiple=8)
    assert keep.sum() == 8


SIZES = st.lists(st.integers(2, 40), min_size=2, max_size=4)


@pytest.mark.slow
@given(SIZES, st.integers(0, 9), st.floats(0.05, 1.0), st.sampled_from([1, 2, 4, 8]))
def test_any_chain_ends_as_near_as_any_single_other_step_would(
    sizes, seed, target, multiple
):
    structure = chain(sizes)
    budget, settings = {"params": target}, {"floor": 1, "width_multiple": multiple}
    smallest = smallest_mask(structure, **settings)
    keep = choose(structure, scores(structure, seed), budget, **settings)
    if unmet(structure, smallest, budget):
        np.testing.assert_array_equal(keep.sum(), smallest.sum())
        return
    assert used(structure, keep, budget) <= 1.0 + 1e-9
    if used(structure, keep, budget) < 0.98:
        for wider in one_step_wider(structure, keep, scores(structure, seed), multiple):
            assert unmet(structure, wider, budget)


def chain(sizes):
    """Return linear layers of such widths, as a structure."""
    return _chain(tuple(sizes))


@cache
def _chain(sizes):
    layers = [
        layer
        for taken, made in pairwise((3, *sizes))
        for layer in (nn.Linear(taken, made), nn.ReLU())
    ]
    model = nn.Sequential(*layers, nn.Linear(sizes[-1], 2))
    return find_structure(model, torch.zeros(1, 3))


def one_step_wider(structure, keep, importance, multiple):
    """Yield the masks in which one group has its next greater legal width."""
    for group in structure.groups:
        gone = group.units[~keep[group.units]]
        order = gone[np.lexsort((gone, importance[gone]))][::-1]
        width = int(keep[group.units].sum())
        more = min(multiple - width % multiple, len(gone))
        if more and gone.size:
            wider = keep.copy()
            wider[order[:more]] = True
            yield wider


def test_a_cut_on_the_way_spends_nothing_that_the_last_one_keeps():
    structure = known("vgg11_bn")
    importance = scores(structure)
    settings = {"floor": 2, "step_cap": 0.4, "width_multiple": 8}
    final = {"params": 0.3}
    end = choose(structure, importance, final, **settings | {"step_cap": 1.0})
    for share in (0.8, 0.5, 0.35):
        keep = choose(structure, importance, {"params": share}, final=final, **settings)
        assert not (end & ~keep).any()
        assert not keep.all()
