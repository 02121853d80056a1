"""One function carries everything that follows the weights."""

import copy

import numpy as np
import pytest
import torch
from helpers.pruning_nets import NETS, build, flat, random_mask
from torch import nn

from fedprune.common.messages import Statistics
from fedprune.common.models.flat import get_running, set_state
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.pruning.remap import remap, remap_moments, remap_running
from fedprune.common.spec import TensorSpec
from fedprune.common.structure.tracing.find import find_structure


def numbered(size):
    """Return a vector in which every entry is another number, none of them 0."""
    return np.arange(1, size + 1, dtype=np.float32)


def chain(structure, seed):
    """Return three nested masks, each at least one unit in each group."""
    last = random_mask(structure, seed, 0.3)
    middle = last | random_mask(structure, seed + 50, 0.5)
    return middle | random_mask(structure, seed + 90, 0.7), middle, last


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NETS)
def test_from_the_full_mask_it_is_what_cutting_does_to_the_weights(name, seed):
    model, _, structure = build(name, seed)
    keep = random_mask(structure, seed)
    found = remap(flat(model), structure, structure.full(), keep)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, flat(apply_plan(model, structure, keep)))


@pytest.mark.parametrize("name", NETS)
def test_going_in_two_steps_is_going_at_once(name):
    _, _, structure = build(name)
    old, middle, new = chain(structure, 1)
    vector = numbered(structure.spec(old).size)
    direct = remap(vector, structure, old, new)
    half = remap(vector, structure, old, middle)
    np.testing.assert_array_equal(remap(half, structure, middle, new), direct)
    assert len(direct) == structure.spec(new).size < len(half) < len(vector)


@pytest.mark.parametrize("name", NETS)
def test_what_comes_back_is_zero_and_the_rest_is_carried(name):
    _, _, structure = build(name)
    _, old, new = chain(structure, 2)
    vector = numbered(structure.spec(old).size)
    small = remap(vector, structure, old, new)
    back = remap(small, structure, new, old)
    kept = remap(np.ones_like(small), structure, new, old) == 1.0
    np.testing.assert_array_equal(back[kept], vector[kept])
    assert not back[~kept].any()
    assert kept.sum() == len(small) < len(vector)
    np.testing.assert_array_equal(remap(back, structure, old, new), small)


def test_units_that_only_one_side_has_do_not_mix():
    _, _, structure = build("lenet")
    left, right = random_mask(structure, 3), random_mask(structure, 4)
    both = structure.full()
    vector = numbered(structure.spec(left).size)
    through = remap(remap(vector, structure, left, both), structure, both, right)
    np.testing.assert_array_equal(remap(vector, structure, left, right), through)


def test_the_same_mask_gives_an_equal_vector_of_its_own():
    _, _, structure = build("resnet")
    keep = random_mask(structure, 0)
    vector = numbered(structure.spec(keep).size)
    found = remap(vector, structure, keep, keep)
    np.testing.assert_array_equal(found, vector)
    assert not np.shares_memory(found, vector)


def test_a_vector_of_another_size_is_refused():
    _, _, structure = build("lenet")
    vector = numbered(structure.spec(structure.full()).size - 1)
    with pytest.raises(ValueError, match=r"want \[\d+\]"):
        remap(vector, structure, structure.full(), structure.full())


def test_momentum_after_the_cut_is_the_sliced_momentum():
    model, example, structure = build("resnet")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(example).square().sum().backward()
    optimizer.step()
    state = [optimizer.state[item]["momentum_buffer"] for item in model.parameters()]
    momentum = torch.cat([item.reshape(-1) for item in state]).float().numpy()
    keep = random_mask(structure, 0)
    found = remap(momentum, structure, structure.full(), keep)
    holder = copy.deepcopy(model)
    with torch.no_grad():
        for item, value in zip(holder.parameters(), state, strict=True):
            item.copy_(value)
    np.testing.assert_array_equal(found, flat(apply_plan(holder, structure, keep)))


def moments(model):
    means = [b for name, b in model.named_buffers() if name.endswith("running_mean")]
    return torch.cat(means).float().numpy()


@pytest.mark.parametrize("name", ["resnet", "depthwise", "signal"])
def test_statistics_are_cut_as_the_network_cuts_them(name):
    model, _, structure = build(name)
    keep = random_mask(structure, 0)
    found = remap_moments(moments(model), structure, structure.full(), keep)
    np.testing.assert_array_equal(found, moments(apply_plan(model, structure, keep)))
    assert len(found) == structure.spec(keep).moments


def test_running_values_are_cut_as_the_network_cuts_them():
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3),
        nn.InstanceNorm2d(6, affine=True, track_running_stats=True),
        nn.Conv2d(6, 8, 3),
        nn.InstanceNorm2d(8, affine=True, track_running_stats=True),
        nn.Conv2d(8, 2, 3),
    )
    names = [n for n, b in model.named_buffers() if b.is_floating_point()]
    shapes = [
        TensorSpec(name=name, shape=tuple(item.shape))
        for name, item in model.named_buffers()
    ]
    structure = find_structure(model, torch.rand(2, 1, 9, 9)).averaging(names, shapes)
    assert structure.running == tuple(names)
    full, some, few = structure.full(), *(random_mask(structure, s) for s in (0, 1))
    few &= some
    few[[group.units[0] for group in structure.groups]] = True
    some |= few
    values = numbered(structure.spec(full).running_size)
    set_state(model, with_running(values), names)
    found = remap_running(values, structure, full, few)
    cut = apply_plan(model, structure, few)
    np.testing.assert_array_equal(found, get_running(cut, names))
    assert len(found) == structure.spec(few).running_size < len(values)
    detour = remap_running(
        remap_running(values, structure, full, some), structure, some, few
    )
    np.testing.assert_array_equal(detour, found)
    back = remap_running(found, structure, few, full)
    np.testing.assert_array_equal(back[back > 0], found)


def with_running(values):
    none = np.zeros(0, np.float32)
    return Statistics(num_examples=1, mean=none, variance=none, running=values)


def test_statistics_that_come_back_start_with_the_fill_value():
    _, _, structure = build("resnet")
    keep = random_mask(structure, 0)
    small = np.full(structure.spec(keep).moments, 7.0, np.float32)
    full = structure.full()
    for fill in (0.0, 1.0):
        back = remap_moments(small, structure, keep, full, fill=fill)
        assert len(back) == structure.spec(full).moments
        assert (back == 7.0).sum() == len(small)
        assert (back == fill).sum() == len(back) - len(small)


def test_a_network_without_batch_norm_has_no_statistics():
    _, _, structure = build("groupnorm")
    none = np.zeros(0, np.float32)
    keep = random_mask(structure, 0)
    assert remap_moments(none, structure, structure.full(), keep).shape == (0,)
