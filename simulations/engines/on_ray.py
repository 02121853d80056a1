"""Engine on Flower's simulation with Ray: nodes are workers, not clients."""

import logging
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import ray
import torch
from flwr.app import Message
from flwr.serverapp import Grid
from ray import cloudpickle
from ray._private.node import Node

from fedprune.common.aggregate import Accumulator
from fedprune.common.errors import ConfigError, FedPruneError, PayloadError
from fedprune.common.profiling.activities import Activity
from fedprune.common.profiling.recorder import during
from fedprune.common.system.cores import own_cores
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.common.text import error_line
from fedprune.server.rounds.engine import (
    Assignment,
    Engine,
    LostWorker,
    PartialAggregate,
    RoundWork,
)
from fedprune.simulations.engines.dealing import deal
from fedprune.simulations.engines.engines import EngineSpec
from fedprune.simulations.engines.flower import Simulation
from fedprune.simulations.engines.interrupt import TimeLimit, terminable
from fedprune.simulations.engines.jobs import decode_part, encode_job
from fedprune.simulations.engines.player import (
    MAX_BYTES,
    Player,
    from_content,
    to_content,
)
from fedprune.simulations.engines.pool import Pool

_POLL_S = 0.01
_AHEAD = 2  # jobs of each worker that are under way: one is played, one waits
_MAX_TASK = 4 << 20  # bytes of a task, which is code and no data
_STARTS = 3  # tries
# Bytes of a weight in a sum, and in an answer: more than either needs.
_SUMMED, _ANSWERED = 9, 8
_RECORD = 1 << 14  # bytes of the rest of an answer and of its record
_PROFILE = 1 << 24  # bytes of a job's profile
_OF_CLUSTERS = ("start_api_server", "start_monitor", "start_log_monitor")  # of a node
_STORE = 128 << 20  # bytes of Ray's object store beside the messages
_STORE_OF_A_WEIGHT = 48  # of a worker: its sum, and its broadcast, each three times


@contextmanager
def ray_engine(engine_spec: EngineSpec) -> Iterator[Engine]:
    """Yield an engine whose workers are the nodes of a Flower simulation on Ray.

    However the block ends, Ctrl-C too, workers, Flower and Ray have ended after it, in
    this order: Ray must not end under threads that still use it.

    Raises:
        FedPruneError: When Flower ends before the block does.
    """
    count = engine_spec.workers or own_cores()
    gpus = _gpus(engine_spec.task)
    pool = Pool(count, gpus / count)
    player = Player(engine_spec.task, str(engine_spec.root))
    simulation = Simulation(player, pool)
    try:
        with during(Activity.STARTING):
            _start_ray(engine_spec, count, gpus)
        with terminable():
            try:
                with during(Activity.STARTING):
                    engine = RayEngine(simulation, pool, engine_spec)
                yield engine
            finally:
                with during(Activity.RESULTS):
                    pool.end()
                    simulation.end()
    finally:
        with during(Activity.RESULTS):
            ray.shutdown()


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


def _start_ray(engine_spec: EngineSpec, workers: int, gpus: int) -> None:
    """Start an own local Ray, or join the one at an address.

    Flower would do it too late: Ray sets signal handlers, and ours must be set last.

    Raises:
        ConfigError: If the cluster at the address cannot be joined.
        FedPruneError: If a local one does not start.
    """
    _quiet()
    address = engine_spec.ray_address
    path = os.pathsep.join(filter(None, [*sys.path, os.environ.get("PYTHONPATH")]))
    arguments: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "include_dashboard": False,
    }
    if address:
        # Workers get the import path of this process.
        arguments["runtime_env"] = {"env_vars": {"PYTHONPATH": path}}
        try:
            ray.init(address=address, **arguments)
        except (OSError, RuntimeError, ValueError) as error:
            msg = f"cannot join the Ray cluster at {address}: {error}"
            raise ConfigError(msg) from error
        return
    # Without "local" ray.init joins any cluster on this machine.
    arguments |= {"address": "local", "num_cpus": workers, "num_gpus": gpus}
    arguments["object_store_memory"] = _store(workers, engine_spec.weights)
    for tries_left in reversed(range(_STARTS)):
        try:
            with _alone(path):
                ray.init(**arguments)
        except Exception as error:
            ray.shutdown()  # Ray gives up after 30 s, which a busy machine needs
            if not tries_left:
                msg = f"Ray did not start {_STARTS} times: {error_line(error)}"
                raise FedPruneError(msg) from error
        else:
            return


@contextmanager
def _alone(path: str) -> Iterator[None]:
    """Let Ray start with what one machine needs; workers get an import path.

    Dashboard, autoscaler and log monitor are half of its CPU time.  The path is that of
    all its processes: in an environment of their own, workers would not be those that
    Ray starts beforehand.
    """
    before = os.environ.get("PYTHONPATH")
    real = {name: getattr(Node, name) for name in _OF_CLUSTERS}
    try:
        os.environ["PYTHONPATH"] = path
        for name in real:
            setattr(Node, name, lambda *_, **__: None)
        yield
    finally:
        for name, method in real.items():
            setattr(Node, name, method)
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


