"""A worker: a process that runs a list of clients, one after another.

For each client it encodes the message down, decodes it, trains, encodes the answer, and
then reads that answer as the server would: decode, validate, add to a partial
aggregate.  Engines differ only in how a worker is reached.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from xxhash import xxh3_128_digest

from fedprune.client.rounds.model_cache import ModelCache, Recall
from fedprune.client.rounds.opened import OpenedPlan, open_plan
from fedprune.client.rounds.round import run_round
from fedprune.client.rounds.store import ClientStore, Upkeep
from fedprune.common import codec
from fedprune.common.aggregate import Accumulator
from fedprune.common.codec import Expected
from fedprune.common.errors import FedPruneError, PayloadError, StorageError
from fedprune.common.messages import RoundPlan, SparseDelta
from fedprune.common.methods.registry import OFF
from fedprune.common.profiling.activities import Activity
from fedprune.common.profiling.recorder import during, timed
from fedprune.common.system.memory import SpareMemory
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.common.text import error_line, printable
from fedprune.common.user_code import in_own_code
from fedprune.server.rounds.answers import accept_answer, failure, refusal
from fedprune.server.rounds.engine import (
    Assignment,
    IndividualUpdate,
    PartialAggregate,
    RoundRequest,
    decoded_update,
    encoded_update,
    expect,
)
from fedprune.server.rounds.records import ClientRecord, Status
from fedprune.simulations.engines.hostile.clients import HostileClients
from fedprune.simulations.faults.inject import answer_under
from fedprune.simulations.faults.plan import FaultPlan

_LARGE = 1 << 20  # weights of a network whose freed vectors are worth a look
_VARIANTS = 4  # shared parts of a round: whole, and against a few earlier broadcasts
_CAUSE = 300  # characters of a cause, so that its place is not cut off


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answered:
    """The answer of one client, not decoded yet.

    Attributes:
        data: The encoded answer.
        expected: Expectations that a valid answer meets.
        bytes_down: Length of the message to the client.
        seconds: Time that the client took.
        lost: Whether its stored residual is missing or damaged.
    """

    data: bytes
    expected: Expected
    bytes_down: int
    seconds: float
    lost: bool


class Worker:
    """Runs clients on resident networks.

    Args:
        task: The task of the federation.
        root: Folder of the clients' states, shared by all workers of a run.
        before_client: Called before each client; what it raises ends the job.
        travels: Whether what is played travels to another process: single answers
            wait encoded then.
    """

    def __init__(
        self,
        task: LoadedTask,
        root: Path,
        before_client: Callable[[], None] = lambda: None,
        *,
        travels: bool = False,
    ) -> None:
        self._cache = ModelCache(task)
        self._limit = task.config.device.max_bytes
        self._root = root
        self._faults = FaultPlan.of(task.config)
        self._upkeep = Upkeep(root)
        self._before_client = before_client
        self._travels = travels
        self._shared = Recall(_VARIANTS)
        self._spare = SpareMemory()
        self._hostile: HostileClients | None = None
        if task.config.attack.kind != OFF:
            self._hostile = HostileClients(task, root)

    @timed(Activity.JOBS)
    def play(self, request: RoundRequest) -> PartialAggregate:
        """Run each client and aggregate the valid answers.

        Raises:
            StorageError: If a client's state cannot be written: a round without that
                client would be another round.
        """
        # One thread: more would change the order of sums, and so the bits.
        torch.set_num_threads(1)
        self._shared = Recall(_VARIANTS)  # of this job: those of before are large
        total: Accumulator | None = None
        records: list[ClientRecord] = []
        individual_updates: list[IndividualUpdate] = []
        for assignment in request.assignments:
            self._before_client()
            found = self._one(request, assignment)
            if isinstance(found, _Answered):
                if total is None:
                    total = Accumulator(found.expected.spec.size, request.limits)
                record, delta = accept_answer(
                    found.data,
                    found.expected,
                    total,
                    bytes_down=found.bytes_down,
                    seconds=found.seconds,
                )
                if request.individual_updates and delta is not None:
                    individual_updates.append(self._individual(found, delta))
            else:
                record = found
            # As on devices, which send this note beside an answer.
            lost = isinstance(found, _Answered) and found.lost
            records.append(replace(record, residual_lost=lost))
            if total is not None and len(total.delta_sum) >= _LARGE:
                self._spare.bound()
        if total is None:
            total = Accumulator(0, request.limits)
        return PartialAggregate(
            records=tuple(records),
            total=total,
            individual_updates=tuple(individual_updates),
        )

    def _individual(self, found: _Answered, delta: SparseDelta) -> IndividualUpdate:
        if self._travels:
            return encoded_update(found.data, found.expected)
        return decoded_update(found.expected.client_id, delta)

    def _read_shared(self, shared: bytes, most: int) -> RoundPlan:
        """Return what clients read of equal bytes, which is read once in a job."""
        # Python's own hash of the bytes takes four times as long.
        key = (xxh3_128_digest(shared), len(shared), most)
        return self._shared.get(key, lambda: codec.read_shared(shared, most))

    def _one(
        self, request: RoundRequest, assignment: Assignment
    ) -> _Answered | ClientRecord:
        """Run one client; its errors become its failure, but not those of the disk."""
        started = time.monotonic()
        message = codec.address_plan(
            request.variants[assignment.variant],
            assignment.client_id,
            assignment.acknowledged,
        )
        try:
            most = self._cache.size
            with during(Activity.OPENING):
                plan = codec.decode_plan(
                    message, self._limit, max_weights=most, read=self._read_shared
                )
                self._upkeep.before(plan.run_id, plan.round, assignment.client_id)
                # A folder for each federation, as on a device: no residual of another.
                store = ClientStore(
                    self._root / plan.run_id, assignment.client_id, durable=False
                )
                opened = open_plan(plan, self._cache, store)
            expected = expect(plan, opened.side_info, request, assignment)
            data = answer_under(
                self._faults.fault(plan.round, plan.client_id, request.attempt),
                self._faults.clock_s(plan.client_id),
                lambda: self._answered(opened, expected, store),
            )
        except PayloadError as error:
            why = f"the client refused the plan: {error}"
            return refusal(assignment.client_id, why, b"", len(message))
        except StorageError:
            raise
        except (Exception, SystemExit) as error:  # user code may raise anything
            why = str(error) if isinstance(error, FedPruneError) else error_line(error)
            why = printable(why, _CAUSE) + in_own_code(error)
            return failure(assignment.client_id, why, len(message))
        if data is None:
            return ClientRecord(
                client_id=assignment.client_id,
                status=Status.LATE,
                reason=f"client {assignment.client_id}: no answer",
                bytes_down=len(message),
            )
        return _Answered(
            data=data,
            expected=expected,
            bytes_down=len(message),
            seconds=time.monotonic() - started,
            lost=store.has_lost(assignment.acknowledged),
        )

    def _answered(
        self, opened: OpenedPlan, expected: Expected, store: ClientStore
    ) -> bytes:
        """Return the client's answer, false if it is hostile."""
        hostile = self._hostile
        if hostile is not None and hostile.attacks(opened.plan):
            return hostile.answer(opened, expected, self._cache, store)
        return run_round(opened, self._cache, store)
