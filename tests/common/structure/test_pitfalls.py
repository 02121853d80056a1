"""Silent errors of a well-known pruning library: one test each.

Each was reproduced with torch-pruning 1.6.1; its own graph walk takes whatever it does
not know for element-wise.
"""

import copy
import gc
import weakref

import numpy as np
import pytest
import torch
from helpers.pruning_archs import Shuffle, encoder
from helpers.pruning_nets import group_norm, mask_model, random_mask
from torch import nn

from fedprune.common.models.flat import get_weights
from fedprune.common.pruning.choose import choose_keep
from fedprune.common.pruning.cost import count_cost, shares
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.pruning.remap import remap
from fedprune.common.structure.tracing.find import find_structure

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
CUT = {"floor": 1, "step_cap": 1.0, "width_multiple": 1}


def chain(*widths, norm=None):
    """Return convolutions one after another, pooled, with a linear classifier."""
    layers = []
    for inputs, outputs in zip((3, *widths[:-1]), widths, strict=True):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1)]
        layers += [norm(outputs)] if norm else []
        layers += [nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 3)]
    return nn.Sequential(*layers, *head)


def choose(structure, importance, density, **changed):
    scores = np.asarray(importance, np.float32)
    targets = {"channel_density": density}
    return choose_keep(structure, structure.full(), scores, targets, **(CUT | changed))


@pytest.mark.parametrize("make", [encoder, lambda: chain(24, norm=group_norm)])
def test_a_kept_positions_rise_however_few_are_kept(make):
    model = make()
    example = torch.randn(2, 5, 16) if hasattr(model, "layers") else IMAGE
    structure = find_structure(model, example)
    for kept in range(1, structure.units + 1):
        rng = np.random.default_rng(kept)
        keep = np.zeros(structure.units, bool)
        keep[rng.permutation(structure.units)[:kept]] = True
        for dim in structure.dims:
            index = structure.kept_index(dim.tensor, dim.dim, keep)
            assert (np.diff(index) > 0).all()


def test_b_a_layer_that_is_all_unimportant_keeps_its_floor_and_the_target_is_met():
    structure = find_structure(chain(64, 64), IMAGE)
    scores = np.r_[np.full(64, 1e-6), np.linspace(1, 2, 64)]
    keep = choose(structure, scores, 0.25, floor=4)
    assert shares(structure, keep)["channel_density"] == 0.25
    assert structure.widths(keep)["0"] == 4


def test_c_equal_scores_cut_exactly_and_the_lowest_units_first():
    structure = find_structure(chain(64), IMAGE)
    keep = choose(structure, np.ones(64), 0.75)
    np.testing.assert_array_equal(keep, np.arange(64) >= 16)


@pytest.mark.parametrize("multiple", [8, 16])
def test_d_legal_widths_never_cost_more_than_the_target(multiple):
    structure = find_structure(chain(8, 64), IMAGE)
    scores = np.random.default_rng(0).random(72)
    targets = {"flops": 0.6}
    keep = choose_keep(
        structure,
        structure.full(),
        scores.astype(np.float32),
        targets,
        **(CUT | {"width_multiple": multiple}),
    )
    widths = structure.widths(keep)
    assert widths["2"] % multiple == 0
    assert widths["0"] == 8  # narrower than any lower legal width
    dense = count_cost(structure, structure.full()).macs
    assert count_cost(structure, keep).macs <= 0.6 * dense


def test_e_frozen_parameters_are_seen():
    model = chain(8, 16)
    frozen = copy.deepcopy(model).requires_grad_(requires_grad=False)
    assert find_structure(frozen, IMAGE) == find_structure(model, IMAGE)


def test_f_a_frozen_parameter_stays_frozen():
    model = chain(8, 16)
    model[2].bias.requires_grad_(requires_grad=False)
    structure = find_structure(model, IMAGE)
    cut = apply_plan(model, structure, random_mask(structure, 0))
    flags = [item.requires_grad for item in cut.parameters()]
    assert flags == [True, True, True, False, True, True]


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(32, 16)
        self.body = nn.Linear(16, 16)
        self.head = nn.Linear(16, 32, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        return self.head(self.body(self.embed(ids)).relu())


def test_g_tied_weights_stay_tied():
    model = Tied().double()
    ids = torch.arange(6).reshape(2, 3)
    structure = find_structure(model, ids)
    assert structure.units == 16  # the body's outputs meet the tied columns again
    keep = random_mask(structure, 0)
    masked = copy.deepcopy(model)
    mask_model(masked, structure, keep)
    cut = apply_plan(model, structure, keep)
    assert cut.head.weight is cut.embed.weight
    assert cut.head.weight.shape == (32, keep.sum())
    torch.testing.assert_close(cut(ids), masked(ids), rtol=1e-12, atol=1e-14)


def test_h_running_statistics_of_an_instance_norm_are_cut():
    def norm(channels):
        return nn.InstanceNorm2d(channels, affine=True, track_running_stats=True)

    model = chain(8, norm=norm).eval()
    structure = find_structure(model, IMAGE)
    keep = np.arange(8) < 6
    cut = apply_plan(model, structure, keep)
    assert (
        len(cut[1].weight) == len(cut[1].running_mean) == len(cut[1].running_var) == 6
    )
    assert cut(IMAGE).shape == (2, 3)


def test_i_a_network_is_let_go():
    model = chain(8, 16)
    structure = find_structure(model, IMAGE)
    cut = apply_plan(model, structure, random_mask(structure, 0))
    watch = weakref.ref(cut[0])
    del model, cut
    gc.collect()
    assert watch() is None


def test_j_a_network_in_training_stays_in_training():
    model = chain(8, norm=nn.BatchNorm2d).train()
    find_structure(model, IMAGE)
    assert all(module.training for module in model.modules())
    assert model[1].num_batches_tracked == 0


def test_k_momentum_follows_the_cut():
    model = chain(8, 16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(IMAGE).square().sum().backward()
    optimizer.step()
    buffers = [optimizer.state[item]["momentum_buffer"] for item in model.parameters()]
    momentum = torch.cat([item.reshape(-1) for item in buffers]).numpy()
    structure = find_structure(model, IMAGE)
    keep = random_mask(structure, 0)
    twin = copy.deepcopy(model)
    for item, buffer in zip(twin.parameters(), buffers, strict=True):
        item.data.copy_(buffer)
    wanted = get_weights(apply_plan(twin, structure, keep))
    np.testing.assert_array_equal(
        remap(momentum, structure, structure.full(), keep), wanted
    )


def test_l_shuffled_channels_are_followed():
    model = Shuffle().double().eval()
    structure = find_structure(model, IMAGE.double())
    keep = random_mask(structure, 0)
    masked = copy.deepcopy(model)
    mask_model(masked, structure, keep)
    cut = apply_plan(model, structure, keep)
    torch.testing.assert_close(
        cut(IMAGE.double()), masked(IMAGE.double()), rtol=1e-12, atol=1e-14
    )
