"""A client scores networks with moments of their own weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.codec.examples import make_plan
from helpers.tiny_federation import (
    answer_to,
    make_examples,
    make_setting,
    make_task,
    plan_for,
    start,
)
from torch import nn

from fedprune.client.rounds.evaluate import dealt, sample_of, teacher_network
from fedprune.client.rounds.measure import FEWEST, MEASURED
from fedprune.client.rounds.model_cache import ModelCache
from fedprune.client.rounds.opened import open_plan
from fedprune.client.rounds.store import ClientStore
from fedprune.common import codec
from fedprune.common.data.examples import ArrayExamples
from fedprune.common.messages import Phase, Statistics
from fedprune.server.rounds.cycle import Cursor
from fedprune.server.rounds.plan import plan_round
from fedprune.server.rounds.state import Snapshot
from fedprune.server.runs.trying import structure_of

SCORING = Cursor(phase=Phase.SPARSIFY, index=1, step=0.5)
TUNING = Cursor(phase=Phase.FINETUNE, index=1)
FROZEN = Cursor(phase=Phase.FINETUNE, index=1, final=True)


def moments(shift, size):
    """Return pooled moments of some other weights: nothing here fits them."""
    return Statistics(
        num_examples=99,
        mean=np.full(size, shift, dtype=np.float32),
        variance=np.full(size, 25.0, dtype=np.float32),
    )


class Client:
    """The first client, in a round of one kind, of a server with some moments."""

    def __init__(self, root, *, shift, count=200, cursor=SCORING, **changes):
        self.root, self.shift = root, shift
        self.task = make_task(examples=make_examples(count), **changes)
        self.run_spec = make_setting(self.task)
        state = start(self.task, self.run_spec)
        size = self.run_spec.structure.spec(state.keep).moments
        self.state = replace(state, cursor=cursor, statistics=moments(shift, size))
        self.work = plan_round(self.state, self.run_spec)
        self.plan = plan_for(self.work)

    def update(self):
        store = ClientStore(self.root / f"{self.shift}", self.plan.client_id)
        data = answer_to(self.plan, ModelCache(self.task), store)
        work, order = self.work, self.work.request.assignments[0]
        return codec.decode_update(data, work.expected(order))


def pair(root, **changes):
    """Return the answers to two plans that differ in the pooled moments alone."""
    return [Client(root, shift=shift, **changes).update() for shift in (0.0, 3.0)]


def test_scores_and_validation_do_not_depend_on_the_moments_that_travel(tmp_path):
    one, two = pair(tmp_path)
    assert one.importance is not None
    np.testing.assert_array_equal(one.importance, two.importance)
    assert one.validation == two.validation
    np.testing.assert_array_equal(one.statistics.mean, two.statistics.mean)


# Ten examples to train on, ten to validate with.
FEW = {"count": 80, "client__validation": 0.5}


def test_below_sixteen_examples_the_pooled_moments_serve_and_no_client_votes(tmp_path):
    one, two = pair(tmp_path, **FEW)
    assert 2 <= one.num_examples < FEWEST
    assert one.importance is None
    assert two.importance is None
    assert one.validation.count > 0
    assert one.validation != two.validation
    assert one.statistics.num_examples == one.num_examples


def plain():
    """Return a network without batch norm."""
    layers = nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)
    return nn.Sequential(nn.Flatten(), *layers)


def test_without_batch_norm_few_examples_are_enough_to_vote(tmp_path):
    task = make_task(plain, make_examples(80), client__validation=0.5)
    run_spec = make_setting(task, structure_of(task, task.build_model()))
    state = replace(start(task, run_spec), cursor=SCORING)
    work = plan_round(state, run_spec)
    plan = plan_for(work)
    data = answer_to(plan, ModelCache(task), ClientStore(tmp_path, plan.client_id))
    order = work.request.assignments[0]
    update = codec.decode_update(data, work.expected(order))
    assert update.num_examples < FEWEST
    assert update.importance is not None


def test_all_clients_train_from_the_moments_that_travel(tmp_path):
    """Frozen batch norm trains on the plan's moments, whatever the client measured."""
    one, two = pair(tmp_path, cursor=FROZEN, rounds__final=1)
    assert not np.array_equal(one.delta.values, two.delta.values) or not np.array_equal(
        one.delta.indices, two.delta.indices
    )
    assert one.validation == two.validation