def _store(workers: int, weights: int) -> int:
    """Return the bytes of Ray's object store, which holds messages on their way."""
    return _STORE + workers * weights * _STORE_OF_A_WEIGHT


def _quiet() -> None:
    """Silence Flower and Ray, and let workers run at the niceness of this process.

    The terminal shows the run's progress; a failure of either is an error of the run.
    """
    # An increment over this process; Ray's own is 15.
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    # It prints on standard output that a worker or node has ended, whatever the level.
    ray._private.worker.listen_error_messages = lambda *_: None  # noqa: SLF001


class RayEngine:
    """Asks workers through Flower's grid and decodes their partial aggregates.

    Args:
        simulation: The simulation; it is started here.
        pool: Its workers.
        engine_spec: The task.
    """

    def __init__(
        self, simulation: Simulation, pool: Pool, engine_spec: EngineSpec
    ) -> None:
        self._simulation, self._pool = simulation, pool
        self._costs = engine_spec.task.sizes
        self._limit = TimeLimit(engine_spec.limit_s)
        self._grid: Grid = simulation.start()
        self._nodes = sorted(self._grid.get_node_ids())

    def ask(self, work: RoundWork) -> Iterator[PartialAggregate]:
        """Ask every client; yield the partial aggregate of each job as it arrives.

        A job whose worker is lost is played again; the time that it takes decides
        nothing.

        Raises:
            FedPruneError: If a job cannot be played, or the run's time is over.
        """
        epochs = work.plan.settings.epochs
        costs, workers = self._costs, len(self._nodes)
        limits = {"epochs": epochs, "most": _clients_of_a_job(work)}
        jobs = deque(deal(work.request.assignments, costs, workers, **limits))
        waiting: dict[str, tuple[Assignment, ...]] = {}
        for node in self._nodes * _AHEAD:
            waiting |= self._send(jobs, node, work)
        while waiting:
            self._simulation.check()
            self._limit.check()
            replies = list(self._grid.pull_messages(list(waiting)))
            yield from self._lost(waiting, work)
            for reply in replies:
                # An answer counts once: only what is waited for is looked at.
                job = waiting.pop(reply.metadata.reply_to_message_id, None)
                if job is None:
                    continue
                waiting |= self._send(jobs, reply.metadata.src_node_id, work)
                part = read_part(reply, job, work)
                yield replace(part, bytes_simulation=self._pool.moved())
            time.sleep(_POLL_S)

    def _send(
        self, jobs: deque[tuple[Assignment, ...]], node: int, work: RoundWork
    ) -> dict[str, tuple[Assignment, ...]]:
        """Send the next job, if there is one; return it with the message's id."""
        if not jobs:
            return {}
        job = jobs.popleft()
        content = to_content(encode_job(work.request, job))
        message = Message(content, node, "train", group_id=str(work.plan.round))
        (name,) = self._grid.push_messages([message])
        return {name: job}

    def _lost(
        self, waiting: dict[str, tuple[Assignment, ...]], work: RoundWork
    ) -> Iterator[PartialAggregate]:
        """Yield an empty aggregate that tells of the lost workers, if there are any."""
        found = [
            LostWorker(
                worker=loss.worker,
                reason=loss.reason,
                clients=tuple(one.client_id for one in waiting.get(loss.job, ())),
            )
            for loss in self._pool.losses()
        ]
        if found:
            total = Accumulator(0, work.request.limits)
            yield PartialAggregate(records=(), total=total, lost=tuple(found))


def _clients_of_a_job(work: RoundWork) -> int:
    """Return how many clients' answers fit into one message of a worker, >= 1."""
    request, spec = work.request, work.spec
    told = spec.units + 2 * spec.moments + spec.running_size
    told += 2 * sum(request.covariances)
    # In the record, and in the answer.
    each = _RECORD + 2 * told * np.dtype(np.float32).itemsize
    if request.individual_updates:
        each += min(request.max_bytes, _ANSWERED * spec.size)
    return max((MAX_BYTES - _PROFILE - _SUMMED * spec.size) // each, 1)


def read_part(
    reply: Message, job: tuple[Assignment, ...], work: RoundWork
) -> PartialAggregate:
    """Decode the reply to a job.

    Raises:
        FedPruneError: If it does not answer for each of the job's clients: a round
            without some of them would be another round.
    """
    if reply.has_error():
        msg = f"a worker failed: {reply.error.reason}"
        raise FedPruneError(msg)
    try:
        part = decode_part(from_content(reply, MAX_BYTES), work)
    except PayloadError as error:
        msg = f"the answer of a worker: {error}"
        raise FedPruneError(msg) from error
    names = sorted(record.client_id for record in part.records)
    wanted = sorted(assignment.client_id for assignment in job)
    if names != wanted:
        msg = f"a worker that was asked for {', '.join(wanted)} answered for "
        msg += ", ".join(names) or "no client"
        raise FedPruneError(msg)
    return part
