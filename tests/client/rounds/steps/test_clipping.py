"""Clipped gradients have the bits of torch's, on any device."""

import pytest
import torch
from torch import nn

from fedprune.client.rounds.steps.clipping import clip_gradients


def weights_with(scale, *, last=None):
    """Return five parameters, the third without a gradient; equal for equal scales."""
    torch.manual_seed(3)
    weights = [nn.Parameter(torch.randn(7, 5)) for _ in range(5)]
    for weight in weights:
        weight.grad = torch.randn(7, 5) * scale
    weights[2].grad = None
    if last is not None:
        weights[4].grad[0, 0] = last
    return weights


@pytest.mark.parametrize("scale", [1e-3, 0.3, 0.4217, 1.0, 50.0])
@pytest.mark.parametrize("last", [None, float("nan"), float("inf")])
def test_bits_are_those_of_torch(scale, last):
    ours, theirs = weights_with(scale, last=last), weights_with(scale, last=last)
    clip_gradients(ours, 5.0)
    nn.utils.clip_grad_norm_(theirs, 5.0)
    for one, other in zip(ours, theirs, strict=True):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None:
            torch.testing.assert_close(
                one.grad, other.grad, rtol=0, atol=0, equal_nan=True
            )


def test_a_gradient_at_the_bound_is_that_of_torch():
    for most in (1.0, 1.0 + 2e-6, 1.0 - 2e-6):
        ours, theirs = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
        for weight in (ours, theirs):
            weight.grad = torch.tensor([1.0, 0.0, 0.0])
        clip_gradients([ours], most)
        nn.utils.clip_grad_norm_([theirs], most)
        assert ours.grad.tolist() == theirs.grad.tolist()


def test_without_a_gradient_nothing_happens():
    clip_gradients([nn.Parameter(torch.ones(3))], 1.0)
