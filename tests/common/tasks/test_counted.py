"""Examples without a target that counts are part of no mean, and positions neither."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.codec.examples import SETTINGS as EXAMPLE
from helpers.own_tasks import LENGTH, WORDS, Next, OfNext, OfTexts
from torch import nn

from fedprune import Batch, load_config
from fedprune.client.rounds.measure import evaluate, validate
from fedprune.client.rounds.train import LocalTraining, train
from fedprune.common.data.examples import IGNORED, MappedExamples
from fedprune.common.models.flat import get_weights
from fedprune.common.tasks.counted import chosen, counted, number_of, teacher_distance
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.simulations.export.check import headline

EMPTY = torch.full((LENGTH,), IGNORED)
TRAINING = replace(
    EXAMPLE,
    epochs=1,
    batch=512,
    penalty="none",
    strength=0.0,
    distill_weight=0.0,
    weight_decay=0.1,
)
SETTINGS = {"task.loss": "next-token", "task.clients": 10}


class Padded(OfNext):
    """Every third example has no target that counts."""

    def train_data(self, client):
        rows = super().train_data(client)
        return [(x, EMPTY if k % 3 == 1 else y) for k, (x, y) in enumerate(rows)]


class Whole(Padded):
    """The examples of ``Padded`` that count."""

    def train_data(self, client):
        return [row for row in super().train_data(client) if row[1] is not EMPTY]


def loaded(kind, **changes):
    return LoadedTask(load_config(None, SETTINGS | changes), given=kind())


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Next()


def test_an_example_counts_if_one_of_its_positions_does():
    task = loaded(Padded)
    batch = task.sample.batch(np.arange(5))
    assert counted(task, batch).tolist() == [True, False, True, True, False]
    assert number_of(counted(task, batch), batch) == 3
    whole = loaded(Whole)
    batch = whole.sample.batch(np.arange(4))
    assert counted(whole, batch) is None
    assert number_of(None, batch) == 4


def test_a_class_of_minus_100_does_not_count_and_an_own_loss_counts_all():
    class Own(OfTexts):
        def loss(self, outputs, batch):
            return outputs["logits"].sum(1)

    batch = Batch(torch.zeros(3, 2), torch.tensor([1, IGNORED, 0]))
    plain, own = (
        LoadedTask(load_config(None, {}), given=kind()) for kind in (OfTexts, Own)
    )
    assert counted(plain, batch).tolist() == [True, False, True]
    assert counted(own, batch) is None
    assert chosen(torch.arange(3), counted(plain, batch)).tolist() == [0, 2]


@pytest.mark.parametrize("measured", [evaluate, validate])
def test_means_are_those_of_the_examples_that_count(measured):
    model = network()
    found, wanted = (
        measured(model, task.sample, task) for task in (loaded(Padded), loaded(Whole))
    )
    assert found.count == wanted.count == 2 * len(loaded(Padded).sample) // 3
    assert found.loss_sum == pytest.approx(wanted.loss_sum, rel=1e-6)
    if measured is evaluate:
        assert found.means == pytest.approx(wanted.means)


def test_the_headline_of_a_file_is_that_of_the_examples_that_count():
    model = network()
    found = [headline(model, t, t.sample) for t in (loaded(Padded), loaded(Whole))]
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_no_example_that_counts_has_no_mean():
    task = loaded(Padded)
    found = evaluate(network(), task.sample.take(np.array([1, 4])), task)
    assert (found.count, np.isnan(found.headline)) == (0, True)


def test_training_on_padded_examples_is_that_on_the_others():
    padded, whole = loaded(Padded), loaded(Whole)
    models = network(), network()
    found = [
        train(model, work(task, task.sample), fixed(0))
        for model, task in zip(models, (padded, whole), strict=True)
    ]
    assert found[0].counted == found[1].counted == len(whole.sample)
    assert found[0].loss == pytest.approx(found[1].loss, rel=1e-6)
    np.testing.assert_allclose(*map(get_weights, models), atol=1e-6)


def test_a_batch_without_a_target_takes_no_step():
    task, model = loaded(Padded), network()
    before = get_weights(model)
    examples = task.sample.take(np.array([1, 4, 7]))
    found = train(model, work(task, examples), fixed(0))
    assert (found.counted, found.loss) == (0, 0.0)
    np.testing.assert_array_equal(get_weights(model), before)


def work(task, examples):
    return LocalTraining(
        examples=examples,
        task=task,
        settings=TRAINING,
        penalty=None,
        teacher=None,
        augment=torch.Generator(),
    )


def fixed(seed):
    return np.random.default_rng(seed)


def test_a_teacher_is_followed_at_the_positions_that_count():
    task = loaded(Padded)
    targets = torch.zeros(2, LENGTH, dtype=torch.int64)
    targets[0, 2:] = IGNORED
    targets[1] = IGNORED
    one, two = torch.randn(2, 2, LENGTH, WORDS)
    pair = Batch(torch.zeros(2, LENGTH), targets)
    found = teacher_distance(task, one, two, pair, 1.0)
    log = nn.functional.log_softmax
    wanted = nn.functional.kl_div(
        log(one[0, :2], -1), log(two[0, :2], -1), log_target=True, reduction="batchmean"
    )
    torch.testing.assert_close(found, wanted)


def test_whole_numbers_among_outputs_are_no_part_of_a_distance():
    class Own(OfTexts):
        def loss(self, outputs, batch):
            return outputs["scores"].sum(1)

    task = LoadedTask(load_config(None, {}), given=Own())
    batch = Batch(torch.zeros(3, 2), torch.zeros(3))
    one, two = (
        {"scores": torch.full((3, 2), x), "ids": torch.full((3,), int(9 * x))}
        for x in (0.0, 1.0)
    )
    assert float(teacher_distance(task, one, two, batch, 1.0)) == 1.0


def test_mapped_examples_are_what_these_tests_are_about():
    assert isinstance(loaded(Padded).sample, MappedExamples)
