"""Proximal steps: exact zeros, in every tensor of a dead unit, and nowhere else."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from helpers.methods import names_that_need
from helpers.pruning_nets import build, flat, random_mask
from torch import nn

from fedprune.common.errors import ConfigError
from fedprune.common.methods.kinds import PENALTY
from fedprune.common.pruning.importance import zero_units
from fedprune.common.sparsity.gates import build_gates
from fedprune.common.sparsity.penalty import (
    DualSteps,
    PenaltySpec,
    build_penalty,
    shrink_weights,
    views,
)
from fedprune.common.structure.tracing.find import find_structure

PROXIMAL = names_that_need(PENALTY, "threshold")
ON_CHANNELS = names_that_need(PENALTY, "channels", "scales")


class OneNorm(nn.Module):
    """Four units behind one batch norm; its weights are what a test says they are."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(torch.relu(self.bn(self.conv(x))).mean((2, 3)))


class Plain(nn.Module):
    """Two linear layers without norms: four units."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(3, 4)
        self.fc2 = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x)))


@cache
def structure_of(net):
    shape = (2, 1, 5, 5) if net is OneNorm else (2, 3)
    return find_structure(net().eval(), torch.zeros(shape))


@cache
def example(name):
    model, _, structure = build(name)
    return flat(model), structure


def weights_of(spec, **named):
    """Return flat weights of ones, but for the tensors that are named."""
    flat_weights = np.ones(spec.size, dtype=np.float32)
    for name, value in named.items():
        tensor = views(spec, flat_weights)[name.replace("__", ".")]
        tensor.copy_(torch.tensor(value))
    return flat_weights


def shrunken(structure, keep, weights, aim):
    penalty = build_penalty(structure, keep, weights, aim)
    assert penalty is not None
    spec = structure.spec(keep)
    return penalty, views(spec, shrink_weights(penalty, spec, weights))


def one_norm(gamma, beta, name, *, strength=0.5, targets=None):
    structure = structure_of(OneNorm)
    keep = structure.full()
    weights = weights_of(structure.spec(keep), bn__weight=gamma, bn__bias=beta)
    aim = PenaltySpec(name=name, strength=strength, targets=targets)
    _, after = shrunken(structure, keep, weights, aim)
    return after["bn.weight"].tolist(), after["bn.bias"].tolist()


def test_gamma_loses_a_share_of_the_median_and_beta_goes_with_it():
    # Median of (4, 1, 2, 8) is 2 (the lower middle one), so the threshold is 1.
    gamma, beta = one_norm([4.0, -1.0, 2.0, 8.0], [0.0, 3.0, 2.0, -8.0], "bn-l1")
    assert np.abs(gamma).tolist() == [3.0, 0.0, 1.0, 7.0]
    assert beta == [0.0, 0.0, 1.0, -7.0]


def test_group_measures_gamma_and_beta_together():
    # Root mean squares: sqrt((3**2 + 4**2) / 2) and three ones, whose median is 1.
    gamma, beta = one_norm([3.0, 1.0, 1.0, 1.0], [4.0, 1.0, 1.0, 1.0], "group")
    factor = 1.0 - 0.5 / np.sqrt(12.5)
    assert gamma == pytest.approx([3 * factor, 0.5, 0.5, 0.5])
    assert beta == pytest.approx([4 * factor, 0.5, 0.5, 0.5])


def test_both_penalties_together_share_the_threshold():
    gamma, _ = one_norm([1.0] * 4, [0.0] * 4, "bn-l1+group", strength=0.2)
    # A tenth of 1 by gamma, then a tenth of the first root mean square, 1 / sqrt(2).
    middle = 0.9 * (1.0 - 0.1 * np.sqrt(0.5) / (0.9 * np.sqrt(0.5)))
    assert gamma == pytest.approx([middle] * 4)


def test_only_targets_shrink_by_the_median_of_those_that_stay():
    targets = np.array([False, True, False, False])
    gamma, beta = one_norm(
        [4.0, 3.0, 2.0, 8.0], [1.0, 6.0, 1.0, 1.0], "bn-l1", targets=targets
    )
    # Median of (4, 2, 8) is 4, so the threshold is 2.
    assert gamma == pytest.approx([4.0, 1.0, 2.0, 8.0])
    assert beta == pytest.approx([1.0, 2.0, 1.0, 1.0])


@pytest.mark.parametrize("name", [*ON_CHANNELS, "bn-l1+group"])
@pytest.mark.parametrize("net", ["resnet", "depthwise", "signal", "groupnorm"])
def test_a_unit_dies_in_all_tensors_of_its_norms_at_once(name, net):
    _, structure = example(net)
    keep = random_mask(structure, 1, 0.8)
    spec = structure.spec(keep)
    rng = np.random.default_rng(0)
    cut = rng.uniform(0.1, 2.0, spec.size).astype(np.float32)
    _, after = shrunken(structure, keep, cut, PenaltySpec(name=name, strength=1.0))
    dead = zero_units(
        structure, keep, torch.cat([t.reshape(-1) for t in after.values()]).numpy()
    )
    assert 0 < dead.sum() < keep.sum()
    norms = {norm for group in structure.groups for norm in group.norms}
    for norm in norms:
        for tensor in (norm, norm.removesuffix("weight") + "bias"):
            units = structure.lookup[tensor, 0][structure.kept_index(tensor, 0, keep)]
            carried = units >= 0
            zero = after[tensor].numpy() == 0.0
            assert zero[carried].tolist() == dead[units[carried]].tolist(), tensor
            assert not zero[~carried].any()


def test_units_shared_by_several_norms_die_in_all_of_them():
    weights, structure = example("resnet")
    shared = max(structure.groups, key=lambda group: len(group.norms))
    assert len(shared.norms) > 1
    spec = structure.spec(structure.full())
    weights = weights.copy()
    tensors = views(spec, weights)
    # Small in one norm only is not small; small in all is dead in all.
    for number, norm in enumerate(shared.norms):
        tensors[norm][0] = 1e-3
        tensors[norm][1] = 1e-3 if number == 0 else 1.0
    _, after = shrunken(
        structure, structure.full(), weights, PenaltySpec(name="bn-l1", strength=0.3)
    )
    for norm in shared.norms:
        assert after[norm][0] == 0.0
        assert after[norm][1] != 0.0


@pytest.mark.parametrize("name", [*PROXIMAL, "bn-l1+group"])
@pytest.mark.parametrize("net", ["resnet", "lenet", "groupnorm"])
def test_tensors_that_are_not_named_do_not_change_a_bit(name, net):
    weights, structure = example(net)
    spec = structure.spec(structure.full())
    penalty = build_penalty(
        structure, structure.full(), weights, PenaltySpec(name=name, strength=0.5)
    )
    before = weights.copy()
    after = views(spec, shrink_weights(penalty, spec, weights))
    assert weights.tobytes() == before.tobytes()
    changed = {
        tensor
        for tensor, value in views(spec, before).items()
        if not torch.equal(value, after[tensor])
    }
    # "bn-l1" finds nothing to do in a network without norms.
    assert changed == set(penalty.tensors)
    assert bool(changed) == (name != "bn-l1" or net != "lenet")


@pytest.mark.parametrize("name", [*ON_CHANNELS, "bn-l1+group"])
def test_weights_in_front_of_a_norm_are_never_changed(name):
    weights, structure = example("resnet")
    aim = PenaltySpec(name=name, strength=0.5)
    penalty = build_penalty(structure, structure.full(), weights, aim)
    assert penalty.tensors
    shapes = structure.shapes
    assert all(len(shapes[tensor]) == 1 for tensor in penalty.tensors)


def test_without_norms_group_shrinks_every_tensor_of_the_unit():
    structure = structure_of(Plain)
    keep = structure.full()
    weights = weights_of(
        structure.spec(keep),
        fc1__weight=[[0.1] * 3, [1.0] * 3, [1.0] * 3, [1.0] * 3],
        fc1__bias=[0.1, 1.0, 1.0, 1.0],
        fc2__weight=[[0.1, 1.0, 1.0, 1.0]] * 2,
    )
    _, after = shrunken(
        structure, keep, weights, PenaltySpec(name="group", strength=0.5)
    )
    assert after["fc1.weight"][0].tolist() == [0.0] * 3
    assert after["fc1.bias"].tolist() == [0.0, 0.5, 0.5, 0.5]
    assert after["fc2.weight"].tolist() == [[0.0, 0.5, 0.5, 0.5]] * 2
    assert after["fc2.bias"].tolist() == [1.0, 1.0]


def test_units_without_a_norm_shrink_beside_units_with_one():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
        nn.Linear(36, 6), nn.ReLU(), nn.Linear(6, 2),
    )  # fmt: skip
    structure = find_structure(net.eval(), torch.zeros(2, 1, 5, 5))
    keep, weights = structure.full(), flat(net)
    before = views(structure.spec(keep), weights.copy())
    aim = PenaltySpec(name="bn-l1+group", strength=0.5)
    _, after = shrunken(structure, keep, weights, aim)
    for name in ("1.weight", "4.bias", "6.weight"):
        assert (after[name].abs() < before[name].abs()).all()
    # Of the matrix behind the norm the rows shrink, not the columns.
    rows = after["4.weight"] / before["4.weight"]
    assert (rows < 1.0).all()
    torch.testing.assert_close(rows, rows[:, :1].expand_as(rows))
    assert torch.equal(after["0.weight"], before["0.weight"])


def test_l1_takes_a_share_of_the_median_from_every_weight_and_from_no_bias():
    structure = structure_of(Plain)
    keep = structure.full()
    weights = weights_of(
        structure.spec(keep),
        fc2__weight=[[-4.0, 1.0, 2.0, -2.0], [0.5, 2.0, 2.0, 2.0]],
        fc1__bias=[0.1, 0.1, 0.1, 0.1],
    )
    _, after = shrunken(structure, keep, weights, PenaltySpec(name="l1", strength=0.5))
    wanted = [[-3.0, 0.0, 1.0, -1.0], [0.0, 1.0, 1.0, 1.0]]
    assert np.abs(after["fc2.weight"].numpy() - wanted).max() == 0.0
    assert after["fc1.weight"].tolist() == [[0.5] * 3] * 4
    assert after["fc1.bias"].tolist() == pytest.approx([0.1] * 4)


@pytest.mark.parametrize(("name", "strength"), [("none", 1.0), ("group", 0.0)])
def test_a_penalty_that_changes_nothing_is_none(name, strength):
    weights, structure = example("resnet")
    aim = PenaltySpec(name=name, strength=strength)
    assert build_penalty(structure, structure.full(), weights, aim) is None


def test_what_is_no_target_stays_whatever_a_function_makes_of_no_threshold(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "def halve(channels, threshold):\n    return channels * 0.0 + 0.5\n\n\n"
        "def naive(channels, threshold):\n    return 1 - threshold / channels\n"
    )
    targets = np.array([False, True, False, False])
    ones = [1.0] * 4
    for name in ("halve", "naive"):
        gamma, beta = one_norm(ones, ones, f"{path}:{name}", targets=targets)
        assert gamma == beta == [1.0, 0.5, 1.0, 1.0]


def test_a_gate_of_ones_own_is_checked_too(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def gate(uniform):\n    return uniform + 1.0\n")
    structure = structure_of(OneNorm)
    aim = PenaltySpec(name=f"{path}:gate", strength=0.5)
    gates = build_gates(structure, structure.full(), aim)
    with pytest.raises(
        ConfigError, match=r"gate' returned 1.*want a torch tensor of factors 0\.\.1"
    ):
        gates.draw()


def test_an_unknown_penalty_is_refused_by_name():
    weights, structure = example("resnet")
    with pytest.raises(ConfigError, match=r"client\.penalty is 'lasso'; want one of"):
        build_penalty(
            structure,
            structure.full(),
            weights,
            PenaltySpec(name="lasso", strength=1.0),
        )


def parameters_of(structure, weights):
    tensors = views(structure.spec(structure.full()), weights.copy())
    return {name: nn.Parameter(value.clone()) for name, value in tensors.items()}


@pytest.mark.parametrize("steps", [2, 3, 10])
def test_the_shrink_of_a_round_does_not_depend_on_the_number_of_steps(steps):
    weights, structure = example("resnet")
    aim = PenaltySpec(name="bn-l1+group", strength=0.8)
    penalty = build_penalty(structure, structure.full(), weights, aim)

    def shrink_in(count):
        parameters = parameters_of(structure, weights)
        dual = DualSteps(penalty, parameters, count)
        for _ in range(count):
            dual.after_step()
        return {name: value.detach() for name, value in parameters.items()}

    once, often = shrink_in(1), shrink_in(steps)
    spec = structure.spec(structure.full())
    server = views(spec, shrink_weights(penalty, spec, weights))
    for name, value in once.items():
        assert torch.equal(value, often[name]), name
        assert torch.equal(value, server[name]), name


def test_every_step_adds_an_equal_part_of_the_shrink():
    weights, structure = example("resnet")
    aim = PenaltySpec(name="bn-l1", strength=0.8)
    penalty = build_penalty(structure, structure.full(), weights, aim)
    parameters = parameters_of(structure, weights)
    dual = DualSteps(penalty, parameters, 4)
    for share in (0.25, 0.5, 0.75, 1.0):
        dual.after_step()
        wanted = parameters_of(structure, weights)
        penalty.shrink(wanted, share)
        for name in penalty.tensors:
            assert torch.equal(parameters[name], wanted[name]), (name, share)


def test_the_answer_holds_the_weights_before_the_shrink():
    weights, structure = example("resnet")
    aim = PenaltySpec(name="bn-l1+group", strength=5.0)
    penalty = build_penalty(structure, structure.full(), weights, aim)
    parameters = parameters_of(structure, weights)
    dual = DualSteps(penalty, parameters, 2)
    dual.after_step()
    dual.after_step()
    assert any(not torch.any(parameters[name]) for name in penalty.tensors)
    dual.restore()
    for name, value in parameters_of(structure, weights).items():
        assert torch.equal(parameters[name], value), name


def descend(structure, weights, penalty, steps=5):
    """Take plain gradient steps on a quadratic around 0.3."""
    parameters = parameters_of(structure, weights)
    dual = DualSteps(penalty, parameters, steps) if penalty is not None else None
    for _ in range(steps):
        with torch.no_grad():
            for value in parameters.values():
                value.sub_(0.1 * (value - 0.3))
        if dual is not None:
            dual.after_step()
    if dual is not None:
        dual.restore()
    return parameters


def test_a_threshold_of_zero_is_plain_training():
    weights, structure = example("resnet")
    none = np.zeros(structure.units, dtype=bool)
    aim = PenaltySpec(name="bn-l1+group", strength=0.5, targets=none)
    penalty = build_penalty(structure, structure.full(), weights, aim)
    plain = descend(structure, weights, None)
    for name, value in descend(structure, weights, penalty).items():
        torch.testing.assert_close(value, plain[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("targets", [0, 2])
def test_which_weights_are_accumulated_does_not_depend_on_the_targets(targets):
    weights, structure = example("resnet")
    chosen = np.zeros(structure.units, dtype=bool)
    chosen[structure.groups[0].units[:targets]] = True
    everything = PenaltySpec(name="bn-l1+group", strength=0.5)
    aim = replace(everything, targets=chosen)
    penalty, whole = (
        build_penalty(structure, structure.full(), weights, one)
        for one in (aim, everything)
    )
    assert penalty.tensors == whole.tensors
    found, wanted = (parameters_of(structure, weights * 0.01) for _ in range(2))
    dual, sums = DualSteps(penalty, found, 20), parameters_of(structure, weights * 0.01)
    steps = np.random.default_rng(0)
    with torch.no_grad():
        for done in range(1, 21):
            used = {name: value.clone() for name, value in wanted.items()}
            for name, value in wanted.items():
                step = torch.from_numpy(steps.normal(size=value.shape)).float()
                # As an optimiser: the product is not rounded.
                value.add_(step, alpha=-0.01)
                found[name].add_(step, alpha=-0.01)
            dual.after_step()
            for name in whole.tensors:
                sums[name].copy_(sums[name] + (wanted[name] - used[name]))
                wanted[name].copy_(sums[name])
            penalty.shrink(wanted, done / 20)
            for name, value in wanted.items():
                assert torch.equal(found[name], value), (name, done)
    dual.restore()
    for name in whole.tensors:
        assert torch.equal(found[name], sums[name]), name


def test_slices_without_a_target_are_not_multiplied():
    weights, structure = example("resnet")
    chosen = np.zeros(structure.units, dtype=bool)
    chosen[structure.groups[0].units[0]] = True
    aim = PenaltySpec(name="bn-l1+group", strength=0.5, targets=chosen)
    penalty = build_penalty(structure, structure.full(), weights, aim)
    for one in penalty.units:
        assert 0 < len(one.aimed) < len(one.changed)
    tensors = parameters_of(structure, weights)
    before = {name: value._version for name, value in tensors.items()}
    penalty.shrink(tensors, 1.0)
    touched = {
        name for name, value in tensors.items() if value._version != before[name]
    }
    assert touched == {part.tensor for one in penalty.units for part in one.aimed}


def test_gradients_are_taken_at_the_shrunken_weights():
    weights, structure = example("resnet")
    aim = PenaltySpec(name="bn-l1", strength=5.0)
    penalty = build_penalty(structure, structure.full(), weights, aim)
    plain = descend(structure, weights, None)
    dual = descend(structure, weights, penalty)
    gamma = structure.groups[0].norms[0]
    # At zero the gradient of the quadratic points up: the dual weights rise.
    assert torch.all(dual[gamma] > plain[gamma])
