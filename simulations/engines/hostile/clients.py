"""Hostile clients: they train as the others do, and then change their answer.

The attack is part of the configuration, so workers on Ray have the same hostile clients
as one process.  An answer that they change is a valid message again; their residual is
that of the honest answer.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from fedprune.client.rounds.model_cache import ModelCache
from fedprune.client.rounds.opened import OpenedPlan
from fedprune.client.rounds.round import run_round
from fedprune.client.rounds.send import choose_entries
from fedprune.client.rounds.store import ClientStore
from fedprune.common import codec
from fedprune.common.codec import DecodedUpdate, Expected
from fedprune.common.messages import Phase, QuantisedDelta, RoundPlan
from fedprune.common.methods.forged import Answer
from fedprune.common.methods.kinds import ATTACK
from fedprune.common.methods.registry import find
from fedprune.common.pruning.remap import remap
from fedprune.common.seeding import Use, generator
from fedprune.common.spec import Vector
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.simulations.engines.hostile.names import hostile_names
from fedprune.simulations.engines.hostile.poisoning import PoisonedCache, poisoner_of
from fedprune.simulations.engines.hostile.seen import SeenDeltas, dense

_EXACT = 1e-4  # share of a tensor's energy that steps may lose: a lie need not be short


class HostileClients:
    """The hostile clients among those that a worker runs.

    Args:
        task: The task, whose configuration has an attack.
        root: Folder of the clients' states.
    """

    def __init__(self, task: LoadedTask, root: Path) -> None:
        self._attack = task.config.attack
        self._method = find(ATTACK, self._attack.kind)
        self._names = hostile_names(task.clients, self._attack)
        self._known = task.clients if self._attack.omniscient else self._names
        poison = poisoner_of(task)
        self._poisoned = None if poison is None else PoisonedCache(task, poison)
        self._most = task.config.robust.max_examples
        self._seen = SeenDeltas(root)

    def attacks(self, plan: RoundPlan) -> bool:
        """Return whether the client of a plan is hostile in its round."""
        return plan.client_id in self._names and plan.round >= self._attack.from_round

    def answer(
        self,
        opened: OpenedPlan,
        expected: Expected,
        cache: ModelCache,
        store: ClientStore,
    ) -> bytes:
        """Return the encoded answer of a hostile client.

        Args:
            opened: The plan that it answers.
            expected: Properties of a valid answer.
            cache: Networks and data of the honest clients.
            store: Its own store.

        Raises:
            FedPruneError: As ``run_round``, or if the attack is a user's own and fails.
        """
        if self._poisoned is None:
            last = self._last(opened, store)
            honest = codec.decode_update(run_round(opened, cache, store), expected)
            changed = self._changed(honest, last, opened, expected, cache)
        else:
            settings = opened.plan.settings
            self._poisoned.follow(settings.seed, settings.validation)
            data = run_round(opened, self._poisoned, store)
            factor = np.float32(self._attack.scale or 1.0)
            if factor == 1.0:
                return data
            honest = codec.decode_update(data, expected)
            answer = _content(honest)
            changed = replace(answer, delta=answer.delta * factor)
        return _encoded(honest, changed, opened)

    def _last(self, opened: OpenedPlan, store: ClientStore) -> Vector:
        """Return the delta that a client sent last, for the current plan, float32[n].

        Zeros where the attack does not ask for it, and without a stored residual.
        """
        asked = "last" in self._method.needs and opened.plan.settings.error_feedback
        found = store.load_generation(opened.plan.round) if asked else None
        if found is None:
            return np.zeros(opened.spec.size, dtype=np.float32)
        keep, structure = opened.plan.broadcast.plan.keep, opened.structure
        sent = found.sent_values(structure.spec(found.keep))
        return remap(sent, structure, found.keep, keep)

    def _changed(
        self,
        honest: DecodedUpdate,
        last: Vector,
        opened: OpenedPlan,
        expected: Expected,
        cache: ModelCache,
    ) -> Answer:
        """Return the content of an answer as the attack changes it."""
        plan, needs = opened.plan, self._method.needs
        content = _content(honest)
        seen = None
        if "seen" in needs:
            own = {plan.client_id: content.delta}
            seen = self._seen.known(own, self._known, opened, expected, cache)
        keep = plan.broadcast.plan.keep
        found: Answer = self._method(
            answer=content,
            seen=seen,
            last=last,
            groups=opened.structure.group_of[keep],
            scale=self._attack.scale,
            most=self._most,
            finetune=plan.phase is Phase.FINETUNE,
            rng=generator(plan.settings.seed, plan.round, plan.client_id, Use.ATTACK),
        )
        return found


def _content(update: DecodedUpdate) -> Answer:
    return Answer(
        delta=dense(update.sparse),
        num_examples=update.num_examples,
        importance=update.importance,
        statistics=update.statistics,
        validation=update.validation,
    )


def _encoded(honest: DecodedUpdate, changed: Answer, opened: OpenedPlan) -> bytes:
    """Encode an answer with changed content; a delta that did not change stays."""
    delta = honest.delta
    if not np.array_equal(changed.delta, dense(honest.sparse)):
        delta = _quantised(changed.delta, opened)
    update = replace(
        honest,
        delta=delta,
        num_examples=changed.num_examples,
        importance=changed.importance,
        statistics=changed.statistics,
        validation=changed.validation,
    )
    return codec.encode_update(update, opened.side_info)


def _quantised(delta: Vector, opened: OpenedPlan) -> QuantisedDelta:
    """Choose entries as an honest client would, and quantise them as finely as goes.

    None without training.
    """
    settings = opened.plan.settings
    total = delta if settings.epochs else np.zeros_like(delta)
    if opened.mask is not None:
        total = opened.mask.apply(total)
    chosen = choose_entries(total, settings, opened.side_info)
    return codec.quantise_delta(chosen, opened.spec, settings.values, _EXACT)
