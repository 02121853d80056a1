"""Layers that a network gives keywords, ``fc(input=x)``: what hooks see of them."""

import numpy as np
import pytest
import torch
from torch import nn

from fedprune.client.rounds.measure import measure_statistics
from fedprune.client.rounds.steps.covariances import covariances
from fedprune.client.rounds.steps.int8 import Int8
from fedprune.common.data.examples import ArrayExamples
from fedprune.common.structure.tracing.find import find_structure
from fedprune.simulations.export.latency_table import _layers


class ByPlace(nn.Module):
    """A convolution with batch norm, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        return self.fc(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


class WithKeywords(ByPlace):
    """The same network, each layer given a keyword."""

    def forward(self, x):
        found = torch.relu(self.norm(input=self.conv(input=x)))
        return self.fc(input=found.mean((2, 3)))


@pytest.fixture
def pair():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = ByPlace().eval(), WithKeywords().eval()
        second.load_state_dict(first.state_dict())
        yield first, second, torch.randn(20, 1, 5, 5)


def examples_of(inputs):
    classes = np.zeros(len(inputs), dtype=np.int64)
    return ArrayExamples(inputs=inputs.numpy(), targets=classes)


def test_int8_rounds_their_inputs(pair):
    *models, inputs = pair
    found = []
    for model in models:
        quantiser = Int8(model)
        with torch.no_grad(), quantiser.attached(model):
            found.append(quantiser.run(model, inputs))
    assert torch.equal(*found)
    assert not torch.equal(found[0], models[0](inputs))


def test_their_moments_are_measured(pair):
    *models, inputs = pair
    one, other = (measure_statistics(model, examples_of(inputs)) for model in models)
    np.testing.assert_array_equal(one.mean, other.mean)
    np.testing.assert_array_equal(one.variance, other.variance)


def test_covariances_are_told_of_what_they_read(pair):
    *models, inputs = pair
    found = []
    for model in models:
        structure = find_structure(model, inputs)
        keep, examples = structure.full(), examples_of(inputs)
        found.append(covariances(model, examples, structure, keep, 8))
    one, other = found
    assert one.deviation.any()
    np.testing.assert_array_equal(one.deviation, other.deviation)
    np.testing.assert_array_equal(one.correlation, other.correlation)


def test_a_latency_table_has_them(pair):
    *models, inputs = pair
    one, other = (_layers(model, inputs[:1]) for model in models)
    assert {name: seen.shape for name, seen in one.items()} == {
        name: seen.shape for name, seen in other.items()
    }
