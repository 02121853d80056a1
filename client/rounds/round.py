"""The client's half of a round, on one screen: one message in, one message out."""

from torch import Tensor, nn

from fedprune.client.rounds.judge import importance, judged, teacher_outputs
from fedprune.client.rounds.measure import validate
from fedprune.client.rounds.model_cache import ModelCache
from fedprune.client.rounds.opened import Opened
from fedprune.client.rounds.send import send
from fedprune.client.rounds.store import ClientStore
from fedprune.client.rounds.train import LocalTraining, train
from fedprune.common import codec
from fedprune.common.data.examples import Examples
from fedprune.common.errors import DataError
from fedprune.common.messages import ClientUpdate, RoundPlan, Statistics
from fedprune.common.models.flat import get_weights
from fedprune.common.seeding import Use, generator, seed_torch
from fedprune.common.sparsity.gates import build_gates
from fedprune.common.sparsity.penalty import PenaltySpec, build_penalty
from fedprune.common.spec import Vector
from fedprune.common.task import ClientData


def run_round(opened: Opened, cache: ModelCache, store: ClientStore) -> bytes:
    """Answer a plan that was opened.

    Raises:
        PayloadError: If the plan does not fit what this client knows.
        DataError: If the client has no example to train on: it abstains.
        IntegrityError: If the server believes that this client holds a teacher that
            it does not: it must be sent again.
    """
    plan = opened.plan
    # 1. Take this client's examples; without any it abstains.
    data = _examples(opened, cache)
    # 2. Take the teacher's outputs on them, where the plan names a teacher.
    teacher = teacher_outputs(opened, cache, store, data.train)
    # 3. Judge the broadcast with this client's own moments: validation, importance.
    model, statistics = _measured(opened, cache)
    validation = validate(model, data.validation, cache.task)
    scores = importance(model, opened, cache, data.train)
    # 4. Train from the weights and the moments that all clients were sent.
    trained, loss = _train(opened, cache, data.train, teacher)
    # 5. Choose what is sent of the change, and keep the rest for later rounds.
    delta = send(opened, store, _change(trained, opened))
    # 6. Answer in one message.
    update = ClientUpdate(
        run_id=plan.run_id,
        round=plan.round,
        client_id=plan.client_id,
        plan=plan.broadcast.plan.digest,
        base=plan.broadcast.digest,
        num_examples=len(data.train),
        loss=loss,
        delta=delta,
        importance=scores,
        statistics=statistics if plan.settings.measure else None,
        validation=validation,
    )
    return codec.encode_update(update, opened.side_info)


def _examples(opened: Opened, cache: ModelCache) -> ClientData:
    """Return the client's examples.

    Raises:
        DataError: If none is left to train on.
    """
    client = opened.plan.client_id
    data = cache.data(client)
    if len(data.train) == 0:
        msg = f"client {client} holds no training example and abstains"
        raise DataError(msg)
    return data


def _measured(opened: Opened, cache: ModelCache) -> tuple[nn.Module, Statistics | None]:
    """Return the broadcast with this client's moments of it, and these.

    Raises:
        DataError: If the plan asks for moments that one example cannot give.
    """
    plan = opened.plan
    model, own = judged(opened, cache)
    if own is None and plan.settings.measure:
        msg = f"client {plan.client_id} holds one training example and abstains: batch"
        msg += " norm cannot be measured on it"
        raise DataError(msg)
    return model, own


def _train(
    opened: Opened, cache: ModelCache, examples: Examples, teacher: Tensor | None
) -> tuple[nn.Module, float]:
    """Return the broadcast network after the local epochs, and its training loss."""
    plan = opened.plan
    keep, pooled = plan.broadcast.plan.keep, plan.broadcast.statistics
    # Clients that train from other moments would each train another network.
    model = cache.network(opened.structure, keep, opened.weights, pooled)
    aim = _aim(plan)
    work = LocalTraining(
        examples=examples,
        task=cache.task,
        settings=plan.settings,
        penalty=build_penalty(opened.structure, keep, opened.weights, aim),
        gates=build_gates(opened.structure, keep, aim),
        teacher=teacher,
        mask=None if opened.mask is None else opened.mask.keep,
    )
    seed = plan.settings.seed
    rng = generator(seed, plan.round, plan.client_id, Use.SHUFFLE)
    with seed_torch(seed, plan.round, plan.client_id, Use.DROPOUT):
        return model, train(model, work, rng)


def _change(model: nn.Module, opened: Opened) -> Vector:
    """Return the trained weights minus those of the broadcast, float32[n]."""
    change: Vector = get_weights(model) - opened.weights
    return change


def _aim(plan: RoundPlan) -> PenaltySpec:
    settings = plan.settings
    return PenaltySpec(
        name=settings.penalty, strength=settings.strength, targets=plan.targets
    )
