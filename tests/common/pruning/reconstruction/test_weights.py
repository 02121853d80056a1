"""Reconstruction: what the kept channels can say of the cut ones, the weights keep."""

import copy
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers.pruning_nets import NETS, LeNet, build, flat, random_mask
from torch import nn

from fedprune.client.rounds.steps.covariances import covariances
from fedprune.common.data.examples import ArrayExamples
from fedprune.common.messages import Covariances
from fedprune.common.models.flat import get_weights, set_weights
from fedprune.common.models.registry import build_model
from fedprune.common.pruning.plan import apply_plan
from fedprune.common.pruning.reconstruction import weights as module
from fedprune.common.pruning.reconstruction.inputs import layer_inputs, places, sizes
from fedprune.common.pruning.reconstruction.weights import reconstruct, square
from fedprune.common.pruning.remap import remap
from fedprune.common.structure.tracing.find import find_structure

RNG = np.random.default_rng(5)


def examples_like(example, count=60):
    shape = (count, *example.shape[1:])
    inputs = RNG.normal(size=shape).astype(np.float32)
    return ArrayExamples(inputs=inputs, targets=np.zeros(count, dtype=np.int64))


def lenet():
    """Return a LeNet, an input, and its structure."""
    torch.manual_seed(0)
    model = LeNet().eval()
    return model, find_structure(model, torch.zeros(2, 1, 14, 14))


def without(structure, **cut):
    """Return the mask without the channels that layers make of each layer."""
    keep = structure.full()
    for name, channel in cut.items():
        keep[structure.lookup[f"{name}.weight", 0][channel]] = False
    return keep


def outputs_after(model, structure, keep, examples, *, rebuilt):
    found = copy.deepcopy(model)
    if rebuilt:
        told = covariances(model, examples, structure, structure.full(), 16)
        full = structure.full()
        set_weights(found, reconstruct(get_weights(model), structure, full, keep, told))
    apply_plan(found, structure, keep)
    with torch.no_grad():
        return found(torch.from_numpy(examples.inputs))


def alike(model):
    """Make one channel of each layer a multiple of another, and one constant."""
    with torch.no_grad():
        for layer, cut, kept, factor in (
            (model.conv1, 5, 1, 2.0),
            (model.conv2, 7, 3, 1.0),
            (model.fc1, 4, 9, 2.0),
            (model.fc2, 2, 8, 1.0),
        ):
            layer.weight[cut] = factor * layer.weight[kept]
            layer.bias[cut] = factor * layer.bias[kept]
        model.conv1.weight[0], model.conv1.bias[0] = 0.0, 1.5


def test_channels_that_others_tell_are_cut_without_a_change(monkeypatch):
    monkeypatch.setattr(module, "RIDGE", 1e-9)
    model, structure = lenet()
    alike(model)
    examples = examples_like(torch.zeros(2, 1, 14, 14))
    keep = without(structure, conv1=[0, 5], conv2=7, fc1=4, fc2=2)
    with torch.no_grad():
        wanted = model(torch.from_numpy(examples.inputs))
    plain = outputs_after(model, structure, keep, examples, rebuilt=False)
    found = outputs_after(model, structure, keep, examples, rebuilt=True)
    scale = float(wanted.abs().max())
    assert float((found - wanted).abs().max()) <= 1e-3 * scale
    assert float((plain - wanted).abs().max()) > 1e-2 * scale


def test_the_rule_is_that_of_least_squares(monkeypatch):
    monkeypatch.setattr(module, "RIDGE", 1e-9)
    model, structure = lenet()
    examples = examples_like(torch.zeros(2, 1, 14, 14), 200)
    keep = without(structure, fc1=[3, 11])
    with torch.no_grad():
        x = torch.from_numpy(examples.inputs)
        hidden = model.fc2.register_forward_pre_hook(
            lambda _module, given: seen.append(given[0].numpy())
        )
        seen = []
        model(x)
        hidden.remove()
    read = seen[0].astype(np.float64)
    left = np.setdiff1d(np.arange(20), [3, 11])
    given = np.column_stack([np.ones(len(read)), read[:, left]])
    rule = np.linalg.lstsq(given, read[:, [3, 11]], rcond=None)[0]
    weight = model.fc2.weight.detach().numpy().astype(np.float64)
    lost = weight[:, [3, 11]]
    wanted = weight[:, left] + lost @ rule[1:].T
    bias = model.fc2.bias.detach().numpy() + lost @ rule[0]

    told = covariances(model, examples, structure, structure.full(), 16)
    changed = copy.deepcopy(model)
    set_weights(
        changed,
        reconstruct(get_weights(model), structure, structure.full(), keep, told),
    )
    found = changed.fc2.weight.detach().numpy()
    np.testing.assert_allclose(found[:, left], wanted, atol=2e-3)
    np.testing.assert_allclose(changed.fc2.bias.detach().numpy(), bias, atol=2e-3)
    # Nothing else moves.
    for layer in ("conv1", "conv2", "fc1", "fc3"):
        old, new = getattr(model, layer), getattr(changed, layer)
        assert torch.equal(old.weight, new.weight)
        assert torch.equal(old.bias, new.bias)


