"""Importance of channels: what it equals, and what it must not depend on."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.codec.examples import SETTINGS
from helpers.methods import names_on, names_that_need
from helpers.scores import Scaled
from helpers.tiny_federation import Tiny, make_examples, make_task, tiny_structure
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedprune.client.rounds.measure import balanced
from fedprune.client.rounds.model_cache import ModelCache
from fedprune.client.rounds.score import score
from fedprune.common.data.examples import ArrayExamples, MappedExamples
from fedprune.common.errors import ConfigError
from fedprune.common.methods.kinds import IMPORTANCE
from fedprune.common.methods.method import Side
from fedprune.common.models.flat import get_weights
from fedprune.common.pruning.remap import remap
from fedprune.common.structure.tracing.find import find_structure

EXAMPLES = make_examples(20)
CRITERIA = names_on(IMPORTANCE, Side.CLIENT)


def tiny():
    """Return the tiny network with norms that are neither 0 nor 1, nor cut off."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = Tiny()
        for norm in (model.bn, model.bn1, model.bn2):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, 0.1, 0.5)
    return model


def score_tiny(model, criterion="taylor", task=None, structure=None, keep=None):
    structure = tiny_structure() if structure is None else structure
    return score(
        model,
        EXAMPLES,
        make_task() if task is None else task,
        structure,
        structure.full() if keep is None else keep,
        replace(SETTINGS, importance=criterion, batch=8),
        draws=np.random.default_rng(0),
    )


def gate_gradients(model, inputs, targets):
    """Return dL/dg of a factor g on each channel of each norm's output."""
    measure_points = {
        name: torch.ones(8, requires_grad=True) for name in ("bn", "bn1", "bn2")
    }
    handles = [
        getattr(model, name).register_forward_hook(
            lambda _, __, out, gate=gate: out * gate[None, :, None, None]
        )
        for name, gate in measure_points.items()
    ]
    loss = nn.functional.cross_entropy(model(inputs), targets, reduction="sum")
    found = torch.autograd.grad(loss, list(measure_points.values()))
    for handle in handles:
        handle.remove()
    return dict(zip(measure_points, (one.numpy() for one in found), strict=True))


def test_taylor_is_the_gradient_of_a_gate_on_each_channel_summed_over_batches():
    model = tiny().eval()
    wanted = np.zeros(16)
    for start in (0, 8, 16):  # the task's batches of 8, the last of 4
        index = np.arange(start, min(start + 8, 20))
        found = gate_gradients(model, *EXAMPLES.batch(index))
        # Units 0-7 are shared by the stem's norm and the block's second.
        wanted[:8] += np.abs(found["bn"]) + np.abs(found["bn2"])
        wanted[8:] += np.abs(found["bn1"])
    np.testing.assert_allclose(score_tiny(model), wanted, rtol=1e-4)


def test_without_norms_taylor_is_gradient_times_weight_of_each_row():
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 3)
    ).eval()
    structure = find_structure(model, torch.zeros(2, 1, 4, 4))
    wanted = np.zeros(5)
    for start in (0, 8, 16):
        inputs, targets = EXAMPLES.batch(np.arange(start, min(start + 8, 20)))
        loss = nn.functional.cross_entropy(model(inputs), targets, reduction="sum")
        row, bias = torch.autograd.grad(loss, [model[1].weight, model[1].bias])
        with torch.no_grad():
            product = (row * model[1].weight).sum(1) + bias * model[1].bias
        wanted += np.abs(product.numpy())
    np.testing.assert_allclose(
        score_tiny(model, structure=structure), wanted, rtol=1e-4
    )


def test_scaling_the_loss_scales_the_score():
    model, task = tiny(), make_task()
    found = score_tiny(model, task=Scaled(task.config, task.factory))
    np.testing.assert_allclose(found, 7.0 * score_tiny(model), rtol=1e-4)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_dead_channel_scores_zero_and_a_living_one_does_not(criterion):
    model = tiny()
    with torch.no_grad():
        for norm, channel in ((model.bn, 2), (model.bn2, 2), (model.bn1, 5)):
            norm.weight[channel] = norm.bias[channel] = 0.0
    found = score_tiny(model, criterion)
    assert np.flatnonzero(found == 0.0).tolist() == [2, 13]


@pytest.mark.parametrize("criterion", CRITERIA)
def test_scores_of_a_cut_network_are_one_finite_number_for_each_kept_unit(criterion):
    structure, task = tiny_structure(), make_task()
    keep = structure.full()
    keep[[0, 7, 8, 9]] = False
    weights = remap(get_weights(tiny()), structure, structure.full(), keep)
    model = ModelCache(task).network(structure, keep, weights, None)
    found = score_tiny(model, criterion, keep=keep)
    assert found.dtype == np.float32
    assert found.shape == (12,)
    assert np.isfinite(found).all()
    assert (found > 0.0).all()


