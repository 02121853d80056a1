"""Engine on Flower's simulation with Ray: nodes are workers, not clients."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import ray
import torch
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation
from ray import cloudpickle

from fedprune.common.aggregate import Accumulator
from fedprune.common.errors import (
    ConfigError,
    FedPruneError,
    PayloadError,
    Reason,
    RoundError,
)
from fedprune.common.flower.payload import ARRAY, RECORD, check_payload, payload_array
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.common.text import error_line
from fedprune.server.rounds.answers import failure
from fedprune.server.rounds.engine import (
    Assignment,
    Engine,
    PartialAggregate,
    RoundWork,
)
from fedprune.simulations.engines.engines import EngineSpec, assign
from fedprune.simulations.engines.interrupt import mortal, terminable
from fedprune.simulations.engines.jobs import (
    decode_job,
    decode_part,
    encode_job,
    encode_part,
)
from fedprune.simulations.engines.worker import Worker

T = TypeVar("T")

_POLL_S = 0.01
_START_S = 120.0
_MAX_BYTES = (1 << 31) - 1
_MAX_TASK = 4 << 20  # bytes of a task, which is code and no data
_OBJECT_STORE = 1_000_000_000
_STOP = "stop"  # a file that tells workers to end


def to_content(blob: bytes) -> RecordDict:
    """Wrap bytes as the content of a message: one array with our own stype."""
    return RecordDict({RECORD: ArrayRecord({ARRAY: payload_array(blob, Array)})})


def from_content(message: Message, max_bytes: int) -> bytes:
    """Return the bytes of a message.

    Raises:
        PayloadError: If it has any other content.
    """
    try:
        array = message.content.array_records[RECORD][ARRAY]
    except Exception as error:  # the sender chooses the content
        raise PayloadError(Reason.BAD_FRAME, "message", error_line(error)) from error
    return check_payload(array.stype, array.data, max_bytes)


@contextmanager
def ray_engine(engine_spec: EngineSpec) -> Iterator[Engine]:
    """Yield an engine whose workers are the nodes of a Flower simulation on Ray.

    However the block ends, Ctrl-C too, workers, Flower and Ray have ended after it, in
    this order: Ray must not end under threads that still use it.

    Raises:
        FedPruneError: When Flower ends before the block does.
    """
    count = engine_spec.workers or os.cpu_count() or 1
    stop = engine_spec.root / _STOP
    stop.unlink(missing_ok=True)
    flower = _Flower(engine_spec, count)
    try:
        _start_ray(count, engine_spec.ray_address, _gpus(engine_spec.task))
        with terminable():
            try:
                yield RayEngine(flower, engine_spec)
            except BaseException:
                # Flower would report the ends of workers as failures.
                logging.getLogger("flwr").setLevel(logging.CRITICAL)
                stop.touch()
                raise
            finally:
                flower.end()
    finally:
        ray.shutdown()
        stop.unlink(missing_ok=True)


class _Flower:
    """A Flower simulation in a thread of its own, for its grid.

    Flower calls a server app with the grid and ends when that returns.  So the app
    passes the grid on and waits, and the run itself stays with its caller.

    Args:
        engine_spec: LoadedTask and folder of the workers.
        workers: Number of nodes.
    """

    def __init__(self, engine_spec: EngineSpec, workers: int) -> None:
        self._place, self._workers = engine_spec, workers
        self._grids: SimpleQueue[Grid] = SimpleQueue()
        self._done = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Grid:
        """Start it and return its grid, once every worker is registered."""
        self._thread.start()
        grid = self._soon(self._grid, "Flower's grid")
        self._soon(
            lambda: len(set(grid.get_node_ids())) >= self._workers, "all workers"
        )
        return grid

    def check(self) -> None:
        """Raise if it has ended.

        Raises:
            FedPruneError: If it has.
        """
        if not self._thread.is_alive():
            why = f"failed: {self._error}" if self._error else "ended before the run"
            msg = f"Flower's simulation {why}"
            raise FedPruneError(msg) from self._error

    def end(self) -> None:
        """End it, and wait for its thread."""
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()

    def _grid(self) -> Grid | None:
        return None if self._grids.empty() else self._grids.get()

    def _soon(self, ready: Callable[[], T | None], what: str) -> T:
        """Return the first true value.

        Raises:
            RoundError: If there is no true value in time.
        """
        end = time.monotonic() + _START_S
        while not (found := ready()):
            self.check()
            if time.monotonic() > end:
                msg = f"{what} did not come up within {_START_S:g} s"
                raise RoundError(msg)
            time.sleep(_POLL_S)
        return found

    def _run(self) -> None:
        server = ServerApp()

        @server.main()
        def main(grid: Grid, context: Context) -> None:
            del context
            self._grids.put(grid)
            self._done.wait()

        try:
            run_simulation(
                server_app=server,
                client_app=_client_app(self._place.task, self._place.root),
                num_supernodes=self._workers,
                backend_config={
                    "client_resources": {
                        "num_cpus": 1,
                        "num_gpus": _gpus(self._place.task) / self._workers,
                    }
                },
            )
        except BaseException as error:
            self._error = error


def _gpus(task: LoadedTask) -> int:
    """Return the number of GPUs that the workers share.

    Raises:
        ConfigError: If one GPU of several is named: Ray deals them out.
    """
    if task.device.type != "cuda":
        return 0
    if ":" in task.config.run.device:
        msg = f"run.device is '{task.config.run.device}', and Ray deals the GPUs out; "
        msg += "want 'cuda', and CUDA_VISIBLE_DEVICES to leave some out, or "
        msg += "run.engine = 'inprocess'"
        raise ConfigError(msg)
    return torch.cuda.device_count()


def check_travels(task: LoadedTask) -> None:
    """Check before a run that a task can be sent to workers.

    Raises:
        ConfigError: If it cannot be written as bytes, a task of the user's own would
            carry data in every message, or one GPU of several is named.
    """
    _gpus(task)
    name = type(task.task).__name__
    advice = "load data in train_data() and test_data(), and keep none in the object or"
    advice += " in global variables"
    try:
        size = len(cloudpickle.dumps(task))  # type: ignore[no-untyped-call]
    except Exception as error:
        msg = (
            f"the task {name} cannot be sent to workers: {error_line(error)}; {advice}"
        )
        raise ConfigError(msg) from error
    if size > _MAX_TASK:
        msg = f"the task {name} holds {size >> 20} MiB, which every message to a worker"
        msg += f" would carry; {advice}"
        raise ConfigError(msg)


def _start_ray(workers: int, address: str, gpus: int) -> None:
    """Start an own local Ray, or join the one at an address.

    Flower would do it too late: Ray sets signal handlers, and ours must be set last.

    Raises:
        ConfigError: If the cluster at the address cannot be joined.
    """
    _quiet()
    path = os.pathsep.join(filter(None, [*sys.path, os.environ.get("PYTHONPATH")]))
    arguments: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "include_dashboard": False,
        # Workers get the import path of this process.
        "runtime_env": {"env_vars": {"PYTHONPATH": path}},
    }
    if address:
        try:
            ray.init(address=address, **arguments)
        except (OSError, RuntimeError, ValueError) as error:
            msg = f"cannot join the Ray cluster at {address}: {error}"
            raise ConfigError(msg) from error
        return
    # Without "local" ray.init joins any cluster on this machine.
    ray.init(
        address="local",
        num_cpus=workers,
        num_gpus=gpus,
        object_store_memory=_OBJECT_STORE,
        **arguments,
    )


def _quiet() -> None:
    """Silence Flower and Ray but for errors: the terminal shows the run's progress."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logging.getLogger("flwr").setLevel(logging.ERROR)