@pytest.mark.parametrize("name", NETS)
def test_a_cut_network_is_nearer_to_the_whole_one(name):
    model, example, structure = build(name)
    model = model.float().eval()
    keep = random_mask(structure, 2, density=0.8)
    told_of = sizes(structure, structure.full())
    if example.dtype not in {torch.float32, torch.float64} or not told_of[1]:
        pytest.skip("no input of channels")
    examples = examples_like(example)
    told = covariances(model, examples, structure, structure.full(), 16)
    assert (len(told.mean), len(told.correlation)) == told_of
    changed = reconstruct(get_weights(model), structure, structure.full(), keep, told)
    assert np.isfinite(changed).all()
    if not told.deviation.any():
        assert np.array_equal(changed, get_weights(model))


def test_a_network_that_is_cut_already_is_measured_and_cut_on():
    model, structure = lenet()
    examples = examples_like(torch.zeros(2, 1, 14, 14))
    old = without(structure, conv1=2, conv2=[0, 9], fc1=[1, 2], fc2=5)
    new = old & without(structure, conv1=4, conv2=3, fc1=7, fc2=0)
    cut = apply_plan(model, structure, old)
    told = covariances(cut, examples, structure, old, 16)
    assert all(told.deviation[p.channels].any() for p in places(structure, old))
    with torch.no_grad():
        x = torch.from_numpy(examples.inputs)
        wanted = cut(x)
    misses = []
    for changed in (
        get_weights(cut),
        reconstruct(get_weights(cut), structure, old, new, told),
    ):
        smaller = apply_plan(LeNet().eval(), structure, new)
        set_weights(smaller, remap(changed, structure, old, new))
        with torch.no_grad():
            misses.append(float((smaller(x) - wanted).square().mean()))
    assert misses[1] < 0.5 * misses[0]


