"""Training of the values of a codebook: equal weights stay equal, and 0 stays 0."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.codec.examples import SETTINGS as EXAMPLE
from helpers.tiny_federation import Tiny, make_examples, make_task
from torch import nn

from fedprune.client.rounds.steps.shared_values import SharedValues
from fedprune.client.rounds.train import LocalTraining, train
from fedprune.common.codec.fields import OPTIMIZERS

SETTINGS = replace(EXAMPLE, batch=8, penalty="none", strength=0.0, distill_weight=0.0)


def test_a_value_takes_the_mean_step_of_its_weights():
    layer = nn.Linear(3, 2)
    layer.weight.data = torch.tensor([[1.0, 1.0, 0.0], [-2.0, 1.0, -2.0]])
    with SharedValues(layer).attached(layer):
        inputs = torch.tensor([[1.0, 2.0, 4.0]])
        (layer(inputs) * torch.tensor([1.0, 3.0])).sum().backward()
        # Sums 1 + 2 + 6 of the three weights of 1, and 3 + 12 of the two of -2.
        assert layer.weight.grad.tolist() == [[3.0, 3.0, 0.0], [7.5, 3.0, 7.5]]
        assert layer.bias.grad.tolist() == [1.0, 3.0]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_keeps_the_codebook_and_moves_its_values(optimizer):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Tiny()
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.data = torch.round(weight.data * 8) / 8
    before = {
        name: weight.detach().clone() for name, weight in model.named_parameters()
    }
    training = LocalTraining(
        examples=make_examples(24),
        task=make_task(),
        settings=replace(SETTINGS, optimizer=optimizer, lr=0.01),
        penalty=None,
        teacher=None,
        augment=torch.Generator(),
        quantiser=SharedValues(model),
    )
    train(model, training, np.random.default_rng(0))
    for name, weight in model.named_parameters():
        if weight.dim() > 1:
            old = before[name]
            for value in torch.unique(old):
                found = torch.unique(weight.detach()[old == value])
                assert len(found) == 1, name
                assert (value == 0) == (found[0] == 0)
            assert not torch.equal(weight, old)
        assert weight._backward_hooks is None or not weight._backward_hooks


def test_frozen_modules_stay_as_they_are():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Tiny()
    name = next(n for n, w in model.named_parameters() if w.dim() > 1)
    frozen = name.rpartition(".")[0]
    before = {n: w.detach().clone() for n, w in model.named_parameters()}
    training = LocalTraining(
        examples=make_examples(24),
        task=make_task(),
        settings=replace(SETTINGS, lr=0.01, frozen=(frozen,)),
        penalty=None,
        teacher=None,
        augment=torch.Generator(),
        quantiser=SharedValues(model),
    )
    train(model, training, np.random.default_rng(0))
    moved = {n for n, w in model.named_parameters() if not torch.equal(w, before[n])}
    assert name not in moved
    assert moved
