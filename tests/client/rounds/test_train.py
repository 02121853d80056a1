"""Local training: the same bits for the same seed, and norms that are never misled."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.tiny_federation import Tiny, make_examples, make_task, tiny_structure
from torch import nn

from fedprune.client.rounds.train import LocalTraining, distillation, outputs_on, train
from fedprune.common.data.examples import ArrayExamples
from fedprune.common.messages import TrainSettings
from fedprune.common.models.flat import get_statistics, get_weights
from fedprune.common.pruning.importance import zero_units
from fedprune.common.sparsity.penalty import PenaltySpec, build_penalty

SETTINGS = TrainSettings(
    epochs=2,
    batch=8,
    lr=0.05,
    momentum=0.9,
    penalty="none",
    strength=0.0,
    update_density=1.0,
    choice="magnitude",
    values="float32",
    step_error=0.01,
    error_feedback=False,
    decay=1.0,
    distill_weight=0.0,
    temperature=2.0,
    importance="",
    measure=False,
    freeze=False,
    clip=5.0,
    validation=0.1,
    score_examples=256,
    seed=7,
)


def tiny(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Tiny()


def make_training(examples, *, task=None, penalty=None, teacher=None, **changes):
    return LocalTraining(
        examples=examples,
        task=make_task() if task is None else task,
        settings=replace(SETTINGS, **changes),
        penalty=penalty,
        teacher=teacher,
    )


def rng(seed=0):
    return np.random.default_rng(seed)


def test_training_is_the_same_for_the_same_seed_and_another_for_another():
    training = make_training(make_examples(30))
    found = []
    for seed in (1, 1, 2):
        model = tiny()
        loss = train(model, training, rng(seed))
        found.append((loss, get_weights(model).tobytes()))
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_training_learns():
    model, examples = tiny(), make_examples(60)
    training = make_training(examples, epochs=20)
    first = train(tiny(), make_training(examples, epochs=1), rng())
    assert train(model, training, rng()) < first / 2
    assert (
        outputs_on(model, examples).argmax(1).numpy() == examples.targets
    ).mean() > 0.8


class Recorder(nn.Module):
    """A norm that notes how many examples it normalises in train mode."""

    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm1d(1)
        self.fc = nn.Linear(1, 3)
        self.train_sizes = []
        self.seen = []

    def forward(self, x):
        x = x.flatten(1)[:, :1]
        self.seen += x[:, 0].tolist()
        if self.bn.training:
            self.train_sizes.append(len(x))
        return self.fc(self.bn(x))


@pytest.mark.parametrize("batch", [1, 2, 4, 8])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 9, 16, 17])
def test_every_epoch_sees_every_example_and_no_norm_a_batch_of_one(count, batch):
    model = Recorder()
    inputs = np.arange(count, dtype=np.float32).reshape(count, 1)
    examples = ArrayExamples(inputs=inputs, targets=np.zeros(count, dtype=np.int64))
    train(model, make_training(examples, epochs=3, batch=batch), rng())
    assert all(size > 1 for size in model.train_sizes)
    epochs = np.sort(np.reshape(model.seen, (3, count)), axis=1)
    assert epochs.tolist() == [list(range(count))] * 3
    # Norms that can be trained are trained.
    assert bool(model.train_sizes) == (count > 1 and batch > 1)


def test_batches_have_the_wanted_size_but_for_the_last_ones():
    model = Recorder()
    examples = ArrayExamples(
        inputs=np.zeros((17, 1), dtype=np.float32), targets=np.zeros(17, dtype=np.int64)
    )
    train(model, make_training(examples, epochs=1), rng())
    assert model.train_sizes == [8, 9]


def test_frozen_statistics_do_not_change_and_others_do():
    for freeze in (True, False):
        model = tiny()
        before = get_statistics(model)
        train(model, make_training(make_examples(20), freeze=freeze), rng())
        assert np.array_equal(get_statistics(model), before) == freeze


def test_frozen_norms_still_learn_their_scale():
    model = tiny()
    train(model, make_training(make_examples(20), freeze=True), rng())
    assert not torch.equal(model.bn1.weight, torch.ones(8))


def test_no_epoch_changes_nothing():
    model = tiny()
    assert train(model, make_training(make_examples(20), epochs=0), rng()) == 0.0
    assert get_weights(model).tobytes() == get_weights(tiny()).tobytes()


def test_the_loss_is_the_mean_over_the_examples_of_the_last_epoch():
    task, examples = make_task(), make_examples(21)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    batch = examples.batch(np.arange(21))
    with torch.no_grad():
        wanted = float(task.loss(model(batch.inputs), batch).mean())
    training = make_training(examples, task=task, lr=1e-9)
    assert train(model, training, rng()) == pytest.approx(wanted, rel=1e-5)


def test_a_penalty_ends_with_the_weights_in_front_of_the_shrink():
    structure, model = tiny_structure(), tiny()
    weights, full = get_weights(model), structure.full()
    aim = PenaltySpec(name="bn-l1", strength=50.0)
    penalty = build_penalty(structure, full, weights, aim)
    train(model, make_training(make_examples(20), penalty=penalty), rng())
    # The network was trained with every gamma at zero, and answers with none.
    assert not zero_units(structure, full, get_weights(model)).any()
    assert not np.array_equal(get_weights(model), weights)
    plain = tiny()
    train(plain, make_training(make_examples(20)), rng())
    assert not np.array_equal(get_weights(model), get_weights(plain))


def test_a_gradient_is_clipped_to_its_largest_norm():
    examples = make_examples(16)
    changes = {"clip": 0.01, "lr": 0.5, "momentum": 0.0}
    training = make_training(examples, epochs=1, batch=16, **changes)
    model = tiny()
    train(model, training, rng())
    moved = np.linalg.norm(get_weights(model) - get_weights(tiny()))
    assert moved == pytest.approx(0.5 * 0.01, rel=1e-3)


def outputs(seed, rows=5):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, 3)))


@pytest.mark.parametrize("regression", [False, True])
def test_distillation_is_zero_at_the_teachers_outputs_and_positive_elsewhere(
    regression,
):
    one, other = outputs(0), outputs(1)
    near = distillation(one, one, SETTINGS, regression=regression)
    far = distillation(one, other, SETTINGS, regression=regression)
    assert abs(float(near)) < 1e-12
    assert float(far) > 0.01


def test_distillation_is_the_divergence_of_the_softened_outputs():
    one, other = outputs(0).numpy(), outputs(1).numpy()

    def soft(values):
        powers = np.exp(values / 3.0)
        return powers / powers.sum(axis=1, keepdims=True)

    wanted, found = soft(other), soft(one)
    divergence = (wanted * np.log(wanted / found)).sum(axis=1).mean() * 9.0
    settings = replace(SETTINGS, temperature=3.0)
    distance = distillation(outputs(0), outputs(1), settings, regression=False)
    assert float(distance) == pytest.approx(divergence, rel=1e-9)


def test_distillation_ignores_a_shift_of_all_outputs_of_an_example():
    shifted = outputs(0) + torch.arange(5.0)[:, None]
    distance = distillation(outputs(0), shifted, SETTINGS, regression=False)
    assert abs(float(distance)) < 1e-9


def test_a_student_with_only_its_teacher_learns_nothing_from_targets():
    examples = make_examples(20)
    wrong = ArrayExamples(inputs=examples.inputs, targets=(examples.targets + 1) % 3)
    teacher = outputs_on(tiny(1), examples)
    found = []
    for training in (examples, wrong):
        model = tiny()
        train(
            model, make_training(training, teacher=teacher, distill_weight=1.0), rng()
        )
        found.append(get_weights(model))
    np.testing.assert_array_equal(*found)


def test_a_student_comes_nearer_to_its_teacher():
    examples = make_examples(40)
    teacher = outputs_on(tiny(1), examples)
    model = tiny()
    training = make_training(examples, teacher=teacher, distill_weight=1.0, epochs=10)
    before = distillation(
        outputs_on(model, examples), teacher, SETTINGS, regression=False
    )
    train(model, training, rng())
    after = distillation(
        outputs_on(model, examples), teacher, SETTINGS, regression=False
    )
    assert float(after) < 0.5 * float(before)


def test_a_teacher_is_asked_in_eval_mode_and_in_order():
    model, examples = tiny().train(), make_examples(300)
    before = get_statistics(model)
    together = outputs_on(model, examples)
    np.testing.assert_array_equal(get_statistics(model), before)
    alone = outputs_on(model, examples.take(np.array([299])))
    torch.testing.assert_close(together[299:], alone)
