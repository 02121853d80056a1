"""Frozen modules on a client: weights, moments, penalties, gates, and refusals."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.codec.examples import SETTINGS as EXAMPLE
from helpers.tiny_federation import (
    Tiny,
    answer_to,
    make_examples,
    make_setting,
    make_task,
    plan_for,
    start,
    tiny_structure,
)

from fedprune.client.rounds.measure import fit, measure_statistics
from fedprune.client.rounds.model_cache import ModelCache
from fedprune.client.rounds.opened import open_plan
from fedprune.client.rounds.store import ClientStore
from fedprune.client.rounds.train import LocalTraining, train
from fedprune.common import codec
from fedprune.common.codec.fields import OPTIMIZERS
from fedprune.common.errors import PayloadError
from fedprune.common.models.flat import get_weights
from fedprune.common.models.training import is_inside
from fedprune.common.sparsity.gates import LOG_ALPHA, build_gates
from fedprune.common.sparsity.penalty import PenaltySpec, build_penalty
from fedprune.server.rounds.plan import plan_round

FROZEN = ("bn1", "conv1")
SETTINGS = replace(
    EXAMPLE, batch=8, lr=0.01, penalty="none", strength=0.0, distill_weight=0.0,
    frozen=FROZEN,
)  # fmt: skip


def tiny():
    """Return a network whose moments are not those of a fresh one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Tiny()
        for norm in (model.bn, model.bn1, model.bn2):
            norm.running_mean.normal_(std=0.1)
            norm.running_var.uniform_(0.5, 1.5)
            norm.weight.data.uniform_(0.5, 1.5)
    return model


def states(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(before, model):
    """Return the names of the tensors with other bits, counters left out."""
    return {
        name
        for name, value in model.state_dict().items()
        if not torch.equal(value, before[name]) and "num_batches" not in name
    }


def trained(model, penalty=None, gates=None, **changes):
    training = LocalTraining(
        examples=make_examples(24),
        task=make_task(),
        settings=replace(SETTINGS, **changes),
        penalty=penalty,
        teacher=None,
        augment=torch.Generator(),
        gates=gates,
    )
    train(model, training, np.random.default_rng(0))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_only_what_is_not_frozen_is_trained(optimizer):
    model = tiny()
    before = states(model)
    trained(model, optimizer=optimizer, weight_decay=0.1, proximal=0.1)
    free = {name for name in before if not is_inside(name, FROZEN)}
    free = {name for name in free if "num_batches" not in name}
    assert changed(before, model) == free
    assert all(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize("name", ["bn-l1", "group", "l1", "bn-l1+group"])
def test_a_penalty_leaves_frozen_weights_alone(name):
    structure, model = tiny_structure(), tiny()
    weights, keep = get_weights(model), structure.full()
    aim = PenaltySpec(name=name, strength=0.9)
    whole = build_penalty(structure, keep, weights, aim)
    part = build_penalty(structure, keep, weights, replace(aim, frozen=FROZEN))
    free = [tensor for tensor in whole.tensors if not is_inside(tensor, FROZEN)]
    assert [*part.tensors] == free
    assert len(free) < len(whole.tensors)
    before = states(model)
    trained(model, penalty=part)
    assert not {one for one in changed(before, model) if is_inside(one, FROZEN)}


def test_a_penalty_on_norms_that_are_all_frozen_does_not_turn_to_other_weights():
    structure, model = tiny_structure(), tiny()
    aim = PenaltySpec(name="group", strength=0.9, frozen=("bn", "bn1", "bn2"))
    penalty = build_penalty(structure, structure.full(), get_weights(model), aim)
    assert penalty.tensors == ()


@pytest.mark.parametrize("name", ["l0", "targeted-dropout"])
def test_gates_do_not_touch_frozen_modules(name):
    structure, model = tiny_structure(), tiny()
    aim = PenaltySpec(name=name, strength=0.5, frozen=FROZEN)
    gates = build_gates(structure, structure.full(), aim)
    assert gates.points
    assert not [one for one in gates.points if is_inside(one.module, FROZEN)]
    before = states(model)
    trained(model, gates=gates)
    assert not {one for one in changed(before, model) if is_inside(one, FROZEN)}
    if gates.trained:
        assert (gates.log_alpha.detach()[gates.targets] != LOG_ALPHA).all()


def test_a_client_s_own_moments_replace_all_but_those_of_frozen_norms():
    model, sample = tiny(), make_examples(30)
    before = states(model)
    found = fit(model, sample, FROZEN)
    own = {
        f"{norm}.running_{kind}" for norm in ("bn", "bn2") for kind in ("mean", "var")
    }
    assert changed(before, model) == own
    # What the others are measured on has passed the frozen moments.
    plain = measure_statistics(tiny(), sample)
    assert np.array_equal(found.mean[:16], plain.mean[:16])
    assert not np.array_equal(found.mean[16:], plain.mean[16:])


class Client:
    """One client in front of the first round of a federation with a frozen part."""

    def __init__(self, root, **changes):
        self.task = make_task(task__freeze=["conv1", "bn1"], **changes)
        run_spec = make_setting(self.task)
        self.work = plan_round(start(self.task, run_spec), run_spec)
        self.plan = plan_for(self.work)
        self.cache, self.store = ModelCache(self.task), ClientStore(root, "client-000")


def test_an_update_has_no_entry_of_a_frozen_weight(tmp_path):
    client = Client(tmp_path, update__update_density=1.0, update__values="float32")
    assert client.plan.settings.frozen == FROZEN
    data = answer_to(client.plan, client.cache, client.store)
    expected = client.work.expected(client.work.request.assignments[0])
    sent = codec.decode_update(data, expected).delta.indices
    spec = client.work.spec
    named = {spec.tensor_at(int(place)) for place in sent}
    assert named
    assert not {name for name in named if is_inside(name, FROZEN)}


ALL = ("bn", "bn1", "bn2", "conv", "conv1", "conv2", "fc")


@pytest.mark.parametrize(
    ("names", "message"),
    [(("conv9",), "'conv9' is no module"), (ALL, "all weights; want some")],
)
def test_a_plan_that_freezes_too_much_or_what_is_not_there_is_refused(
    tmp_path, names, message
):
    client = Client(tmp_path)
    settings = replace(client.plan.settings, frozen=names)
    with pytest.raises(PayloadError, match=message) as caught:
        open_plan(replace(client.plan, settings=settings), client.cache, client.store)
    assert caught.value.field == "settings.frozen"
