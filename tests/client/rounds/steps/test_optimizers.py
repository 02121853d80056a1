"""Optimisers of local training: their formulas, and all that acts beside them."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.codec.examples import SETTINGS as EXAMPLE
from helpers.processes import PATHS
from helpers.tiny_federation import Tiny, make_examples, make_task, tiny_structure
from torch import nn

from fedprune.client.rounds.steps.optimizers import Sgd, build_optimizer
from fedprune.client.rounds.train import LocalTraining, train
from fedprune.common.codec.fields import OPTIMIZERS
from fedprune.common.errors import ConfigError
from fedprune.common.models.flat import get_weights
from fedprune.common.sparsity.gates import LOG_ALPHA, build_gates
from fedprune.common.sparsity.penalty import DualSteps, PenaltySpec, build_penalty

SETTINGS = replace(
    EXAMPLE, batch=8, lr=0.01, penalty="none", strength=0.0, distill_weight=0.0
)
DECAY = 0.5
OTHERS = [name for name in OPTIMIZERS if name != "sgd"]  # of torch, on a CPU too


def tiny(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Tiny()


def make_training(optimizer, examples=None, **changes):
    fields = {name: changes.pop(name, None) for name in ("penalty", "gates", "mask")}
    return LocalTraining(
        examples=make_examples(24) if examples is None else examples,
        task=make_task(),
        settings=replace(SETTINGS, optimizer=optimizer, **changes),
        teacher=None,
        augment=torch.Generator(),
        **fields,
    )


def trained(training, seed=0):
    """Return the weights after one local training, and its loss."""
    model = tiny()
    loss = train(model, training, np.random.default_rng(seed)).loss
    return get_weights(model), loss


def first_step(optimizer, weight, gradient):
    """Return the weight after one step, by the formulas that the papers have."""
    lr, decay = SETTINGS.lr, DECAY
    decayed = gradient + decay * weight
    return {
        "sgd": weight - lr * decayed,
        "adam": weight - lr * decayed / (abs(decayed) + 1e-8),
        "adamw": weight * (1 - lr * decay) - lr * gradient / (abs(gradient) + 1e-8),
        "rmsprop": weight - lr * decayed / (abs(decayed) * 0.1 + 1e-8),
    }[optimizer]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_first_step_is_that_of_the_formula(optimizer):
    weight = nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
    gradient = torch.tensor([0.3, 0.1, -4.0], dtype=torch.float64)
    settings = replace(SETTINGS, optimizer=optimizer, weight_decay=DECAY)
    steps = build_optimizer([weight], settings)
    weight.grad = gradient.clone()
    before = weight.detach().clone()
    steps.step()
    wanted = first_step(optimizer, before, gradient)
    torch.testing.assert_close(weight.detach(), wanted, rtol=1e-9, atol=1e-12)


def test_momentum_is_that_of_rmsprop_and_the_first_beta_of_adam():
    found = {}
    for name in OTHERS:
        weight = nn.Parameter(torch.zeros(1))
        settings = replace(SETTINGS, optimizer=name, momentum=0.3)
        (group,) = build_optimizer([weight], settings).param_groups
        found[name] = group["betas"][0] if "betas" in group else group["momentum"]
    assert found == dict.fromkeys(OTHERS, 0.3)


def test_an_unknown_optimiser_is_refused():
    with pytest.raises(ConfigError, match=r"'lion'; want one of sgd, adam"):
        build_optimizer([], replace(SETTINGS, optimizer="lion"))


def test_a_weight_without_a_gradient_is_not_given_to_the_optimiser():
    free, fixed = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    fixed.requires_grad = False
    settings = replace(SETTINGS, optimizer="adamw", weight_decay=DECAY)
    (group,) = build_optimizer([free, fixed], settings).param_groups
    assert len(group["params"]) == 1
    assert group["params"][0] is free


def test_sgd_without_decay_has_the_bits_of_plain_sgd():
    examples = make_examples(8)
    weights, _ = trained(make_training("sgd", examples, epochs=3, clip=0.0))
    model, task, rng = tiny(), make_task(), np.random.default_rng(0)
    orders = [rng.permutation(8) for _ in range(3)]
    plain = torch.optim.SGD(model.parameters(), lr=SETTINGS.lr, momentum=0.9)
    model.train()
    for order in orders:
        batch = examples.batch(order)
        plain.zero_grad()
        task.loss(model(batch.inputs), batch).mean().backward()
        plain.step()
    assert get_weights(model).tobytes() == weights.tobytes()


def test_every_optimiser_trains_to_other_weights_and_is_fresh_each_time():
    found = [
        trained(make_training(name, weight_decay=0.1))[0].tobytes()
        for name in (*OPTIMIZERS, *OPTIMIZERS)
    ]
    assert len(set(found)) == len(OPTIMIZERS)
    assert found[: len(OPTIMIZERS)] == found[len(OPTIMIZERS) :]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimiser_learns(optimizer):
    first = trained(make_training(optimizer, epochs=1))[1]
    assert trained(make_training(optimizer, epochs=15))[1] < 0.7 * first


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weight_decay_makes_weights_smaller(optimizer):
    plain, _ = trained(make_training(optimizer, epochs=5))
    decayed, _ = trained(make_training(optimizer, epochs=5, weight_decay=2.0))
    assert np.linalg.norm(decayed) < np.linalg.norm(plain)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_masked_weights_stay_exactly_zero_under_weight_decay(optimizer):
    keep = np.random.default_rng(0).random(len(get_weights(tiny()))) < 0.5
    training = make_training(optimizer, mask=keep, weight_decay=0.1)
    weights, _ = trained(training)
    assert not weights[~keep].any()
    assert np.count_nonzero(weights[keep]) > 0.9 * keep.sum()


def penalty_of(strength, targets=None):
    aim = PenaltySpec(name="bn-l1", strength=strength, targets=targets)
    structure = tiny_structure()
    return build_penalty(structure, structure.full(), get_weights(tiny()), aim)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_network_holds_the_shrunken_weights_of_the_sum_of_all_steps(optimizer):
    model, penalty = tiny(), penalty_of(0.5)
    settings = replace(SETTINGS, optimizer=optimizer, weight_decay=0.1)
    steps = build_optimizer(model.parameters(), settings)
    named = dict(model.named_parameters())
    dual = DualSteps(penalty, named, 3)
    wanted = {name: named[name].detach().clone() for name in penalty.tensors}
    examples, task = make_examples(24).batch(np.arange(24)), make_task()
    for done in (1, 2, 3):
        before = {name: named[name].detach().clone() for name in penalty.tensors}
        steps.zero_grad()
        task.loss(model(examples.inputs), examples).mean().backward()
        steps.step()
        for name in wanted:
            wanted[name] += named[name].detach() - before[name]
        dual.after_step()
        shrunken = {name: one.clone() for name, one in wanted.items()}
        penalty.shrink(shrunken, done / 3)
        for name, one in shrunken.items():
            torch.testing.assert_close(named[name].detach(), one)
    dual.restore()
    for name, one in wanted.items():
        torch.testing.assert_close(named[name].detach(), one)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_penalty_ends_with_the_weights_in_front_of_the_shrink(optimizer):
    weights, _ = trained(make_training(optimizer, penalty=penalty_of(50.0)))
    plain, _ = trained(make_training(optimizer))
    assert not np.array_equal(weights, plain)
    assert np.count_nonzero(weights == 0.0) == np.count_nonzero(plain == 0.0)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_gates_are_trained_beside_every_optimiser(optimizer):
    structure = tiny_structure()
    gates = build_gates(
        structure, structure.full(), PenaltySpec(name="l0", strength=0.5)
    )
    weights, _ = trained(make_training(optimizer, gates=gates))
    assert np.isfinite(weights).all()
    assert (gates.log_alpha.detach()[gates.targets] != LOG_ALPHA).all()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_clipped_gradient_reaches_every_optimiser(optimizer):
    # Far below the 1e-8 that Adam and RMSprop add to their roots.
    still = make_training(optimizer, clip=1e-12, momentum=0.0, epochs=1)
    moved = np.abs(trained(still)[0] - get_weights(tiny())).max()
    assert moved < 0.1 * SETTINGS.lr
    free = make_training(optimizer, clip=0.0, momentum=0.0, epochs=1)
    assert np.abs(trained(free)[0] - get_weights(tiny())).max() > 10 * moved


def test_steps_in_bfloat16_leave_float32_weights_near_those_of_float32():
    seen = []

    class Watched(Tiny):
        def forward(self, x):
            outputs = super().forward(x)
            seen.append(outputs.dtype)
            return outputs

    found = {}
    for precision in ("float32", "bf16"):
        model = Watched()
        model.load_state_dict(tiny().state_dict())
        training = make_training("sgd", precision=precision)
        loss = train(model, training, np.random.default_rng(0)).loss
        assert {weight.dtype for weight in model.parameters()} == {torch.float32}
        found[precision] = get_weights(model)
        assert isinstance(loss, float)
        assert np.isfinite(loss)
    half = len(seen) // 2
    assert {*seen[:half]} == {torch.float32}
    assert {*seen[half:]} == {torch.bfloat16}
    moved = np.linalg.norm(found["float32"] - get_weights(tiny()))
    off = np.linalg.norm(found["bf16"] - found["float32"])
    assert 0.0 < off < 0.2 * moved


def test_a_teacher_is_followed_in_bfloat16():
    examples = make_examples(24)
    training = make_training("sgd", examples, precision="bf16", distill_weight=1.0)
    weights, loss = trained(replace(training, teacher=tiny(1).eval()))
    assert np.isfinite(loss)
    assert not np.array_equal(weights, get_weights(tiny()))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_sgd_on_a_cpu_has_the_bits_of_torch(momentum, decay):
    ours, theirs = ([*nn.Linear(50, 40).parameters()] for _ in range(2))
    for one, other in zip(ours, theirs, strict=True):
        other.data.copy_(one.data)
    settings = replace(
        SETTINGS, optimizer="sgd", lr=0.05, momentum=momentum, weight_decay=decay
    )
    mine = build_optimizer(ours, settings)
    assert isinstance(mine, Sgd)
    reference = torch.optim.SGD(theirs, lr=0.05, momentum=momentum, weight_decay=decay)
    for number in range(6):
        mine.zero_grad()
        reference.zero_grad()
        for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            if (number, place) == (3, 1):  # a weight that no output depends on
                continue
            one.grad = torch.randn(one.shape)
            other.grad = one.grad.clone()
        mine.step()
        reference.step()
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one, other)


@pytest.mark.slow
def test_training_on_a_cpu_imports_no_compiler_of_torch(tmp_path):
    code = (
        "import sys; from pathlib import Path; "
        "from helpers.tiny_federation import *; "
        "from fedprune.server.rounds.plan import plan_round; "
        "task = make_task(); spec = make_setting(task); "
        "work = plan_round(start(task, spec), spec); "
        "answers = ask_all(work, task, Path(sys.argv[1])); "
        "assert len(answers.accepted) == 4; "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": PATHS},
        check=False,
    )
    assert done.returncode == 0
