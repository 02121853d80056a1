"""Scores of units from weights, and where the other scores are measured."""

import numpy as np
import pytest
import torch
from helpers.methods import names_on
from helpers.pruning_nets import NETS, build, flat, random_mask

from fedprune.common.errors import ConfigError
from fedprune.common.methods.kinds import IMPORTANCE
from fedprune.common.methods.method import Side
from fedprune.common.pruning.importance import (
    measure_points,
    unit_sum,
    weight_scores,
    zero_units,
)
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.pruning.remap import remap


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("criterion", names_on(IMPORTANCE, Side.SERVER))
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


WRONG = {
    "too few": ("weights.mean(abs)[1:]", r"returned float64\[.*want float64\[6\]"),
    "words": ("['much'] * weights.channels", "want float64"),
    "no numbers": (
        "weights.mean(abs) / 0.0",
        "returned inf for 6 of 6 channels; want finite",
    ),
}


@pytest.mark.parametrize(("text", "words"), WRONG.values(), ids=WRONG)
def test_what_an_own_criterion_must_not_return_is_refused(text, words, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "import numpy as np\n\n\ndef f(weights):\n"
        f"    with np.errstate(all='ignore'):\n        return {text}\n"
    )
    model, _, structure = build("lenet")
    with pytest.raises(ConfigError, match=words):
        weight_scores(structure, structure.full(), flat(model), f"{path}:f", rng())


@pytest.mark.parametrize(
    ("criterion", "words"),
    [
        ("tailor", r"importance is 'tailor'; want .*did you mean 'taylor'"),
        ("taylor", "'taylor' is measured by clients"),
    ],
)
def test_a_criterion_that_the_server_cannot_work_out_is_refused(criterion, words):
    model, _, structure = build("lenet")
    with pytest.raises(ConfigError, match=words):
        weight_scores(structure, structure.full(), flat(model), criterion, rng())


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
    # The stem is added to a projection with a norm, which does not scale the stem.
    assert found == [
        ("stem", "producer"),
        ("expand.1", "norm"),
        ("depth.1", "norm"),
        ("project.0", "producer"),
    ]
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
        for norm, part in ((model.expand[1], slice(4)), (model.depth[1], slice(2, 6))):
            norm.weight[part] = norm.bias[part] = 0.0
        model.project[1].weight[7] = 0.0  # the stem goes past it
    found = zero_units(structure, structure.full(), flat(model))
    np.testing.assert_array_equal(np.flatnonzero(found), [8 + 2, 8 + 3])


def test_a_unit_that_is_a_constant_other_than_zero_is_not_zero():
    for name, layer, unit in (("resnet", "layer1.0.bn1", 8), ("lenet", "fc1", 22)):
        model, _, structure = build(name)
        one = model.get_submodule(layer)
        with torch.no_grad():
            one.weight[:2] = one.bias[:2] = 0.0
            one.bias[1] = 0.5
        found = zero_units(structure, structure.full(), flat(model))
        assert np.flatnonzero(found).tolist() == [unit]


def test_a_unit_without_norms_is_zero_when_its_rows_are():
    model, _, structure = build("lenet")
    with torch.no_grad():
        model.conv2.weight[[1, 5]] = model.conv2.bias[[1, 5]] = 0.0
        model.fc1.weight[3, :-1] = model.fc1.bias[3] = 0.0
    keep = structure.full()
    keep[6 + 5] = False
    small = remap(flat(model), structure, structure.full(), keep)
    found = zero_units(structure, keep, small)
    np.testing.assert_array_equal(np.flatnonzero(found), [6 + 1])
