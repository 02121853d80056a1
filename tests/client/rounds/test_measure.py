"""Measurements of a client on the broadcast, which they do not change."""

import numpy as np
import pytest
import torch
from helpers.tiny_federation import Tiny, make_examples, make_task, tiny_structure
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedprune.client.rounds.measure import (
    batches,
    evaluated_batches,
    fit,
    measure_statistics,
    validate,
)
from fedprune.client.rounds.model_cache import ModelCache
from fedprune.common.data.examples import ArrayExamples
from fedprune.common.errors import PayloadError
from fedprune.common.messages import Statistics
from fedprune.common.models.flat import (
    get_statistics,
    get_weights,
    norm_modules,
    set_statistics,
)
from fedprune.common.structure.structure import Structure


class Dropping(Tiny):
    """The tiny network with dropout in front of every norm but the first."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        x = self.drop(torch.relu(self.bn(self.conv(x))))
        y = self.drop(torch.relu(self.bn1(self.conv1(x))))
        x = torch.relu(self.bn2(self.conv2(y)) + x)
        return self.fc(x.mean((2, 3)))


def tiny(net=Tiny, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return net()


@pytest.mark.slow
@given(count=st.integers(0, 50), size=st.integers(1, 20))
def test_batches_hold_every_position_once(count, size):
    parts = list(batches(count, size))
    assert [i for part in parts for i in part] == list(range(count))
    assert all(len(part) <= size for part in parts)


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((1, 8, 8), [256, 44]),
        ((3, 224, 224), [6] * 50),  # 602 112 bytes as float32
        ((3, 2048, 2048), [1] * 300),
    ],
)
def test_large_inputs_are_evaluated_in_smaller_batches(shape, sizes):
    inputs = np.broadcast_to(np.zeros((), np.uint8), (300, *shape))
    examples = ArrayExamples(inputs=inputs, targets=np.zeros(300, np.int64))
    found = list(evaluated_batches(examples))
    assert [len(part) for part in found] == sizes
    np.testing.assert_array_equal(np.concatenate(found), np.arange(300))


def test_no_examples_are_no_batch_of_an_evaluation():
    examples = ArrayExamples(inputs=np.zeros((0, 2)), targets=np.zeros(0, np.int64))
    assert list(evaluated_batches(examples)) == []


def test_validation_sums_the_loss_and_the_hits_of_all_examples():
    task = make_task()
    model = tiny().eval()
    examples = make_examples(300)
    inputs, targets = examples.batch(np.arange(300))
    with torch.no_grad():
        outputs = model(inputs)
        loss = nn.functional.cross_entropy(outputs, targets, reduction="sum")
    found = validate(model, examples, task)
    assert found.loss_sum == pytest.approx(float(loss), rel=1e-5)
    assert found.metric_sum == int((outputs.argmax(1) == targets).sum())
    assert found.count == 300


def test_validation_without_examples_says_nothing():
    found = validate(tiny(), make_examples(0), make_task())
    assert (found.loss_sum, found.metric_sum, found.count) == (0.0, 0, 0)


def test_a_diverged_broadcast_looks_bad_and_can_be_sent():
    model = tiny()
    with torch.no_grad():
        model.fc.bias.fill_(float("nan"))
    found = validate(model, make_examples(6), make_task())
    assert found.loss_sum == 1e30
    assert found.metric_sum <= found.count == 6


@pytest.mark.parametrize(("higher", "worst"), [(True, -1e30), (False, 1e30)])
def test_a_metric_that_is_no_number_is_the_worst_of_its_direction(
    monkeypatch, higher, worst
):
    task = make_task()
    # As a perplexity of a diverged network: 0 would be the best one.
    lost = {"perplexity": torch.full((6,), float("nan"))}
    monkeypatch.setattr(type(task), "metrics", lambda *_: lost)
    monkeypatch.setattr(type(task), "higher_is_better", higher)
    assert validate(tiny(), make_examples(6), task).metric_sum == worst


def test_validation_changes_no_statistics():
    model = tiny().train()
    before = get_statistics(model)
    validate(model, make_examples(20), make_task())
    np.testing.assert_array_equal(get_statistics(model), before)


def test_statistics_are_the_moments_of_what_reaches_each_norm():
    model = tiny()
    examples = make_examples(40)
    inputs, _ = examples.batch(np.arange(40))
    with torch.no_grad():
        stem = model.conv(inputs)
        x = torch.relu(nn.functional.batch_norm(stem, None, None, training=True))
        first = model.conv1(x)
        y = torch.relu(nn.functional.batch_norm(first, None, None, training=True))
        reached = [stem, first, model.conv2(y)]
    found = measure_statistics(model, examples)
    assert found is not None
    assert found.num_examples == 40
    means = torch.cat([value.mean((0, 2, 3)) for value in reached])
    variances = torch.cat([value.var((0, 2, 3), correction=0) for value in reached])
    np.testing.assert_allclose(found.mean, means.numpy(), atol=1e-6)
    np.testing.assert_allclose(found.variance, variances.numpy(), rtol=1e-5)


def test_measuring_leaves_statistics_and_momentum_as_they_were():
    model = tiny()
    rng = np.random.default_rng(0)
    set_statistics(
        model, rng.random(24, dtype=np.float32), rng.random(24, dtype=np.float32)
    )
    model.bn1.momentum = None
    before = get_statistics(model)
    measure_statistics(model, make_examples(20))
    np.testing.assert_array_equal(get_statistics(model), before)
    assert [norm.momentum for _, norm in norm_modules(model)] == [0.1, None, 0.1]


def test_dropout_does_not_touch_the_statistics():
    dropping, plain = tiny(Dropping), tiny()
    examples = make_examples(20)
    found = [measure_statistics(dropping, examples) for _ in range(2)]
    wanted = measure_statistics(plain, examples)
    for one in found:
        np.testing.assert_array_equal(one.mean, wanted.mean)
        np.testing.assert_array_equal(one.variance, wanted.variance)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_examples_have_no_statistics(count):
    assert measure_statistics(tiny(), make_examples(count)) is None


class Unused(nn.Module):
    """A network that cannot be evaluated."""

    def forward(self, x):
        raise AssertionError


def test_a_network_without_norms_has_no_moments_and_needs_no_forward():
    found = measure_statistics(Unused(), make_examples(4))
    assert found is not None
    assert found.num_examples == 4
    assert (len(found.mean), len(found.variance)) == (0, 0)


def test_a_network_is_left_in_eval_mode_with_norms_and_without():
    for model in (tiny(), Unused()):
        assert model.training
        measure_statistics(model, make_examples(4))
        assert not model.training


def test_a_resident_network_never_shows_the_statistics_of_the_client_before():
    task = make_task()
    structure, cache = tiny_structure(), ModelCache(task)
    weights = get_weights(task.build_model())
    first = cache.network(structure, structure.full(), weights, None)
    before = get_statistics(first)
    first.train()
    first(torch.randn(8, 1, 4, 4) + 5.0)
    assert not np.array_equal(get_statistics(first), before)
    second = cache.network(structure, structure.full(), weights, None)
    assert second is first
    np.testing.assert_array_equal(get_statistics(second), before)


def test_a_resident_network_holds_the_given_weights_and_statistics():
    task = make_task()
    structure, cache = tiny_structure(), ModelCache(task)
    keep = structure.full()
    keep[[2, 11]] = False
    spec = structure.spec(keep)
    rng = np.random.default_rng(0)
    for _ in range(2):
        weights = rng.normal(size=spec.size).astype(np.float32)
        mean = rng.normal(size=spec.moments).astype(np.float32)
        statistics = Statistics(num_examples=5, mean=mean, variance=mean**2)
        model = cache.network(structure, keep, weights, statistics)
        np.testing.assert_array_equal(get_weights(model), weights)
        np.testing.assert_array_equal(get_statistics(model), (mean, mean**2))


def test_only_a_few_networks_stay_built():
    task = make_task()
    structure, cache = tiny_structure(), ModelCache(task)
    weights = get_weights(task.build_model())
    full = cache.network(structure, structure.full(), weights, None)
    for unit in range(4):
        keep = structure.full()
        keep[unit] = False
        small = np.zeros(structure.spec(keep).size, dtype=np.float32)
        cache.network(structure, keep, small, None)
    assert cache.network(structure, structure.full(), weights, None) is not full


def test_a_wrong_structure_does_not_stand_for_the_right_one():
    cache, right = ModelCache(make_task()), tiny_structure()
    other = Structure.from_json(right.to_json().replace(b'"conv1"', b'"convX"'))
    assert other.digest != right.digest
    assert cache.structure(right.digest, other.to_json()).digest == other.digest
    assert cache.structure(right.digest, right.to_json()).digest == right.digest
    with pytest.raises(PayloadError):
        cache.structure(b"0" * 16, b"no structure")


def test_an_example_unlike_the_sample_is_not_divided_by_nothing():
    model = nn.BatchNorm1d(2)
    set_statistics(model, np.float32([9.0, 9.0]), np.float32([0.25, 4.0]))
    inputs = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    inputs[:, 0] = 0.1  # a category that the sample lacks
    fit(model, ArrayExamples(inputs=inputs, targets=np.zeros(40, np.int64)))
    mean, variance = get_statistics(model)
    assert variance[0] == 0.25
    assert mean[0] == pytest.approx(0.1)
    assert mean[1] == pytest.approx(inputs[:, 1].mean(), abs=1e-6)
    assert variance[1] == pytest.approx(inputs[:, 1].var(), rel=1e-5)
    with torch.no_grad():
        assert float(model.eval()(torch.tensor([[1.1, 0.0]]))[0, 0]) < 2.1
