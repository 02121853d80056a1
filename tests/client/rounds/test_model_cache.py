"""What a process keeps: networks as they were made, and values by their keys."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.tiny_federation import Tiny, make_task

from fedprune.client.rounds.model_cache import ModelCache, Recall
from fedprune.common.errors import DataError
from fedprune.common.messages import Broadcast, Statistics
from fedprune.common.models.flat import get_weights
from fedprune.common.sparsity.penalty import PenaltySpec
from fedprune.common.spec import PrunePlan, weights_digest
from fedprune.server.runs.trying import try_network


class Stateful(Tiny):
    """A network with a running scale, a cache and two counters."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("cache", torch.zeros(2), persistent=False)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        if self.training:
            self.scale = 0.9 * self.scale + 0.1 * x.detach().std()
        return super().forward(x / self.scale)


@pytest.fixture(scope="module")
def made():
    task = make_task(Stateful)
    model = task.build_model()
    return ModelCache(task), try_network(task, model).structure, get_weights(model)


def statistics(*running):
    none = np.zeros(0, np.float32)
    values = np.float32(running)
    return Statistics(num_examples=1, mean=none, variance=none, running=values)


def spoil(model):
    """Change every buffer, one of them in its shape and one with a graph behind it."""
    with torch.no_grad():
        for item in model.buffers():
            item.add_(1)
    model.cache = torch.zeros(5)
    model.scale = model.scale * torch.ones(1, requires_grad=True)


def test_every_buffer_starts_as_in_a_fresh_network(made):
    cache, structure, weights = made
    keep = structure.full()
    first = cache.network(structure, keep, weights, statistics(7.0))
    spoil(first)
    again = cache.network(structure, keep, weights, None)
    assert again is first
    for name, item in cache.task.build_model().named_buffers():
        assert torch.equal(again.get_buffer(name), item), name
        assert not again.get_buffer(name).requires_grad


def test_running_values_are_those_that_were_sent(made):
    cache, structure, weights = made
    model = cache.network(structure, structure.full(), weights, statistics(7.0))
    assert model.scale.tolist() == [7.0]
    assert model.bn.running_var.tolist() == [1.0] * 8


def test_only_averaged_buffers_caches_and_counters_may_change_in_training(made):
    cache, structure, weights = made
    keep = structure.full()
    model = cache.network(structure, keep, weights, statistics(7.0))
    model.scale += 1
    model.num_batches_tracked += 1
    model.bn.running_mean += 1
    model.cache = torch.ones(3)
    cache.check_constants(structure, keep, model)
    model.steps += 1
    with pytest.raises(
        DataError, match=r"^training changed 'steps', .* averaged; want"
    ):
        cache.check_constants(structure, keep, model)


def test_equal_keys_are_made_once_and_only_the_last_are_kept():
    made = []
    recall = Recall(2)

    def value_of(key):
        return recall.get(key, lambda: made.append(key) or f"of {key}")

    assert [value_of(key) for key in (1, 1, 2, 1, 3, 1, 2)] == [
        "of 1", "of 1", "of 2", "of 1", "of 3", "of 1", "of 2",
    ]  # fmt: skip
    assert made == [1, 2, 3, 2]


def test_what_cannot_be_made_is_not_remembered():
    recall = Recall(1)

    def fail(key="not now"):
        raise DataError(key)

    with pytest.raises(DataError):
        recall.get("it", fail)
    assert recall.get("it", lambda: 5) == 5


def test_of_equal_keys_the_first_is_kept():
    first, second = bytes([1] * 300), bytes([1] * 300)
    assert first is not second
    recall = Recall(1)
    assert recall.get(first, lambda: 5) == recall.get(second, lambda: 6) == 5
    (kept,) = recall._values
    assert kept is first


def test_a_penalty_is_built_anew_where_anything_differs(made):
    cache, structure, weights = made
    full = PrunePlan(structure=structure.digest, keep=structure.full())
    part = replace(full, keep=np.arange(structure.units) > 0, parent=full.digest)
    one = np.arange(structure.units) == 1
    spec = PenaltySpec(name="bn-l1", strength=0.5, targets=one)

    def built(spec=spec, plan=full, factor=1):
        size = structure.spec(plan.keep).size
        values = weights[:size] * np.float32(factor)
        digest = weights_digest(values)
        sent = Broadcast(plan=plan, weights=b"", digest=digest, statistics=None)
        return cache.penalty(structure, sent, values, spec)

    variants = [
        {"spec": replace(spec, name="group")},
        {"spec": replace(spec, strength=0.25)},
        {"spec": replace(spec, targets=~one)},
        {"spec": replace(spec, targets=None)},
        {"spec": replace(spec, frozen=("conv1",))},
        {"plan": part},
        {"plan": replace(full, rollback=True)},
        {"factor": 2},
    ]
    for variant in variants:
        first = built()
        assert built(replace(spec, targets=one.copy())) is first
        assert built(**variant) is not first, variant
        assert built(**variant) is built(**variant)
