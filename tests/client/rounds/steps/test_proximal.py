"""FedProx: the gradient of the proximal term, and what it does to local training."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.codec.examples import SETTINGS as EXAMPLE
from helpers.tiny_federation import Tiny, make_examples, make_task
from torch import nn

from fedprune.client.rounds.steps.proximal import proximal_term
from fedprune.client.rounds.train import LocalTraining, train
from fedprune.common.codec.fields import OPTIMIZERS
from fedprune.common.models.flat import get_weights

SETTINGS = replace(
    EXAMPLE, batch=8, lr=0.01, penalty="none", strength=0.0, distill_weight=0.0
)


def tiny():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Tiny()


def distance(**changes):
    """Return how far local training moves the weights."""
    model = tiny()
    start = get_weights(model)
    training = LocalTraining(
        examples=make_examples(24),
        task=make_task(),
        settings=replace(SETTINGS, **changes),
        penalty=None,
        teacher=None,
        augment=torch.Generator(),
    )
    train(model, training, np.random.default_rng(0))
    return np.linalg.norm(get_weights(model) - start)


def test_without_strength_nothing_is_computed():
    assert proximal_term(tiny(), 0.0) is None


def test_the_gradient_is_that_of_half_mu_times_the_squared_distance():
    model = nn.Linear(3, 2)
    start = [weight.detach().clone() for weight in model.parameters()]
    term = proximal_term(model, 0.7)
    inputs = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.25)
    model(inputs).square().mean().backward()
    term.add_gradient()
    found = [weight.grad.clone() for weight in model.parameters()]
    model.zero_grad()
    pairs = zip(model.parameters(), start, strict=True)
    far = sum((weight - one).square().sum() for weight, one in pairs)
    (model(inputs).square().mean() + 0.7 / 2 * far).backward()
    for one, weight in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(one, weight.grad)


def test_a_weight_that_is_not_trained_is_left_out():
    model = nn.Linear(3, 2)
    model.bias.requires_grad = False
    term = proximal_term(model, 1.0)
    model(torch.ones(1, 3)).sum().backward()
    term.add_gradient()
    assert model.bias.grad is None


def test_at_the_broadcast_the_term_adds_nothing():
    model = tiny()
    term = proximal_term(model, 3.0)
    model(torch.ones(2, 1, 4, 4)).sum().backward()
    before = [weight.grad.clone() for weight in model.parameters()]
    term.add_gradient()
    for one, weight in zip(before, model.parameters(), strict=True):
        assert torch.equal(one, weight.grad)


def test_the_greater_mu_the_nearer_the_client_stays():
    far = [distance(proximal=mu, epochs=6) for mu in (0, 1, 10)]
    assert far[0] > far[1] > far[2] > 0.0


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_term_reaches_every_optimiser(optimizer):
    far = {distance(proximal=mu, optimizer=optimizer) for mu in (0.0, 1.0)}
    assert len(far) == 2


def test_the_term_is_part_of_the_gradient_that_is_clipped():
    # One epoch of three steps: none of them can move further than lr * clip.
    moved = distance(proximal=1e4, clip=0.01, momentum=0.0, epochs=1)
    assert 0.0 < moved <= 3 * SETTINGS.lr * 0.01 * 1.001