def plan_of(client_id):
    return replace(make_plan(), client_id=client_id)


def test_moments_are_measured_on_all_classes_of_data_in_class_order():
    targets = np.repeat(np.arange(10), 100)
    examples = ArrayExamples(
        inputs=np.zeros((1000, 1, 4, 4), dtype=np.float32), targets=targets
    )
    sample = sample_of(plan_of("client-000"), examples)
    counts = np.bincount(sample.targets, minlength=10)
    assert counts.sum() == MEASURED
    assert counts.min() >= MEASURED // 10


def test_the_sample_is_the_clients_own_and_the_same_in_every_round():
    examples = make_examples(600)
    plan = plan_of("client-000")
    one, again = (sample_of(replace(plan, round=r), examples) for r in (3, 4))
    other = sample_of(plan_of("client-001"), examples)
    np.testing.assert_array_equal(one.inputs, again.inputs)
    assert not np.array_equal(one.inputs, other.inputs)


@pytest.mark.parametrize("sizes", [{}, FEW], ids=["many", "few"])
def test_a_held_and_a_sent_teacher_teach_the_same(tmp_path, sizes):
    client = Client(tmp_path, shift=3.0, **sizes)
    sent = client.work.plan.broadcast
    teacher = Snapshot(
        round=1,
        plan=sent.plan,
        weights=client.work.weights,
        digest=sent.digest,
        statistics=moments(1.0, client.work.spec.moments),  # measured after it was sent
    )
    state = replace(
        client.state, round=1, cursor=TUNING, dense=teacher, previous=teacher
    )
    plan = plan_for(plan_round(state, client.run_spec))
    assert plan.teacher_broadcast is not None
    # Somebody else keeps the broadcast as it came, with the moments of that round.
    store = ClientStore(tmp_path / "holds", plan.client_id)
    kept = replace(client.plan, keep_broadcast=True)
    open_plan(kept, ModelCache(client.task), store)
    found = []
    for one, where in (
        (plan, ClientStore(tmp_path / "is-sent", plan.client_id)),
        (replace(plan, teacher_broadcast=None), store),
    ):
        cache = ModelCache(client.task)
        opened = open_plan(one, cache, where)
        train = cache.data(plan.client_id).train
        teacher = teacher_network(opened, cache, where, train)
        assert not teacher.training
        with torch.no_grad():
            found.append(teacher(train.batch(np.arange(len(train))).inputs))
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("count", [40, 41, 47])
def test_data_in_the_order_of_its_classes_is_dealt_to_batches_of_all_classes(count):
    classes = np.sort(np.arange(count) % 4)
    places = dealt(np.arange(count), classes, 8)
    assert sorted(places) == list(range(count))
    for first in range(0, count - 7, 8):
        assert len(np.unique(classes[places[first : first + 8]])) == 4


def test_other_data_is_scored_as_it_lies():
    places = np.array([0, 2, 5])
    for classes in (None, np.array([1, 0, 0, 2, 0, 1])):
        assert dealt(places, classes, 2) is places


def test_a_score_hardly_depends_on_how_the_data_lies(tmp_path):
    changes = {"client__validation": 0.0, "client__score_examples": 240}
    found = []
    for in_order in (False, True):
        kind = {"prune__importance": "activation-variance"}
        client = Client(tmp_path / f"{in_order}", shift=0.0, **changes, **kind)
        drawn = make_examples(240)
        inputs = drawn.inputs + 3 * drawn.targets[:, None, None, None]
        examples = ArrayExamples(inputs=np.float32(inputs), targets=drawn.targets)
        order = np.argsort(examples.targets, kind="stable")
        examples = examples.take(order) if in_order else examples
        client.task = make_task(examples=examples, **changes)
        client.task.parts["client-000"] = np.arange(240)
        found.append(client.update().importance)
    np.testing.assert_allclose(found[1], found[0], rtol=0.05)
