"""Attacks by hostile clients: valid messages with false content, in this process.

A hostile client trains as the others do, then its answer is decoded, altered and
encoded again: digest and format are valid, the content is false.  Tests and the
first-aid benchmark use it.  Workers on Ray are other processes and stay honest.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import fedprune.simulations.engines.worker
from fedprune.client.rounds.model_cache import ModelCache
from fedprune.client.rounds.opened import OpenedPlan
from fedprune.client.rounds.store import ClientStore
from fedprune.common import codec
from fedprune.common.aggregate import Limits
from fedprune.common.codec import DecodedUpdate
from fedprune.common.messages import (
    ClientUpdate,
    Phase,
    RoundPlan,
    SparseDelta,
    Validation,
)
from fedprune.common.spec import ModelSpec
from fedprune.server.rounds.engine import Assignment, RoundRequest, expect

MEAN, VARIANCE = 50.0, 1e-3  # moments that no layer of an honest client has
LOSS = 1e30
_MAX_BYTES = (1 << 31) - 1
_EXACT = 1e-4  # share of a tensor's energy that its steps may lose
_CLAIM = 1000  # times its number of examples


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Knowledge of a hostile client: the opened plan and its model cache.

    Attributes:
        opened: The opened round plan.
        cache: The networks and data of its process.
    """

    opened: OpenedPlan
    cache: ModelCache

    @property
    def plan(self) -> RoundPlan:
        """The round plan, as received."""
        return self.opened.plan

    @property
    def most(self) -> int:
        """The largest number of examples that a message may claim."""
        return self.cache.task.config.robust.max_examples


Forge = Callable[[Scene, bytes], bytes]
Attack = Callable[[DecodedUpdate, ModelSpec, Scene], ClientUpdate]


@contextmanager
def hostile(forge: Forge) -> Iterator[None]:
    """Give every answer of every client to ``forge`` while the block runs."""
    module: Any = fedprune.simulations.engines.worker
    honest = module.run_round

    def answer(opened: OpenedPlan, cache: ModelCache, store: ClientStore) -> bytes:
        scene = Scene(opened=opened, cache=cache)
        return forge(scene, honest(opened, cache, store))

    module.run_round = answer
    try:
        yield
    finally:
        module.run_round = honest


def by(clients: Collection[str], attack: Attack) -> Forge:
    """Return the forger that alters the answers of some clients only."""

    def forge(scene: Scene, answer: bytes) -> bytes:
        hit = scene.plan.client_id in clients
        return altered(attack, scene, answer) if hit else answer

    return forge


def altered(attack: Attack, scene: Scene, answer: bytes) -> bytes:
    """Return an honest answer as the attack changes it: again a valid message."""
    opened = scene.opened
    request = RoundRequest(
        variants=(),
        assignments=(),
        limits=Limits(clients=1, max_examples=scene.most),
        max_bytes=_MAX_BYTES,
        individual_updates=False,
    )
    assignment = Assignment(
        client_id=scene.plan.client_id,
        variant=0,
        acknowledged=0,
        max_weight=scene.most,
    )
    expected = expect(scene.plan, opened.side_info, request, assignment)
    update = codec.decode_update(answer, expected)
    forged = attack(update, opened.spec, scene)
    return codec.encode_update(forged, opened.side_info)


def scaled(update: DecodedUpdate, spec: ModelSpec, factor: float) -> ClientUpdate:
    """Return an update whose delta is ``factor`` times as long, on its own grid."""
    sent = update.sparse
    longer = SparseDelta(
        size=sent.size,
        indices=sent.indices,
        values=sent.values * np.float32(factor),
    )
    delta = codec.quantise_delta(longer, spec, update.delta.kind, _EXACT)
    return replace(update, delta=delta)


def claim_and_flip(
    update: DecodedUpdate, spec: ModelSpec, scene: Scene
) -> ClientUpdate:
    """Claim a thousand times the examples and send the delta with its sign turned."""
    claimed = min(_CLAIM * update.num_examples, scene.most)
    return replace(scaled(update, spec, -1.0), num_examples=claimed)


def moments(update: ClientUpdate, scene: Scene, *, claim: bool) -> ClientUpdate:
    """Send false batch-norm moments, claimed for all examples or for its own.

    Rounds that ask for no moments get none.
    """
    honest = update.statistics
    if honest is None:
        return update
    forged = replace(
        honest,
        num_examples=scene.most if claim else honest.num_examples,
        mean=np.full_like(honest.mean, MEAN),
        variance=np.full_like(honest.variance, VARIANCE),
    )
    return replace(update, statistics=forged)


def validates_bad_after_cuts(update: ClientUpdate, scene: Scene) -> ClientUpdate:
    """Report the worst validation of the broadcast in every fine-tune round."""
    if scene.plan.phase is not Phase.FINETUNE:
        return update
    bad = Validation(loss_sum=LOSS, metric_sum=0.0, count=scene.most)
    return replace(update, validation=bad)


def validates_good(update: ClientUpdate, scene: Scene) -> ClientUpdate:
    """Report a perfect validation of the broadcast in every round."""
    count = scene.most
    good = Validation(loss_sum=0.0, metric_sum=float(count), count=count)
    return replace(update, validation=good)


ATTACKS: Mapping[str, Attack] = {
    "examples x 1000, sign flipped": claim_and_flip,
    "delta x 100": lambda update, spec, _: scaled(update, spec, 100.0),
    "delta x 100, sign flipped": lambda update, spec, _: scaled(update, spec, -100.0),
    "moments, most examples": lambda update, _, scene: moments(
        update, scene, claim=True
    ),
    "moments, own examples": lambda update, _, scene: moments(
        update, scene, claim=False
    ),
    "validation bad after cuts": lambda update, _, scene: validates_bad_after_cuts(
        update, scene
    ),
    "validation always good": lambda update, _, scene: validates_good(update, scene),
}
