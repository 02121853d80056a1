"""Every reference network can be cut, and costs what torch counts."""

import copy

import numpy as np
import pytest
import torch
from helpers.pruning_nets import mask_model, random_mask, randomise
from torch.utils.flop_counter import FlopCounterMode

from fedprune.common.models.flat import get_weights, model_spec
from fedprune.common.models.registry import NETWORKS, build_model
from fedprune.common.pruning.choose import choose_keep
from fedprune.common.pruning.cost import check_budget, count_cost, flops, shares
from fedprune.common.pruning.importance import weight_scores
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.pruning.remap import remap
from fedprune.common.structure.structure import Structure
from fedprune.common.structure.tracing.find import find_structure

# name -> (shape of an example, units counted by hand)
NETS = {
    "lenet5": ((1, 28, 28), 20 + 50 + 500),
    "mlp": ((1, 8, 8), 128 + 128),
    "small-resnet": ((1, 8, 8), 2 * 16 + 2 * 32 + 3 * 64),
    "vgg11_bn": ((3, 32, 32), 64 + 128 + 2 * 256 + 4 * 512),
    "resnet18": ((3, 32, 32), 3 * (64 + 128 + 256 + 512)),
}


def network(name):
    shape = NETS[name][0]
    model = build_model(name, num_outputs=10, input_shape=shape, seed=0)
    return model.eval(), torch.zeros(1, *shape)


def test_no_network_is_forgotten():
    assert set(NETS) == set(NETWORKS)


@pytest.mark.parametrize("name", NETS)
def test_the_units_are_those_counted_by_hand(name):
    model, example = network(name)
    structure = find_structure(model, example)
    assert structure.units == NETS[name][1]
    assert Structure.from_json(structure.to_json()) == structure
    assert structure.spec(structure.full()) == model_spec(model, structure.units)


def test_resnet18_fits_into_few_bytes():
    structure = find_structure(*network("resnet18"))
    keep = structure.full()
    assert len(np.packbits(keep).tobytes()) == 360
    assert len(structure.to_json()) <= 20_000


@pytest.mark.parametrize("name", ["lenet5", "mlp", "small-resnet", "resnet18"])
def test_a_network_is_scored_chosen_and_cut_exactly(name):
    model, example = network(name)
    randomise(model)
    structure = find_structure(model, example)
    full = structure.full()
    settings = {"floor": 2, "width_multiple": 8}
    check_budget(structure, {"params": 0.4}, **settings)
    weights = get_weights(model)
    importance = weight_scores(structure, full, weights, "l2", np.random.default_rng(0))
    keep = choose_keep(
        structure, full, importance, {"params": 0.4}, step_cap=1.0, **settings
    )
    assert 0.3 < shares(structure, keep)["params"] <= 0.4
    cut = apply_plan(model, structure, keep)
    np.testing.assert_array_equal(
        get_weights(cut), remap(weights, structure, full, keep)
    )
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        cut(example)
    assert counter.get_total_flops() == flops(count_cost(structure, keep))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["lenet5", "mlp", "small-resnet"])
def test_the_law_holds_for_random_masks(name, seed):
    model, example = network(name)
    model = model.double()
    generator = torch.Generator().manual_seed(seed)
    example = torch.randn(2, *example.shape[1:], generator=generator).double()
    randomise(model)
    structure = find_structure(model, example)
    keep = random_mask(structure, seed)
    masked = copy.deepcopy(model)
    mask_model(masked, structure, keep)
    with torch.no_grad():
        wanted = masked(example)
        found = apply_plan(model, structure, keep)(example)
    assert (found - wanted).abs().max() <= 1e-12 * wanted.abs().max()
