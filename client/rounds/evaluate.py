"""Evaluation of networks on a client: importance, and the outputs of a teacher.

Only this client uses either, so both are computed with its own batch-norm moments of
the network's weights (``fedprune.client.rounds.measure.fit``).
"""

import copy

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fedprune.client.rounds.broadcasts import receive_broadcast
from fedprune.client.rounds.measure import FEWEST, MEASURED, balanced, classes_of, fit
from fedprune.client.rounds.model_cache import ModelCache
from fedprune.client.rounds.opened import OpenedPlan, store_teacher, stored_teacher
from fedprune.client.rounds.score import score
from fedprune.client.rounds.steps.covariances import covariances
from fedprune.client.rounds.steps.quantisers import INT8
from fedprune.client.rounds.store import ClientStore
from fedprune.common import codec
from fedprune.common.data.examples import Examples
from fedprune.common.messages import Covariances, RoundPlan, Statistics
from fedprune.common.profiling.activities import Activity
from fedprune.common.profiling.recorder import during
from fedprune.common.pruning.plan import check_plan
from fedprune.common.pruning.reconstruction.inputs import sizes
from fedprune.common.seeding import Use, generator
from fedprune.common.spec import Indices, Vector


def sample_of(plan: RoundPlan, examples: Examples) -> Examples:
    """Return the examples that a client measures moments on, the same in all rounds.

    At most ``MEASURED``, even over the classes: data that lies in class order would
    otherwise give moments of a few classes.
    """
    rng = generator(plan.settings.seed, 0, plan.client_id, Use.MEASURE)
    return examples.take(balanced(examples, MEASURED, rng))


def with_own_moments(
    opened: OpenedPlan, cache: ModelCache
) -> tuple[nn.Module, Statistics | None]:
    """Return the broadcast network with this client's own moments, and these moments.

    The next network of the model cache may be the same object.
    """
    plan = opened.plan
    sent = plan.broadcast
    keep, pooled = sent.plan.keep, sent.statistics
    model = cache.network(opened.structure, keep, opened.weights, pooled)
    examples = cache.data(plan.client_id).train
    return model, fit(model, sample_of(plan, examples), plan.settings.frozen)


def teacher_network(
    opened: OpenedPlan, cache: ModelCache, store: ClientStore, examples: Examples
) -> nn.Module | None:
    """Return the teacher with this client's own moments, or None without one.

    The teacher of a round that trains for int8 is its own broadcast.

    A network of its own: the student may be cut as the teacher is.
    """
    if opened.plan.settings.distill_weight <= 0.0:
        return None
    with during(Activity.TEACHER):
        return _teacher(opened, cache, store, examples)


def _teacher(
    opened: OpenedPlan, cache: ModelCache, store: ClientStore, examples: Examples
) -> nn.Module | None:
    plan, structure = opened.plan, opened.structure
    if plan.settings.quantise == INT8:
        return copy.deepcopy(with_own_moments(opened, cache)[0]).eval()
    if not plan.teacher:
        return None
    came = plan.teacher_broadcast
    if came is not None:
        store_teacher(came.digest, lambda: came, store)
    broadcast = came or stored_teacher(plan.teacher, store)
    check_plan(structure, broadcast.plan)
    decoded = cache.decoded(
        broadcast, lambda: receive_broadcast(broadcast, structure, store)
    )
    codec.check_weights(decoded.weights, plan.teacher)
    keep, pooled = broadcast.plan.keep, plan.teacher_statistics
    model = cache.network(structure, keep, decoded.weights, pooled)
    fit(model, sample_of(plan, examples), plan.settings.frozen)
    return copy.deepcopy(model).eval()


def importance(
    model: nn.Module, opened: OpenedPlan, cache: ModelCache, examples: Examples
) -> Vector | None:
    """Return the importance of the broadcast's units, or None to abstain.

    A client of one class abstains, and so does one with too few examples to measure
    the batch-norm moments of these weights.

    Args:
        model: The broadcast network, with this client's own moments.
        opened: The plan.
        cache: Has the task.
        examples: The client's training examples.

    Returns:
        float32[kept units], >= 0, or None.
    """
    plan = opened.plan
    if not plan.settings.importance:
        return None
    if abstains(examples, opened.spec.moments):
        return None
    keep = plan.broadcast.plan.keep
    return score(
        model,
        _scored(plan, examples),
        cache.task,
        opened.structure,
        keep,
        plan.settings,
        draws=generator(
            plan.settings.seed, plan.round, plan.client_id, Use.RANDOM_SCORE
        ),
    )


def told_covariances(
    model: nn.Module, opened: OpenedPlan, examples: Examples
) -> Covariances | None:
    """Return the covariances of what layers read, or None.

    None where they are not asked for, no layer can be measured, or the client abstains.
    Measured like the importance, on the same examples, and told under the same
    conditions.
    """
    plan = opened.plan
    if not plan.settings.covariances or abstains(examples, opened.spec.moments):
        return None
    keep, batch = plan.broadcast.plan.keep, plan.settings.batch
    if not any(sizes(opened.structure, keep)):
        return None
    return covariances(model, _scored(plan, examples), opened.structure, keep, batch)


def dealt(
    places: Indices, classes: NDArray[np.int64] | None, batch_size: int
) -> Indices:
    """Return positions in an order in which each batch has all classes.

    Data may lie in the order of its classes, as folders of images do.  Criteria that
    compare the examples of a batch would see one class at a time then.  Other data
    stays as it is.

    Args:
        places: Positions of the examples, int64[k].
        classes: Class of each example there is, or None where it has none.
        batch_size: Examples that are measured at once, >= 1.

    >>> dealt(np.arange(6), np.array([0, 0, 0, 1, 1, 1]), 2)
    array([0, 3, 1, 4, 2, 5])
    """
    if classes is None or np.any(np.diff(classes[places]) < 0):
        return places
    batches = -(-len(places) // batch_size)
    return places[np.argsort(np.arange(len(places)) % max(batches, 1), kind="stable")]


def _scored(plan: RoundPlan, examples: Examples) -> Examples:
    """Return the examples that a round's importance is measured on."""
    settings = plan.settings
    rng = generator(settings.seed, plan.round, plan.client_id, Use.SCORE)
    chosen = balanced(examples, settings.score_examples, rng)
    return examples.take(dealt(chosen, classes_of(examples), settings.batch))


def abstains(examples: Examples, moments: int) -> bool:
    """Return whether a client has too few examples or classes to score.

    One class shows no contrast, and few examples no moments of batch norm.

    Args:
        examples: Its training examples.
        moments: Number of batch-norm channels of the network, >= 0.
    """
    classes = classes_of(examples)
    if classes is not None and len(np.unique(classes)) < 2:  # noqa: PLR2004
        return True
    return moments > 0 and len(examples) < FEWEST