@pytest.mark.parametrize("criterion", CRITERIA)
def test_scoring_changes_neither_weights_nor_statistics(criterion):
    model = tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    score_tiny(model.train(), criterion)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(value.grad is None for value in model.parameters())


def test_activation_criteria_are_moments_of_the_norms_outputs():
    model = tiny().eval()
    seen = {}
    handles = [
        getattr(model, name).register_forward_hook(
            lambda _, __, out, name=name: seen.update({name: out.double()})
        )
        for name in ("bn", "bn1", "bn2")
    ]
    with torch.no_grad():
        model(EXAMPLES.batch(np.arange(20))[0])
    for handle in handles:
        handle.remove()
    means = {name: out.abs().mean((0, 2, 3)).numpy() for name, out in seen.items()}
    wanted = 20 * np.concatenate([means["bn"] + means["bn2"], means["bn1"]])
    found = score_tiny(model, "activation-mean")
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


class Tokens(nn.Module):
    """Linear layers over the last dimension of a sequence."""

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(4, 6)
        self.two = nn.Linear(6, 3)

    def forward(self, x):
        return self.two(torch.relu(self.one(x.flatten(1, 2)))).mean(1)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_channels_of_a_linear_layer_are_its_last_dimension(criterion):
    model = Tokens().eval()
    structure = find_structure(model, torch.zeros(2, 1, 4, 4))
    found = score_tiny(model, criterion, structure=structure)
    assert found.shape == (6,)
    assert (found > 0.0).all()


class Borrowed(nn.Module):
    """A layer whose weight is used without calling the layer."""

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(16, 6)
        self.two = nn.Linear(6, 3)

    def forward(self, x):
        x = nn.functional.linear(x.flatten(1), self.one.weight, self.one.bias)
        return self.two(torch.relu(x))


def test_a_layer_that_is_never_called_is_scored_by_gradients_alone():
    model = Borrowed().eval()
    structure = find_structure(model, torch.zeros(2, 1, 4, 4))
    for criterion in names_that_need(IMPORTANCE, "products", "loss_changes"):
        assert (score_tiny(model, criterion, structure=structure) > 0.0).any()
    for criterion in names_that_need(IMPORTANCE, "activations"):
        with pytest.raises(
            ConfigError, match=r"no module outputs those of 'one\.weight'"
        ):
            score_tiny(model, criterion, structure=structure)


def test_a_diverged_network_scores_nothing_that_is_not_finite():
    model = tiny()
    with torch.no_grad():
        model.fc.bias.fill_(float("nan"))
    assert np.isfinite(score_tiny(model)).all()


def examples_of(targets):
    inputs = np.zeros((len(targets), 1), dtype=np.float32)
    return ArrayExamples(inputs=inputs, targets=targets)


@given(
    targets=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    limit=st.integers(1, 70),
    seed=st.integers(0, 99),
)
def test_balanced_takes_every_class_as_evenly_as_they_allow(targets, limit, seed):
    array = np.asarray(targets, dtype=np.int64)
    chosen = balanced(examples_of(array), limit, np.random.default_rng(seed))
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert len(chosen) == min(limit, len(targets))
    have, taken = Counter(targets), Counter(array[chosen].tolist())
    most = max(taken.values())
    for label, count in have.items():
        # A class with fewer than another has given all it has, but for the last one.
        assert taken[label] in (count, most, most - 1)


def test_balanced_draws_at_random_within_a_class():
    examples = examples_of(np.repeat([0, 1], 50))
    draws = {
        tuple(balanced(examples, 10, np.random.default_rng(seed)).tolist())
        for seed in range(5)
    }
    assert len(draws) == 5


WITHOUT_CLASSES = {
    "values": np.linspace(0, 1, 30, dtype=np.float32).reshape(15, 2),
    "positions": np.arange(30).reshape(15, 2) % 3,
    "unknown": None,
}


@pytest.mark.parametrize("targets", WITHOUT_CLASSES.values(), ids=WITHOUT_CLASSES)
def test_balanced_draws_examples_without_classes(targets):
    data, rows = [(0.0, 0)] * 15, np.arange(15)
    examples = MappedExamples(data=data, rows=rows, collate=list, labels=targets)
    chosen = balanced(examples, 4, np.random.default_rng(0))
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert len(chosen) == 4