def _client_app(task: LoadedTask, root: Path) -> ClientApp:
    """Return the app of a worker node; Ray ships it to its actors."""
    app = ClientApp()
    home = str(root)

    @app.train()
    def play(message: Message, context: Context) -> Message:
        del context
        return Message(to_content(_play(task, home, message)), reply_to=message)

    return app


class _Resident:
    """The worker of this process, which outlives a message, so networks stay built.

    Ray ships the client app anew with every message; only objects of an actor's process
    are still there for the next one.
    """

    def __init__(self) -> None:
        self._home = ""
        self._worker: Worker | None = None

    def worker(self, task: LoadedTask, home: str) -> Worker:
        """Return the worker of the run with this folder of client states."""
        if self._worker is None or self._home != home:
            self._worker, self._home = Worker(task, Path(home)), home
        return self._worker


_resident = _Resident()


def _play(task: LoadedTask, home: str, message: Message) -> bytes:
    """Run the clients of one job on the worker of this process."""
    worker = _resident.worker(task, home)
    request = decode_job(from_content(message, _MAX_BYTES))
    with mortal(Path(home) / _STOP):
        return encode_part(worker.play(request))


class RayEngine:
    """Asks workers through Flower's grid and decodes their partial aggregates.

    Args:
        flower: The simulation; it is started here.
        engine_spec: The task.
    """

    def __init__(self, flower: _Flower, engine_spec: EngineSpec) -> None:
        self._flower = flower
        self._costs = engine_spec.task.sizes
        self._grid = flower.start()
        self._nodes = sorted(self._grid.get_node_ids())

    def ask(self, work: RoundWork) -> Iterator[PartialAggregate]:
        """Ask every client through its worker; yield each worker's partial aggregate.

        A worker that fails or misses the deadline fails each of its clients.
        """
        workers = assign(work.request.assignments, self._costs, len(self._nodes))
        jobs = [encode_job(work.request, hand) for hand in workers]
        messages = [
            Message(to_content(job), node, "train", group_id=str(work.plan.round))
            for node, job in zip(self._nodes, jobs, strict=False)
        ]
        identifiers = list(self._grid.push_messages(messages))
        waiting = dict(zip(identifiers, zip(workers, jobs, strict=True), strict=True))
        end = time.monotonic() + work.deadline_s
        while waiting and time.monotonic() < end:
            self._flower.check()
            for reply in self._grid.pull_messages(list(waiting)):
                hand, job = waiting.pop(reply.metadata.reply_to_message_id)
                yield _read(reply, hand, len(job), work)
            time.sleep(_POLL_S)
        for hand, job in waiting.values():
            why = f"its worker did not answer within {work.deadline_s:g} s"
            yield _failed(hand, why, len(job), work)


def _read(
    reply: Message, hand: tuple[Assignment, ...], sent: int, work: RoundWork
) -> PartialAggregate:
    """Decode one worker's reply; an undecodable reply fails its clients."""
    if reply.has_error():
        why = f"its worker failed: {reply.error.reason}"
        return _failed(hand, why, sent, work)
    try:
        part = decode_part(from_content(reply, _MAX_BYTES), work)
    except PayloadError as error:
        return _failed(hand, f"its worker's reply: {error}", sent, work)
    names = sorted(record.client_id for record in part.records)
    if names != sorted(assignment.client_id for assignment in hand):
        why = f"its worker answered for {', '.join(names) or 'no client'}"
        return _failed(hand, why, sent, work)
    return replace(part, bytes_simulation=part.bytes_simulation + sent)


def _failed(
    hand: tuple[Assignment, ...], why: str, sent: int, work: RoundWork
) -> PartialAggregate:
    return PartialAggregate(
        records=tuple(failure(assignment.client_id, why, 0) for assignment in hand),
        total=Accumulator(work.spec.size, work.request.limits),
        bytes_simulation=sent,
    )
