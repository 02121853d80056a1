"""Frozen modules of a network, and the precision of a step."""

import numpy as np
import pytest
import torch
from helpers.tiny_federation import Tiny
from torch import nn

from fedprune.common.errors import ConfigError
from fedprune.common.models.training import (
    at_least_float32,
    autocast,
    check_frozen,
    first_statistics,
    frozen,
    frozen_moments,
    holders,
)


class Tied(nn.Module):
    """An embedding whose table is the weight of the last layer too."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(5, 4)
        self.body = nn.Linear(4, 4)
        self.head = nn.Linear(4, 5, bias=False)
        self.head.weight = self.words.weight


def with_gradient(model):
    return {name for name, one in model.named_parameters() if one.requires_grad}


def test_what_lies_in_a_frozen_module_has_no_gradient_while_the_block_runs():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)), nn.ReLU())
    model[0].bias.requires_grad = False
    with frozen(model, ["1", "not.there"]):
        now = {
            name for name, weight in model.named_parameters() if weight.requires_grad
        }
        assert now == {"0.weight"}
    after = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert after == {"0.weight", "1.0.weight", "1.0.bias"}


def test_gradients_come_back_after_an_error():
    model = Tiny()
    with pytest.raises(RuntimeError), frozen(model, ["conv"]):
        raise RuntimeError
    assert all(weight.requires_grad for weight in model.parameters())


def test_a_name_that_only_begins_like_a_frozen_one_is_trained():
    model = Tiny()
    with frozen(model, ["conv"]):
        assert not model.conv.weight.requires_grad
        assert model.conv1.weight.requires_grad


def test_the_moments_of_frozen_norms_are_those_in_frozen_modules():
    assert frozen_moments(Tiny(), ["bn1"]).tolist() == [False] * 8 + [True] * 8 + (
        [False] * 8
    )
    assert frozen_moments(nn.Linear(2, 2), ["bn1"]).shape == (0,)


def test_the_first_moments_are_kept_where_a_norm_is_frozen():
    model = Tiny()
    model.bn1.running_mean.fill_(0.5)
    assert first_statistics(model, []) is None
    assert first_statistics(model, ["conv"]) is None
    found = first_statistics(model, ["bn"])
    np.testing.assert_array_equal(found.mean, np.repeat([0.0, 0.5, 0.0], 8))
    np.testing.assert_array_equal(found.variance, np.ones(24))


def test_modules_with_weights_are_those_that_can_be_frozen():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Sequential(nn.Linear(2, 2)))
    assert holders(model) == {"0", "2", "2.0"}


REFUSED = {
    "a misspelt name": (["con1"], r"found 'con1', .*; did you mean 'conv1'\?"),
    "another name": (
        ["xyz"],
        r"found 'xyz', want .*; the network has bn, bn1",
    ),
    "no name": ([""], "found '', want a module with weights"),
    "a weight": (["conv.weight"], r"found 'conv.weight', want .*did you mean 'conv'\?"),
    "everything": (
        ["conv", "bn", "conv1", "bn1", "conv2", "bn2", "fc"],
        "found all weights frozen",
    ),
}


@pytest.mark.parametrize(("names", "message"), REFUSED.values(), ids=REFUSED)
def test_names_that_cannot_be_frozen_are_refused_in_one_line(names, message):
    with pytest.raises(ConfigError, match=rf"^task\.freeze: {message}"):
        check_frozen(Tiny(), names)


def test_a_weight_that_is_frozen_under_another_name_is_refused():
    with pytest.raises(ConfigError, match=r"a weight of 'head' is also 'words.weight'"):
        check_frozen(Tied(), ["head"])
    check_frozen(Tied(), ["words"])
    check_frozen(Tied(), ["head", "words"])


def test_nothing_frozen_is_no_fault_of_a_network_that_trains_nothing():
    model = nn.Linear(2, 2)
    for weight in model.parameters():
        weight.requires_grad = False
    check_frozen(model, ())


def test_bfloat16_is_computed_inside_of_the_block_only():
    model, inputs = nn.Linear(3, 2), torch.ones(1, 3)
    with autocast(model, "bf16"):
        assert model(inputs).dtype == torch.bfloat16
    with autocast(model, "float32"):
        assert model(inputs).dtype == torch.float32
    assert model(inputs).dtype == torch.float32


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_values_are_made_finer_never_coarser(given, wanted):
    assert at_least_float32(torch.ones(2, dtype=given)).dtype == wanted
