"""Honest deltas that a hostile client knows beside its own.

It computes them itself, from the data and the stored residuals of the clients that it
knows, so that no engine has to bring them together.  It takes the last answer of each
for accepted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from typing_extensions import override

from fedprune.client.rounds.model_cache import ModelCache
from fedprune.client.rounds.opened import OpenedPlan
from fedprune.client.rounds.round import run_round
from fedprune.client.rounds.steps.generations import Generation
from fedprune.client.rounds.store import ClientStore
from fedprune.common import codec
from fedprune.common.codec import Expected
from fedprune.common.errors import FedPruneError
from fedprune.common.messages import SparseDelta
from fedprune.common.spec import Vector


class _ReadStore(ClientStore):
    """The store of another client, in which nothing is changed."""

    @override
    def save_generation(self, generation: Generation) -> None:
        """Store nothing: the client itself does."""

    @override
    def drop_old(self, round_: int) -> bool:
        """Remove nothing."""
        return False


class SeenDeltas:
    """Honest deltas of the current round, each computed once in this process.

    Args:
        root: Folder of the clients' states.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._of: tuple[str, int, bytes] | None = None
        self._rows: dict[str, Vector | None] = {}

    def known(
        self,
        own: Mapping[str, Vector],
        names: Sequence[str],
        opened: OpenedPlan,
        expected: Expected,
        cache: ModelCache,
    ) -> Vector:
        """Return the deltas of some clients, float32[k, weights], by id.

        Args:
            own: Delta of the client that asks, by its name.
            names: Clients that it knows; those that abstain are left out.
            opened: The plan of the client that asks.
            expected: Properties of its valid answer.
            cache: Networks and data of this process.
        """
        plan = opened.plan
        now = (plan.run_id, plan.round, plan.broadcast.digest)
        if self._of != now:
            self._of, self._rows = now, {}
        for name in names:
            if name not in own and name not in self._rows:
                self._rows[name] = self._delta(name, opened, expected, cache)
        rows = {**self._rows, **own}
        found = [rows.get(name) for name in sorted({*names, *own})]
        return np.stack([row for row in found if row is not None])

    def _delta(
        self, name: str, opened: OpenedPlan, expected: Expected, cache: ModelCache
    ) -> Vector | None:
        """Return the honest delta of a client, float32[weights]; None = it abstains."""
        plan = opened.plan
        store = _ReadStore(self._root / plan.run_id, name, durable=False)
        last = store.load_generation(plan.round)
        theirs = replace(
            plan, client_id=name, acknowledged=0 if last is None else last.round
        )
        try:
            data = run_round(replace(opened, plan=theirs), cache, store)
            update = codec.decode_update(data, replace(expected, client_id=name))
        except FedPruneError:
            return None
        return dense(update.sparse)


def dense(delta: SparseDelta) -> Vector:
    """Return a sparse delta as float32[weights], zero where nothing was sent."""
    found = np.zeros(delta.size, dtype=np.float32)
    found[delta.indices] = delta.values
    return found
