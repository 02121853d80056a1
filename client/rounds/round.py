"""The client's half of a round, step by step: one message in, one message out."""

from dataclasses import replace

import numpy as np
from torch import nn

from fedprune.client.rounds.evaluate import (
    importance,
    teacher_network,
    told_covariances,
    with_own_moments,
)
from fedprune.client.rounds.measure import validate
from fedprune.client.rounds.model_cache import ModelCache
from fedprune.client.rounds.opened import OpenedPlan
from fedprune.client.rounds.send import send
from fedprune.client.rounds.steps.noise import own_noise
from fedprune.client.rounds.steps.quantisers import quantiser_of
from fedprune.client.rounds.store import ClientStore
from fedprune.client.rounds.train import LocalTraining, Trained, train
from fedprune.common import codec
from fedprune.common.data.examples import Examples
from fedprune.common.errors import DataError
from fedprune.common.messages import ClientUpdate, RoundPlan, Statistics
from fedprune.common.models.flat import get_running, get_weights
from fedprune.common.profiling.activities import Activity
from fedprune.common.profiling.recorder import during
from fedprune.common.seeding import Use, generator, seed_globals, torch_generator
from fedprune.common.sparsity.gates import build_gates
from fedprune.common.sparsity.penalty import PenaltySpec
from fedprune.common.sparsity.shared import CODEBOOK, first_entries
from fedprune.common.spec import Vector
from fedprune.common.tasks.loaded import ClientData


def run_round(opened: OpenedPlan, cache: ModelCache, store: ClientStore) -> bytes:
    """Return the encoded answer to an opened plan.

    Raises:
        PayloadError: If the plan contradicts what this client has stored.
        DataError: If the client has no example to train on, or none that counts: it
            abstains.
        IntegrityError: If the plan leaves out a teacher that is not stored here: it
            must be sent again.
    """
    return encode(make_update(opened, cache, store), opened)


def make_update(
    opened: OpenedPlan, cache: ModelCache, store: ClientStore
) -> ClientUpdate:
    """Return the answer to an opened plan; raises as ``run_round``."""
    plan = opened.plan
    # Data and collate of a user's own may draw from the global generators.
    with seed_globals(plan.settings.seed, plan.round, plan.client_id, Use.DATA):
        return _answer(opened, cache, store)


def encode(update: ClientUpdate, opened: OpenedPlan) -> bytes:
    """Return the message of an answer to an opened plan."""
    with during(Activity.ENCODING):
        return codec.encode_update(update, opened.side_info)


def _answer(opened: OpenedPlan, cache: ModelCache, store: ClientStore) -> ClientUpdate:
    plan = opened.plan
    # 1. Load this client's examples; without any it abstains.
    with during(Activity.DATA):
        data = _examples(opened, cache)
    # 2. Build the teacher, where the plan names one.
    teacher = teacher_network(opened, cache, store, data.train)
    # 3. Evaluate the broadcast with this client's own moments: validation, importance.
    with during(Activity.MEASURING):
        model, statistics = _measured(opened, cache)
        validation = validate(model, data.validation, cache.task)
    with during(Activity.SCORING):
        scores = importance(model, opened, cache, data.train)
        told = told_covariances(model, opened, data.train)
    # 4. Train from the weights and the moments that all clients were sent.
    with during(Activity.TRAINING):
        network, trained = _train(opened, cache, data.train, teacher)
    state = _answered(statistics, network, opened, trained.counted)
    # 5. Choose the entries of the delta that are sent, and store the residual.
    noise = own_noise(opened, cache.task.config)
    with during(Activity.SELECTION):
        change = _delta(network, opened)
        delta = send(opened, store, noise.on_delta(change) if noise else change)
    # 6. The answer, which is encoded as one message.
    update = ClientUpdate(
        run_id=plan.run_id,
        round=plan.round,
        client_id=plan.client_id,
        plan=plan.broadcast.plan.digest,
        base=plan.broadcast.digest,
        num_examples=trained.counted,
        loss=trained.loss,
        delta=delta,
        importance=scores,
        statistics=state,
        validation=validation,
        covariances=told,
    )
    if noise is None:
        return update
    return noise.on_figures(
        update,
        plan.broadcast.statistics,
        validated=bool(plan.settings.validation),
        units=opened.spec.units if plan.settings.importance else 0,
    )


