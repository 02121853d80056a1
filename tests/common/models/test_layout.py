"""Channels lie last in memory where a network's code takes that."""

import pytest
import torch
from helpers.tiny_federation import Tiny, make_task
from torch import nn

from fedprune.client.rounds.model_cache import ModelCache
from fedprune.common.models.flat import get_weights
from fedprune.common.models.layout import lay_out
from fedprune.server.runs.trying import try_network


class Viewing(nn.Module):
    """A view right behind a convolution: its code wants the contiguous order."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8 * 16, 3)

    def forward(self, x):
        x = self.conv1(torch.relu(self.conv(x)))
        return self.fc(torch.relu(x.view(len(x), -1)))


class Volumes(nn.Sequential):
    """Weights of five dimensions, which have no such layout."""

    def __init__(self):
        super().__init__(nn.Conv3d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 8, 3))


def is_last(weight):
    return weight.is_contiguous(memory_format=torch.channels_last)


def test_a_network_that_takes_it_has_its_channels_last():
    model = Tiny()
    before = get_weights(model)
    assert lay_out(model, torch.zeros(2, 1, 4, 4)) is model
    assert is_last(model.conv1.weight)
    assert not model.conv1.weight.is_contiguous()
    assert (get_weights(model) == before).all()


def test_a_network_that_views_its_channels_stays_contiguous():
    model = Viewing().to(memory_format=torch.channels_last)
    before = get_weights(model)
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        model(torch.zeros(2, 1, 4, 4))
    lay_out(model, torch.zeros(2, 1, 4, 4))
    assert model.conv1.weight.is_contiguous()
    assert (get_weights(model) == before).all()
    assert model(torch.zeros(5, 1, 4, 4)).shape == (5, 3)


def test_weights_of_five_dimensions_stay_contiguous():
    model = lay_out(Volumes(), torch.zeros(2, 1, 4, 4, 4))
    assert model(torch.zeros(2, 1, 4, 4, 4)).shape == (2, 3)


def test_a_trial_changes_neither_mode_nor_moments_nor_random_state():
    model = nn.Sequential(Tiny(), nn.Dropout())
    model[0].bn.eval()
    modes = [module.training for module in model.modules()]
    moments = {name: item.clone() for name, item in model.named_buffers()}
    before = torch.random.get_rng_state()
    lay_out(model, torch.rand(2, 1, 4, 4, generator=torch.Generator()))
    assert [module.training for module in model.modules()] == modes
    for name, item in model.named_buffers():
        assert torch.equal(item, moments[name]), name
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_network_that_views_its_channels_passes_the_door_and_trains_when_cut():
    task = make_task(Viewing)
    model = task.build_model()
    structure = try_network(task, model).structure
    assert structure.units == 16
    cache, keep = ModelCache(task), structure.full()
    keep[[0, 3, 9]] = False
    weights = get_weights(model)[: structure.spec(keep).size]
    for kept, values in ((structure.full(), get_weights(model)), (keep, weights)):
        built = cache.network(structure, kept, values, None)
        outputs = built.train()(task.example())
        outputs.sum().backward()
        assert outputs.shape == (2, 3)


def test_what_clients_train_has_its_channels_last_wherever_that_works():
    task = make_task()
    structure = try_network(task, task.build_model()).structure
    weights = get_weights(task.build_model())
    built = ModelCache(task).network(structure, structure.full(), weights, None)
    assert is_last(built.conv1.weight)
    assert not built.conv1.weight.is_contiguous()
