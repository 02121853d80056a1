"""A worker: a process that plays a list of clients, one after another.

For each client it really frames the message down, has it decoded, trains, encodes the
answer, and then reads that answer as the server would: decode, validate, add to a
partial sum.  Engines differ only in how a worker is reached.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from fedprune.client.rounds.opened import open_plan
from fedprune.client.rounds.round import run_round
from fedprune.client.rounds.store import ClientStore
from fedprune.client.rounds.workbench import Workbench
from fedprune.common import codec
from fedprune.common.aggregate import Accumulator
from fedprune.common.errors import FedPruneError, PayloadError
from fedprune.common.messages import ClientRecord, Status
from fedprune.common.task import Task
from fedprune.common.text import told
from fedprune.server.rounds.accept import accept_answer, failure, refusal
from fedprune.server.rounds.engine import Asking, Order, Part, expect


class Worker:
    """Plays clients on resident networks.

    Args:
        task: The task of the federation.
        root: Folder of the clients' states, shared by all workers of a run.
    """

    def __init__(self, task: Task, root: Path) -> None:
        self._bench = Workbench(task)
        self._root = root

    def play(self, asking: Asking, orders: Sequence[Order]) -> Part:
        """Let each client answer and add up what is valid."""
        # One thread for each client: more change the order of sums, and so the bits.
        torch.set_num_threads(1)
        total: Accumulator | None = None
        records: list[ClientRecord] = []
        singles: list[tuple[str, bytes]] = []
        for order in orders:
            store = ClientStore(self._root, order.client_id, durable=False)
            record, answer, total = self._one(asking, order, store, total)
            if store.has_lost(order.acknowledged):
                record = replace(record, residual_lost=True)
            records.append(record)
            if asking.singles and record.status is Status.ACCEPTED:
                singles.append((order.client_id, answer))
        if total is None:
            total = Accumulator(0, asking.limits)
        return Part(records=tuple(records), total=total, singles=tuple(singles))

    def _one(
        self,
        asking: Asking,
        order: Order,
        store: ClientStore,
        total: Accumulator | None,
    ) -> tuple[ClientRecord, bytes, Accumulator | None]:
        """Let one client answer; whatever happens to it stays with it."""
        started = time.monotonic()
        message = codec.address_plan(
            asking.variants[order.variant], order.client_id, order.acknowledged
        )
        try:
            most = self._bench.size
            plan = codec.decode_plan(message, asking.max_bytes, max_weights=most)
            opened = open_plan(plan, self._bench, store)
            if total is None:
                total = Accumulator(opened.spec.size, asking.limits)
            answer = run_round(plan, self._bench, store)
        except PayloadError as error:
            why = f"the client refused the plan: {error}"
            return refusal(order.client_id, why, b"", len(message)), b"", total
        except (Exception, SystemExit) as error:  # user code may raise anything
            why = str(error) if isinstance(error, FedPruneError) else told(error)
            return failure(order.client_id, why, len(message)), b"", total
        held = replace(plan, weight_mask=opened.mask)
        expected = expect(held, opened.spec, opened.weights, asking, order)
        record, _ = accept_answer(
            answer,
            expected,
            total,
            bytes_down=len(message),
            seconds=time.monotonic() - started,
        )
        return record, answer, total