def _examples(opened: OpenedPlan, cache: ModelCache) -> ClientData:
    """Return the client's examples.

    Raises:
        DataError: If there is no training example.
    """
    client = opened.plan.client_id
    data = cache.data(client)
    if len(data.train) == 0:
        msg = f"client {client} has no training example and abstains"
        raise DataError(msg)
    least = cache.task.config.privacy.min_examples
    if len(data.train) < least:
        # How many it has is what is to be hidden.
        msg = f"client {client} has too few training examples and abstains: "
        msg += f"privacy.min_examples is {least} here"
        raise DataError(msg)
    return data


def _measured(
    opened: OpenedPlan, cache: ModelCache
) -> tuple[nn.Module, Statistics | None]:
    """Return the broadcast network with this client's own moments, and these moments.

    Raises:
        DataError: If the plan needs moments, and there is one example only.
    """
    plan = opened.plan
    model, own = with_own_moments(opened, cache)
    if own is None and plan.settings.measure:
        msg = f"client {plan.client_id} has one training example and abstains: batch"
        msg += " norm cannot be measured on it"
        raise DataError(msg)
    return model, own


def _train(
    opened: OpenedPlan,
    cache: ModelCache,
    examples: Examples,
    teacher: nn.Module | None,
) -> tuple[nn.Module, Trained]:
    """Return the broadcast network after the local epochs, and their figures.

    Raises:
        DataError: If no training example has a target that counts.
    """
    plan = opened.plan
    keep, pooled = plan.broadcast.plan.keep, plan.broadcast.statistics
    # Each client's own moments would make the clients train different networks.
    model = cache.network(opened.structure, keep, opened.weights, pooled)
    penalty_spec = _penalty_spec(plan)
    work = LocalTraining(
        examples=examples,
        task=cache.task,
        settings=plan.settings,
        penalty=cache.penalty(
            opened.structure, plan.broadcast, opened.weights, penalty_spec
        ),
        gates=build_gates(opened.structure, keep, penalty_spec),
        teacher=teacher,
        augment=torch_generator(
            plan.settings.seed, plan.round, plan.client_id, Use.AUGMENT
        ),
        mask=None if opened.mask is None else opened.mask.keep,
        quantiser=quantiser_of(model, plan.settings.quantise),
    )
    seed = plan.settings.seed
    rng = generator(seed, plan.round, plan.client_id, Use.SHUFFLE)
    with seed_globals(seed, plan.round, plan.client_id, Use.DROPOUT):
        trained = train(model, work, rng)
    if not trained.counted:
        msg = f"client {plan.client_id} has no training example with a target that "
        raise DataError(msg + "counts, and abstains")
    cache.check_constants(opened.structure, keep, model)
    return model, trained


def _answered(
    statistics: Statistics | None, trained: nn.Module, opened: OpenedPlan, count: int
) -> Statistics | None:
    """Return the moments and running values that the plan asks for, or None."""
    settings, running = opened.plan.settings, opened.spec.running
    asked = statistics if settings.measure else None
    if not running or not settings.epochs:
        return asked
    values = get_running(trained, [buffer.name for buffer in running])
    if asked is not None:
        return replace(asked, running=values)
    none = np.zeros(0, dtype=np.float32)
    return Statistics(num_examples=count, mean=none, variance=none, running=values)


def _delta(model: nn.Module, opened: OpenedPlan) -> Vector:
    """Return the trained weights minus those of the broadcast, float32[n].

    Of a codebook only the first weight of each value, for all of them.
    """
    delta: Vector = get_weights(model) - opened.weights
    if opened.plan.settings.quantise != CODEBOOK:
        return delta
    return np.where(first_entries(opened.weights, opened.spec), delta, np.float32(0))


def _penalty_spec(plan: RoundPlan) -> PenaltySpec:
    settings = plan.settings
    return PenaltySpec(
        name=settings.penalty,
        strength=settings.strength,
        targets=plan.targets,
        frozen=settings.frozen,
    )
