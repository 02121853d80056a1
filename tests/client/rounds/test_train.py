"""Local training: the same bits for the same seed, and norms that are never misled."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.codec.examples import SETTINGS as EXAMPLE
from helpers.tiny_federation import Tiny, make_examples, make_task, tiny_structure
from torch import nn

from fedprune.client.rounds.train import LocalTraining, train
from fedprune.common.data.examples import ArrayExamples
from fedprune.common.models.flat import get_statistics, get_weights
from fedprune.common.pruning.importance import zero_units
from fedprune.common.sparsity.gates import build_gates
from fedprune.common.sparsity.penalty import PenaltySpec, build_penalty
from fedprune.common.tasks.counted import teacher_distance

SETTINGS = replace(EXAMPLE, batch=8, penalty="none", strength=0.0, distill_weight=0.0)


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
        augment=torch.Generator(),
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


def outputs_on(model, examples):
    """Return a network's outputs on all examples in eval mode, float32[n, outputs]."""
    with torch.no_grad():
        return model.eval()(examples.batch(np.arange(len(examples))).inputs)


@pytest.mark.slow
def test_training_learns():
    model, examples = tiny(), make_examples(60)
    training = make_training(examples, epochs=20)
    first = train(tiny(), make_training(examples, epochs=1), rng())
    assert train(model, training, rng()).loss < first.loss / 2
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
    found = train(model, make_training(make_examples(20), epochs=0), rng())
    assert (found.loss, found.counted) == (0.0, 20)
    assert get_weights(model).tobytes() == get_weights(tiny()).tobytes()


def test_the_loss_is_the_mean_over_the_examples_of_the_last_epoch():
    task, examples = make_task(), make_examples(21)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    batch = examples.batch(np.arange(21))
    with torch.no_grad():
        wanted = float(task.loss(model(batch.inputs), batch).mean())
    training = make_training(examples, task=task, lr=1e-9)
    assert train(model, training, rng()).loss == pytest.approx(wanted, rel=1e-5)


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


def test_a_student_with_only_its_teacher_learns_nothing_from_targets():
    examples = make_examples(20)
    wrong = ArrayExamples(inputs=examples.inputs, targets=(examples.targets + 1) % 3)
    teacher = tiny(1).eval()
    found = []
    for training in (examples, wrong):
        model = tiny()
        train(
            model, make_training(training, teacher=teacher, distill_weight=1.0), rng()
        )
        found.append(get_weights(model))
    np.testing.assert_array_equal(*found)


def distance(model, teacher, examples):
    found, wanted = outputs_on(model, examples), outputs_on(teacher, examples)
    batch = examples.batch(np.arange(len(examples)))
    temperature = SETTINGS.temperature
    return float(teacher_distance(make_task(), found, wanted, batch, temperature))


def test_a_student_comes_nearer_to_its_teacher():
    examples, teacher, model = make_examples(40), tiny(1).eval(), tiny()
    training = make_training(examples, teacher=teacher, distill_weight=1.0, epochs=10)
    before = distance(model, teacher, examples)
    train(model, training, rng())
    assert distance(model, teacher, examples) < 0.5 * before


class Teacher(nn.Module):
    """A teacher that notes the inputs and the modes that it is run with."""

    def __init__(self):
        super().__init__()
        self.net, self.seen, self.modes = tiny(1), [], set()

    def forward(self, x):
        self.seen.append(x)
        self.modes |= {self.net.training, torch.is_grad_enabled()}
        return self.net(x)


def test_a_teacher_sees_the_students_batches_in_eval_mode_and_stays_as_it_is():
    teacher = Teacher().eval()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    model, seen = tiny(), []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    training = make_training(make_examples(20), teacher=teacher, distill_weight=0.5)
    train(model, training, rng())
    assert teacher.modes == {False}
    assert len(seen) == len(teacher.seen)
    for own, taught in zip(seen, teacher.seen, strict=True):
        torch.testing.assert_close(own, taught, rtol=0.0, atol=0.0)
    for name, value in teacher.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0.0, atol=0.0)


def test_closed_gates_stay_closed_beside_a_proximal_penalty():
    structure, model = tiny_structure(), tiny()
    full = structure.full()
    aim = PenaltySpec(name="l0+group", strength=0.1)
    gates = build_gates(structure, full, aim)
    penalty = build_penalty(structure, full, get_weights(model), aim)
    with torch.no_grad():
        gates.log_alpha[:3] = -50.0
    training = replace(
        make_training(make_examples(20), penalty=penalty, lr=1e-9), gates=gates
    )
    train(model, training, rng())
    # The answer is that of the gates, not the weights that they were attached to.
    assert np.flatnonzero(zero_units(structure, full, get_weights(model))).tolist() == [
        *range(3)
    ]
