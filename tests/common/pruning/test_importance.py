"""Scores of units from weights, and where the other scores are measured."""

import numpy as np
import pytest
import torch
from helpers.pruning_nets import NETS, build, flat, random_mask
from torch import nn

from fedprune.common.errors import ConfigError
from fedprune.common.pruning.importance import (
    measure_points,
    unit_sum,
    weight_scores,
    zero_units,
)
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.pruning.remap import remap
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


@pytest.mark.parametrize("criterion", ["l1", "l2", "gamma", "random"])
@pytest.mark.parametrize("name", NETS)
def test_scores_of_a_cut_network_are_those_of_its_units(name, criterion):
    model, _, structure = build(name)
    keep = random_mask(structure, 1)
    small = flat(apply_plan(model, structure, keep))
    found = weight_scores(structure, keep, small, criterion, rng())
    assert found.dtype == np.float32
    assert found.shape == (structure.units,)
    assert (found[~keep] == 0.0).all()
    assert (found[keep] > 0.0).all()
    assert np.isfinite(found).all()


def test_random_scores_depend_on_the_generator_and_not_on_what_is_kept():
    model, _, structure = build("lenet")
    keep = random_mask(structure, 1)
    full = structure.full()
    weights = flat(model)
    dense = weight_scores(structure, full, weights, "random", rng(5))
    small = remap(weights, structure, full, keep)
    cut = weight_scores(structure, keep, small, "random", rng(5))
    np.testing.assert_array_equal(cut[keep], dense[keep])
    other = weight_scores(structure, full, weights, "random", rng(6))
    assert not np.array_equal(dense, other)


def test_an_unknown_criterion_is_refused():
    model, _, structure = build("lenet")
    with pytest.raises(ConfigError, match="'l3' is unknown"):
        weight_scores(structure, structure.full(), flat(model), "l3", rng())


def test_weights_of_another_network_are_refused():
    model, _, structure = build("lenet")
    with pytest.raises(ValueError, match="want"):
        weight_scores(structure, random_mask(structure, 0), flat(model), "l1", rng())


def test_scores_of_channels_are_added_onto_their_units():
    _, _, structure = build("groupnorm")
    full = structure.full()
    norms = [gate for gate in measure_points(structure) if gate.kind == "norm"]
    scores = {f"{gate.module}.weight": np.ones(len(gate.units)) for gate in norms}
    found = unit_sum(structure, full, scores)
    # Units of the residual stream have three norms, of the inner ones one.
    sizes = structure.channels
    stream = np.isin(structure.group_of, [0, 4])
    names = [structure.groups[number].name for number in (0, 4)]
    assert names == ["conv", "layer2.0.conv2"]
    np.testing.assert_array_equal(found, np.where(stream, 3 * sizes, sizes))


def test_scores_of_a_cut_network_land_on_the_original_units():
    _, _, structure = build("lenet")
    keep = random_mask(structure, 0)
    kept = np.flatnonzero(keep[6:22]) + 6
    found = unit_sum(structure, keep, {"conv2.weight": np.arange(1.0, 1.0 + len(kept))})
    np.testing.assert_array_equal(np.flatnonzero(found), kept)
    np.testing.assert_array_equal(found[kept], np.arange(1, 1 + len(kept)))


def test_a_sum_does_not_depend_on_the_order_in_which_scores_are_given():
    _, _, structure = build("resnet")
    full = structure.full()
    drawn = {
        f"{gate.module}.weight": rng(number).random(len(gate.units))
        for number, gate in enumerate(measure_points(structure))
    }
    backwards = dict(reversed(drawn.items()))
    np.testing.assert_array_equal(
        unit_sum(structure, full, drawn), unit_sum(structure, full, backwards)
    )


def test_scores_of_another_length_are_refused():
    _, _, structure = build("lenet")
    with pytest.raises(ValueError, match=r"'conv1\.weight' has 6 channels"):
        unit_sum(structure, structure.full(), {"conv1.weight": np.ones(5)})


def test_units_with_norms_are_measured_at_the_norms_others_at_the_producers():
    _, _, structure = build("depthwise")
    found = [(gate.module, gate.kind) for gate in measure_points(structure)]
    # The stem is added to a projection with a norm: its units have one.
    assert found == [("expand.1", "norm"), ("depth.1", "norm"), ("project.1", "norm")]
    _, _, lenet = build("lenet")
    found = [(gate.module, gate.kind) for gate in measure_points(lenet)]
    assert found == [(name, "producer") for name in ("conv1", "conv2", "fc1", "fc2")]
    _, _, signal = build("signal")
    found = [(gate.module, gate.kind) for gate in measure_points(signal)]
    assert found == [("bn", "norm"), ("conv2", "producer"), ("bn2", "norm")]


@pytest.mark.parametrize("name", NETS)
def test_every_unit_is_measured_and_every_gate_has_one_unit_a_channel(name):
    model, _, structure = build(name)
    seen = set()
    for gate in measure_points(structure):
        assert len(gate.units) == len(model.get_submodule(gate.module).weight)
        seen |= set(gate.units.tolist())
    assert seen - {-1} == set(range(structure.units))


def test_a_unit_is_zero_only_when_all_its_norm_weights_are():
    model, _, structure = build("depthwise")
    with torch.no_grad():
        model.expand[1].weight[:4] = 0.0
        model.depth[1].weight[2:6] = 0.0
        model.project[1].weight[7] = 0.0
    found = zero_units(structure, structure.full(), flat(model))
    np.testing.assert_array_equal(np.flatnonzero(found), [7, 8 + 2, 8 + 3])


def test_a_unit_without_norms_is_zero_when_its_rows_are():
    model, _, structure = build("lenet")
    with torch.no_grad():
        model.conv2.weight[[1, 5]] = 0.0
        model.fc1.weight[3, :-1] = 0.0
    keep = structure.full()
    keep[6 + 5] = False
    small = remap(flat(model), structure, structure.full(), keep)
    found = zero_units(structure, keep, small)
    np.testing.assert_array_equal(np.flatnonzero(found), [6 + 1])
