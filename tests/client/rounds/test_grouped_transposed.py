"""A transposed convolution with groups: one position makes a channel in each group."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.codec.examples import SETTINGS
from helpers.tiny_federation import make_task
from torch import nn

from fedprune.client.rounds.products import ProductMeter
from fedprune.client.rounds.score import score
from fedprune.common.data.examples import ArrayExamples
from fedprune.common.pruning.importance import measure_points
from fedprune.common.pruning.trial import mask_units
from fedprune.common.sparsity.gates import build_gates
from fedprune.common.sparsity.penalty import PenaltySpec
from fedprune.common.structure.tracing.find import find_structure


class Grouped(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.wide = nn.ConvTranspose2d(8, 8, 3, groups=2)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.wide(torch.relu(self.first(x))))
        return self.out(x.mean((2, 3)))


@pytest.fixture
def case():
    """Return a network, its structure, and examples of three classes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, inputs = Grouped().eval(), torch.randn(24, 1, 4, 4)
        nn.init.normal_(model.wide.bias)
    examples = ArrayExamples(inputs=inputs.numpy(), targets=np.arange(24) % 3)
    return model, find_structure(model, inputs), examples


def scored(case, criterion):
    model, structure, examples = case
    return score(
        copy.deepcopy(model),
        examples,
        make_task(),
        structure,
        structure.full(),
        replace(SETTINGS, importance=criterion, batch=8),
        draws=np.random.default_rng(0),
    )


def mean_loss(model, examples):
    inputs, targets = examples.batch(np.arange(24))
    with torch.no_grad():
        return float(nn.functional.cross_entropy(model(inputs), targets))


def test_sensitivity_is_the_change_of_the_loss_without_the_unit(case):
    model, structure, examples = case
    wanted = []
    for unit in range(structure.units):
        keep = structure.full()
        keep[unit] = False
        masked = copy.deepcopy(model)
        mask_units(masked, structure, keep)
        wanted.append(abs(mean_loss(masked, examples) - mean_loss(model, examples)))
    np.testing.assert_allclose(scored(case, "sensitivity"), wanted, atol=1e-6)


def test_products_by_outputs_are_those_by_weights_and_sum_to_taylors(case):
    model, structure, examples = case
    points, batch = measure_points(structure), examples.batch(np.arange(24))
    meter = ProductMeter(copy.deepcopy(model), points, make_task())
    fast, slow, sums = (
        meter.by_factors(batch),
        meter.by_weights(batch),
        meter.sums(batch),
    )
    for name, value in slow.items():
        np.testing.assert_allclose(fast[name], value, atol=1e-6)
        np.testing.assert_allclose(sums[name], value.sum(axis=0), atol=1e-5)
    assert scored(case, "fisher").shape == (structure.units,)


def test_activations_are_those_of_both_groups(case):
    model, structure, examples = case
    inputs, _ = examples.batch(np.arange(24))
    with torch.no_grad():
        seen = model.wide(torch.relu(model.first(inputs))).abs().mean((0, 2, 3))
    units = structure.lookup["wide.weight", 1]
    found = scored(case, "activation-mean")[units]
    np.testing.assert_allclose(found, 24 * seen.reshape(2, 4).mean(0), rtol=1e-5)


def test_folded_gates_compute_the_same(case):
    model, structure, examples = case
    gates = build_gates(
        structure, structure.full(), PenaltySpec(name="l0", strength=0.5)
    )
    inputs, _ = examples.batch(np.arange(24))
    with torch.no_grad():
        gates.log_alpha.copy_(torch.linspace(-3.0, 3.0, len(gates.log_alpha)))
    gated = copy.deepcopy(model)
    with torch.no_grad(), gates.attached(gated):
        wanted = gated(inputs)
    torch.testing.assert_close(gated(inputs), wanted)
    assert (wanted - model(inputs)).abs().max() > 1e-3
