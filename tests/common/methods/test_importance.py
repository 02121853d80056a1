"""Criteria of importance: the number that each gives, found by hand or another way."""

import numpy as np
import pytest
import torch
from helpers.pruning_archs import encoder
from helpers.pruning_nets import build, flat
from helpers.scores import EXAMPLES, measured, network
from torch import nn
from torch.nn import functional

from fedprune.common.errors import ConfigError
from fedprune.common.pruning.importance import weight_scores
from fedprune.common.structure.tracing.find import find_structure


def rng(seed=0):
    return np.random.default_rng(seed)


def tensors(model):
    found = model.named_parameters()
    return {name: item.detach().double().numpy() for name, item in found}


def test_l1_and_l2_are_means_over_the_entries_of_a_row():
    model, _, structure = build("lenet")
    weights = tensors(model)
    one = weight_scores(structure, structure.full(), flat(model), "l1", rng())
    two = weight_scores(structure, structure.full(), flat(model), "l2", rng())
    row = weights["conv2.weight"][3]
    assert one[6 + 3] == pytest.approx(np.abs(row).mean(), rel=1e-6)
    assert two[6 + 3] == pytest.approx(np.sqrt((row**2).mean()), rel=1e-6)


def test_all_producers_of_a_unit_count_by_their_entries():
    model, _, structure = build("resnet")
    weights = tensors(model)
    group = {group.name: group for group in structure.groups}["layer2.0.conv2"]
    rows = [weights[name][5].reshape(-1) for name in group.producers]
    wanted = np.sqrt((np.concatenate(rows) ** 2).mean())
    found = weight_scores(structure, structure.full(), flat(model), "l2", rng())
    assert found[group.units[5]] == pytest.approx(wanted, rel=1e-6)


def test_a_wide_layer_does_not_win_by_its_width():
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 300), nn.Linear(300, 5))
    model.append(nn.Linear(5, 2))
    for item in model.parameters():
        nn.init.constant_(item, 0.5)
    structure = find_structure(model, torch.zeros(1, 4))
    for criterion in ("l1", "l2"):
        found = weight_scores(
            structure, structure.full(), flat(model), criterion, rng()
        )
        np.testing.assert_allclose(found, 0.5, rtol=1e-6)


def test_gamma_sums_the_norms_of_a_unit_and_falls_back_to_l2():
    model, _, structure = build("depthwise")
    weights = tensors(model)
    full = structure.full()
    found = weight_scores(structure, full, flat(model), "gamma", rng())
    hidden = np.abs(weights["expand.1.weight"]) + np.abs(weights["depth.1.weight"])
    np.testing.assert_allclose(found[8:], hidden, rtol=1e-6)
    plain, _, lenet = build("lenet")
    by_gamma, by_l2 = (
        weight_scores(lenet, lenet.full(), flat(plain), criterion, rng())
        for criterion in ("gamma", "l2")
    )
    np.testing.assert_array_equal(by_gamma, by_l2)


@pytest.mark.parametrize("criterion", ["taylor", "fisher", "sensitivity"])
def test_a_channel_without_effect_scores_zero_and_the_strongest_most(criterion):
    model, structure = network()
    with torch.no_grad():
        model.fc.weight[:, 5] = 0.0
        model.fc.weight[:, 20] *= 30.0
    scores = measured(model, structure, criterion)
    assert scores[5] == pytest.approx(0.0, abs=1e-6)
    assert scores.argmax() == 20


def test_fisher_squares_each_examples_own_product():
    model, structure = network()
    wanted = np.zeros(32)
    norms = (model.left[1], model.right[1])
    for place in range(len(EXAMPLES)):
        inputs, targets = EXAMPLES.batch(np.array([place]))
        model.zero_grad()
        functional.cross_entropy(model(inputs), targets).backward()
        products = [
            (norm.weight.grad * norm.weight + norm.bias.grad * norm.bias).detach()
            for norm in norms
        ]
        wanted += torch.cat(products).numpy() ** 2
    found = measured(network()[0], structure, "fisher")
    np.testing.assert_allclose(found, wanted, rtol=1e-3)


def test_what_others_can_replace_goes_first_by_the_geometric_median():
    model, structure = network()
    with torch.no_grad():
        model.left[0].weight[3] = model.left[0].weight.mean(0)
        model.left[0].weight[7] *= 10.0
    scores = measured(model, structure, "fpgm")
    assert scores[:16].argmin() == 3
    assert scores[:16].argmax() == 7


def test_the_best_unit_of_each_group_has_the_same_lamp_score():
    model, structure = network()
    with torch.no_grad():
        model.right[0].weight *= 1e-3
    scores = measured(model, structure, "lamp")
    assert scores[:16].max() == scores[16:].max() == 1.0
    energy = (model.left[0].weight ** 2).sum((1, 2, 3)).detach().numpy()
    worst = energy.argmin()
    assert scores[worst] == pytest.approx(energy[worst] / energy.sum(), rel=1e-4)


def test_a_score_per_group_does_not_mind_the_size_of_the_weights():
    model, structure = network()
    plain = measured(model, structure, "l2-group")
    with torch.no_grad():
        model.right[0].weight *= 1e-3
    np.testing.assert_allclose(measured(model, structure, "l2-group"), plain, rtol=1e-4)
    assert plain[:16].mean() == pytest.approx(1.0, rel=1e-5)


def test_heads_are_scored_by_gradients_and_refused_by_activations():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(1), nn.Unflatten(1, (1, 16)), encoder(), Last())
    structure = find_structure(model, torch.zeros(2, 1, 4, 4))
    assert structure.units == 56
    for criterion in ("taylor", "sensitivity"):
        scores = measured(model, structure, criterion)
        assert (scores > 0.0).sum() > 50
    with pytest.raises(ConfigError, match=r"in_proj_weight.*want a criterion without"):
        measured(model, structure, "apoz")


class Last(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 3)

    def forward(self, x):
        return self.fc(x.mean(1))
