"""One table of laws for every criterion, measured by clients or by the server."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.codec.examples import SETTINGS
from helpers.pruning_archs import encoder
from helpers.tiny_federation import make_examples, make_task
from torch import nn
from torch.nn import functional

from fedprune.client.rounds.score import CRITERIA as CLIENT
from fedprune.client.rounds.score import score
from fedprune.common.config.sections import Prune
from fedprune.common.errors import ConfigError
from fedprune.common.models.flat import get_weights
from fedprune.common.pruning.choose import choose_keep
from fedprune.common.pruning.importance import CRITERIA as SERVER
from fedprune.common.pruning.importance import weight_scores
from fedprune.common.structure.tracing.find import find_structure
from fedprune.common.task import Task
from fedprune.server.rounds.cut import CLIENT_CRITERIA, normalise

ALL = (*CLIENT, *SERVER)
EXAMPLES = make_examples(20)
LAW = pytest.mark.parametrize("criterion", ALL)


class Branches(nn.Module):
    """Two branches that cost the same, side by side: 16 + 16 channels."""

    def __init__(self):
        super().__init__()
        self.left = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16))
        self.right = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16))
        self.fc = nn.Linear(32, 3)

    def forward(self, x):
        both = torch.cat([self.left(x), self.right(x)], 1)
        return self.fc(functional.relu(both).mean((2, 3)))


def network(*, alike=False):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Branches().eval()
        for branch in (model.left, model.right):
            nn.init.uniform_(branch[1].weight, 0.5, 1.5)
            nn.init.uniform_(branch[1].bias, 0.1, 0.5)
        if alike:  # every channel is the same, and the classifier sees each alike
            with torch.no_grad():
                for item in model.parameters():
                    item.fill_(0.25)
                model.fc.weight.copy_(
                    torch.tensor([[0.3], [-0.2], [0.1]]).expand(3, 32)
                )
    return model, find_structure(model, torch.zeros(2, 1, 4, 4))


def measured(model, structure, criterion, task=None):
    if criterion in SERVER:
        rng = np.random.default_rng(0)
        return weight_scores(
            structure, structure.full(), get_weights(model), criterion, rng
        )
    return score(
        model,
        EXAMPLES,
        make_task() if task is None else task,
        structure,
        structure.full(),
        replace(SETTINGS, importance=criterion, batch=8),
    )


def choose(structure, scores, density, floor=1):
    return choose_keep(
        structure,
        structure.full(),
        scores,
        {"channel_density": density},
        floor=floor,
        step_cap=1.0,
        width_multiple=1,
    )


def test_the_lists_of_criteria_agree():
    assert CLIENT_CRITERIA == CLIENT
    named = Prune.model_fields["importance"].annotation.__args__
    assert set(named) == set(ALL)


@LAW
def test_a_score_that_says_nothing_prunes_evenly(criterion):
    model, structure = network(alike=True)
    scores = measured(model, structure, criterion)
    if criterion == "random":  # says nothing only in the mean
        assert abs(scores[:16].mean() - scores[16:].mean()) < 0.25
        return
    if criterion == "lamp":  # ranks units that are alike by their number
        np.testing.assert_allclose(scores[:16], scores[16:], rtol=1e-5)
    else:
        np.testing.assert_allclose(scores, scores[0], rtol=1e-5)
    for density in (0.75, 0.5, 0.25):
        keep = choose(structure, np.round(scores, 5), density)
        left, right = structure.widths(keep).values()
        assert abs(left - right) <= 1


class Scaled(Task):
    """A task whose loss is seven times as large."""

    def loss(self, outputs, targets):
        return 7.0 * super().loss(outputs, targets)


@LAW
def test_scaling_a_clients_loss_changes_nothing(criterion):
    model, structure = network()
    task = make_task()
    scores = measured(model, structure, criterion, task)
    scaled = measured(model, structure, criterion, Scaled(task.config, task.factory))
    np.testing.assert_allclose(
        normalise(scaled), normalise(scores), rtol=1e-3, atol=1e-7
    )


@LAW
def test_no_group_falls_below_its_floor_at_99_percent(criterion):
    model, structure = network()
    keep = choose(structure, measured(model, structure, criterion), 0.01, floor=3)
    assert set(structure.widths(keep).values()) == {3}


@LAW
def test_scores_are_finite_not_negative_and_repeatable(criterion):
    model, structure = network()
    scores = measured(model, structure, criterion)
    assert scores.dtype == np.float32
    assert scores.shape == (32,)
    assert np.isfinite(scores).all()
    assert (scores >= 0.0).all()
    assert scores.max() > 0.0
    np.testing.assert_array_equal(measured(model, structure, criterion), scores)


@LAW
def test_measuring_leaves_the_weights_as_they_were(criterion):
    model, structure = network()
    before = get_weights(model)
    measured(model, structure, criterion)
    np.testing.assert_array_equal(get_weights(model), before)
    assert all(item.grad is None for item in model.parameters())


@pytest.mark.parametrize("criterion", ["taylor", "fisher", "sensitivity"])
def test_a_channel_without_effect_scores_zero_and_the_strongest_most(criterion):
    model, structure = network()
    with torch.no_grad():
        model.fc.weight[:, 5] = 0.0
        model.fc.weight[:, 20] *= 30.0
    scores = measured(model, structure, criterion)
    assert scores[5] == pytest.approx(0.0, abs=1e-6)
    assert scores.argmax() == 20


def test_fisher_squares_each_examples_own_product():
    model, structure = network()
    wanted = np.zeros(32)
    norms = (model.left[1], model.right[1])
    for place in range(len(EXAMPLES)):
        inputs, targets = EXAMPLES.batch(np.array([place]))
        model.zero_grad()
        functional.cross_entropy(model(inputs), targets).backward()
        products = [
            (norm.weight.grad * norm.weight + norm.bias.grad * norm.bias).detach()
            for norm in norms
        ]
        wanted += torch.cat(products).numpy() ** 2
    found = measured(network()[0], structure, "fisher")
    np.testing.assert_allclose(found, wanted, rtol=1e-3)


def test_what_others_can_replace_goes_first_by_the_geometric_median():
    model, structure = network()
    with torch.no_grad():
        model.left[0].weight[3] = model.left[0].weight.mean(0)
        model.left[0].weight[7] *= 10.0
    scores = measured(model, structure, "fpgm")
    assert scores[:16].argmin() == 3
    assert scores[:16].argmax() == 7


def test_the_best_unit_of_each_group_has_the_same_lamp_score():
    model, structure = network()
    with torch.no_grad():
        model.right[0].weight *= 1e-3
    scores = measured(model, structure, "lamp")
    assert scores[:16].max() == scores[16:].max() == 1.0
    energy = (model.left[0].weight ** 2).sum((1, 2, 3)).detach().numpy()
    worst = energy.argmin()
    assert scores[worst] == pytest.approx(energy[worst] / energy.sum(), rel=1e-4)


def test_a_score_per_group_does_not_mind_the_size_of_the_weights():
    model, structure = network()
    plain = measured(model, structure, "l2-group")
    with torch.no_grad():
        model.right[0].weight *= 1e-3
    np.testing.assert_allclose(measured(model, structure, "l2-group"), plain, rtol=1e-4)
    assert plain[:16].mean() == pytest.approx(1.0, rel=1e-5)


def test_heads_are_scored_by_gradients_and_refused_by_activations():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(1), nn.Unflatten(1, (1, 16)), encoder(), Last())
    structure = find_structure(model, torch.zeros(2, 1, 4, 4))
    assert structure.units == 56
    for criterion in ("taylor", "sensitivity"):
        scores = measured(model, structure, criterion)
        assert (scores > 0.0).sum() > 50
    with pytest.raises(ConfigError, match=r"in_proj_weight.*want taylor"):
        measured(model, structure, "apoz")


class Last(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 3)

    def forward(self, x):
        return self.fc(x.mean(1))
