"""The client's half of a round, on one screen: one message in, one message out."""

from fedprune.client.rounds.judge import importance, judged, teacher_outputs
from fedprune.client.rounds.measure import validate
from fedprune.client.rounds.model_cache import ModelCache
from fedprune.client.rounds.opened import Opened
from fedprune.client.rounds.send import send
from fedprune.client.rounds.store import ClientStore
from fedprune.client.rounds.train import LocalTraining, train
from fedprune.common import codec
from fedprune.common.errors import DataError
from fedprune.common.messages import ClientUpdate, RoundPlan
from fedprune.common.models.flat import get_weights
from fedprune.common.seeding import Use, generator, seed_torch
from fedprune.common.sparsity.gates import build_gates
from fedprune.common.sparsity.penalty import PenaltySpec, build_penalty


def run_round(opened: Opened, cache: ModelCache, store: ClientStore) -> bytes:
    """Answer a plan that was opened.

    Raises:
        PayloadError: If the plan does not fit what this client knows.
        DataError: If the client has no example to train on: it abstains.
        IntegrityError: If the server believes that this client holds a teacher that
            it does not: it must be sent again.
    """
    plan = opened.plan
    data = cache.data(plan.client_id)
    if len(data.train) == 0:
        msg = f"client {plan.client_id} holds no training example and abstains"
        raise DataError(msg)
    keep, pooled = plan.broadcast.plan.keep, plan.broadcast.statistics
    teacher = teacher_outputs(opened, cache, store, data.train)
    model, own = judged(opened, cache)
    if own is None and plan.settings.measure:
        msg = f"client {plan.client_id} holds one training example and abstains: batch"
        msg += " norm cannot be measured on it"
        raise DataError(msg)
    validation = validate(model, data.validation, cache.task)
    scores = importance(model, opened, cache, data.train)
    # Clients that train from other moments would each train another network.
    model = cache.network(opened.structure, keep, opened.weights, pooled)
    work = LocalTraining(
        examples=data.train,
        task=cache.task,
        settings=plan.settings,
        penalty=build_penalty(opened.structure, keep, opened.weights, _aim(plan)),
        gates=build_gates(opened.structure, keep, _aim(plan)),
        teacher=teacher,
        mask=None if opened.mask is None else opened.mask.keep,
    )
    seed = plan.settings.seed
    rng = generator(seed, plan.round, plan.client_id, Use.SHUFFLE)
    with seed_torch(seed, plan.round, plan.client_id, Use.DROPOUT):
        loss = train(model, work, rng)
    delta = send(opened, store, get_weights(model) - opened.weights)
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
        statistics=own if plan.settings.measure else None,
        validation=validation,
    )
    return codec.encode_update(update, opened.side_info)


def _aim(plan: RoundPlan) -> PenaltySpec:
    settings = plan.settings
    return PenaltySpec(
        name=settings.penalty, strength=settings.strength, targets=plan.targets
    )