class Tied(nn.Module):
    """Two layers with one weight, and a convolution with groups."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.one = nn.Linear(8, 8)
        self.two = nn.Linear(8, 8)
        self.two.weight = self.one.weight
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.grouped(torch.relu(self.first(x))).mean((2, 3)))
        return self.last(torch.relu(self.two(torch.relu(self.one(x)))))


def test_what_cannot_be_rebuilt_is_not_measured():
    model = Tied().eval()
    structure = find_structure(model, torch.zeros(2, 1, 4, 4))
    examples = examples_like(torch.zeros(2, 1, 4, 4))
    told = covariances(model, examples, structure, structure.full(), 8)
    for place in places(structure, structure.full()):
        measured = told.deviation[place.channels].any()
        assert measured == (place.read.module == "last"), place.read.module


class TiedBias(nn.Module):
    """Three layers, the last two with one bias."""

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(4, 8)
        self.two = nn.Linear(8, 8)
        self.three = nn.Linear(8, 8)
        self.three.bias = self.two.bias
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.two(torch.relu(self.one(x))))
        return self.last(torch.relu(self.three(x)))


def test_a_layer_whose_bias_another_one_has_is_not_measured():
    model, x = TiedBias().eval(), torch.zeros(2, 4)
    structure = find_structure(model, x)
    told = covariances(model, examples_like(x), structure, structure.full(), 8)
    for place in places(structure, structure.full()):
        measured = told.deviation[place.channels].any()
        assert measured == (place.read.module == "last"), place.read.module


def test_values_beyond_float16_are_not_told():
    model, structure = lenet()
    with torch.no_grad():
        model.fc1.bias += 1e6
    examples = examples_like(torch.zeros(2, 1, 14, 14))
    told = covariances(model, examples, structure, structure.full(), 16)
    measured = {
        place.read.module: bool(told.deviation[place.channels].any())
        for place in places(structure, structure.full())
    }
    # What saturates behind them is constant.
    assert measured == {"conv2": True, "fc1": True, "fc2": False, "fc3": False}
    assert np.isfinite(told.correlation).all()


def test_correlations_that_no_examples_have_are_mended():
    found = square(np.float32([1.0, 1.0, -1.0]), 3)
    values = np.linalg.eigvalsh(found)
    assert values.min() >= -1e-9
    np.testing.assert_allclose(found.diagonal(), 1.0)
    honest = square(np.float32([0.5, 0.25, 0.125]), 3)
    np.testing.assert_array_equal(
        honest, [[1, 0.5, 0.25], [0.5, 1, 0.125], [0.25, 0.125, 1]]
    )


def test_an_input_without_a_measurement_leaves_the_weights():
    model, structure = lenet()
    channels, pairs = sizes(structure, structure.full())
    none = Covariances(
        mean=np.zeros(channels, np.float32),
        deviation=np.zeros(channels, np.float32),
        correlation=np.zeros(pairs, np.float32),
    )
    weights = flat(model)
    keep = without(structure, conv1=1, fc1=3)
    full = structure.full()
    assert np.array_equal(reconstruct(weights, structure, full, keep, none), weights)


def test_inputs_stand_one_behind_the_other():
    _, structure = lenet()
    keep = without(structure, conv1=1, fc1=[3, 4])
    counts = [6 - 1, 16, 20 - 2, 12]
    assert [one.repeat for one in layer_inputs(structure)] == [1, 4, 1, 1]
    found = list(places(structure, keep))
    assert [p.channels.stop - p.channels.start for p in found] == counts
    pairs = [n * (n - 1) // 2 for n in counts]
    assert [p.pairs.stop - p.pairs.start for p in found] == pairs
    assert sizes(structure, keep) == (sum(counts), sum(pairs))


class Chain(nn.Module):
    """Two layers, the second with or without a bias."""

    def __init__(self, *, bias):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.second = nn.Linear(8, 4, bias=bias)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


def chain(*, bias, scale=1.0, shift=0.0):
    torch.manual_seed(3)
    model = Chain(bias=bias).eval()
    with torch.no_grad():
        model.first.weight.mul_(scale)
        model.first.bias.fill_(shift)
    return (
        model,
        find_structure(model, torch.zeros(2, 6)),
        examples_like(torch.zeros(2, 6), 400),
    )


def test_a_layer_without_bias_has_the_map_through_zero(monkeypatch):
    monkeypatch.setattr(module, "RIDGE", 1e-9)
    model, structure, examples = chain(bias=False, shift=1.0)
    keep = without(structure, first=[2, 5])
    with torch.no_grad():
        read = torch.relu(model.first(torch.from_numpy(examples.inputs))).numpy()
    read = read.astype(np.float64)
    left = np.setdiff1d(np.arange(8), [2, 5])
    rule = np.linalg.lstsq(read[:, left], read[:, [2, 5]], rcond=None)[0]
    weight = model.second.weight.detach().numpy().astype(np.float64)
    wanted = weight[:, left] + weight[:, [2, 5]] @ rule.T
    told = covariances(model, examples, structure, structure.full(), 16)
    changed = reconstruct(get_weights(model), structure, structure.full(), keep, told)
    set_weights(model, changed)
    found = model.second.weight.detach().numpy()
    np.testing.assert_allclose(found[:, left], wanted, atol=2e-3)


@pytest.mark.parametrize("scale", [1.0, 0.02, 0.01])
def test_small_deviations_beside_a_large_mean_are_measured(scale):
    model, structure, examples = chain(bias=True, scale=scale, shift=1.0)
    told = covariances(model, examples, structure, structure.full(), 16)
    with torch.no_grad():
        read = torch.relu(model.first(torch.from_numpy(examples.inputs)).double())
    read = read.numpy()
    alike = np.corrcoef(read.T)[np.tril_indices(8, -1)]
    np.testing.assert_allclose(told.correlation, alike, atol=1e-4)
    np.testing.assert_allclose(told.deviation, read.std(axis=0), rtol=1e-4)
    np.testing.assert_allclose(told.mean, read.mean(axis=0), rtol=1e-5)


def test_a_deviation_that_float16_means_would_drown_counts_as_none():
    model, structure, examples = chain(bias=True, scale=1e-4, shift=1.0)
    told = covariances(model, examples, structure, structure.full(), 16)
    assert not told.deviation.any()
    assert not told.correlation.any()


THREADS = """
import sys, hashlib
import numpy as np, torch
from fedprune.common.pruning.reconstruction.weights import _rule, square
torch.set_num_threads(int(sys.argv[1]))
rows = np.random.default_rng(0).normal(size=(150, 300)) @ np.ones((300, 300)).cumsum(0)
pairs = np.round(np.corrcoef(np.random.default_rng(1).normal(size=(200, 400)).T), 3)
full = square(pairs[np.tril_indices(400, -1)].astype(np.float32), 400)
rule = _rule(full, np.ones(400), np.arange(400) < 300)
print(hashlib.sha256(full.tobytes() + rule.tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_weights_do_not_depend_on_the_number_of_threads():
    found = set()
    for threads in ("1", "2"):
        environment = os.environ | {
            "OMP_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
        }
        command = [sys.executable, "-c", THREADS, threads]
        ended = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        )
        found.add(ended.stdout.strip())
    assert len(found) == 1


def test_a_dropped_block_is_not_told_of():
    image = torch.zeros(2, 3, 16, 16)
    shapes = {"num_outputs": 4, "input_shape": (3, 16, 16)}
    model = build_model("small-resnet", **shapes, seed=0).eval()
    structure = find_structure(model, image, blocks=True)
    keep, block = structure.full(), structure.blocks[0]
    keep[structure.inner_units[block]] = False
    cut = apply_plan(copy.deepcopy(model), structure, keep)
    read = [place.read.module for place in places(structure, keep)]
    assert read
    assert not [name for name in read if name.startswith(block)]
    told = covariances(cut, examples_like(image), structure, keep, 16)
    assert sizes(structure, keep) < sizes(structure, structure.full())
    told.deviation[:] = 1.0  # whatever clients tell
    new = keep & random_mask(structure, 3, density=0.7)
    changed = reconstruct(get_weights(cut), structure, keep, new, told)
    assert np.isfinite(changed).all()
