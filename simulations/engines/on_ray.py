"""Flower's simulation on Ray, seen as an engine: nodes are workers, not clients."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import ray
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from fedprune.common.aggregate import Accumulator
from fedprune.common.errors import (
    ConfigError,
    FedPruneError,
    PayloadError,
    Reason,
    RoundError,
)
from fedprune.common.flower.payload import ARRAY, RECORD, STYPE, check_payload
from fedprune.common.messages import ModelSpec, RoundPlan, Vector
from fedprune.common.task import Task
from fedprune.common.text import told
from fedprune.server.rounds.accept import failure
from fedprune.server.rounds.engine import Asking, Engine, Order, Part
from fedprune.simulations.engines.engines import Place, deal
from fedprune.simulations.engines.interrupt import ended, interruptible, mortal
from fedprune.simulations.engines.jobs import (
    decode_job,
    decode_part,
    encode_job,
    encode_part,
)
from fedprune.simulations.engines.worker import Worker


def to_content(blob: bytes) -> RecordDict:
    """Wrap bytes as the content of a message: one array with our own stype."""
    array = Array("uint8", (len(blob),), STYPE, blob)
    return RecordDict({RECORD: ArrayRecord({ARRAY: array})})


def from_content(message: Message, max_bytes: int) -> bytes:
    """Return the bytes of a message.

    Raises:
        PayloadError: If it holds anything else.
    """
    try:
        array = message.content.array_records[RECORD][ARRAY]
    except Exception as error:  # the sender decides what it holds
        raise PayloadError(Reason.BAD_FRAME, "message", told(error)) from error
    return check_payload(array.stype, array.data, max_bytes)


T = TypeVar("T")

_POLL_S = 0.01
_START_S = 120.0
_MAX_BYTES = (1 << 31) - 1
_OBJECT_STORE = 1_000_000_000
_STOP = "stop"  # a file that tells workers to end

_workers: dict[str, Worker] = {}  # actors live long: networks and data stay built


def run_on_ray(place: Place, body: Callable[[Engine], T]) -> T:
    """Run ``body`` in a Flower server app with one node for each worker.

    Raises:
        FedPruneError: Whatever ``body`` raises, and when Flower ends without it.
        KeyboardInterrupt: On Ctrl-C; ``body`` has ended and Ray is down by then.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    threads: list[threading.Thread] = []
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        del context
        threads.append(threading.current_thread())
        try:
            results.append(body(RayEngine(grid, place)))
        except BaseException as error:
            errors.append(error)

    count = place.workers or os.cpu_count() or 1
    stop = place.root / _STOP
    stop.unlink(missing_ok=True)
    _start_ray(count, place.ray_address)
    try:
        with ended(threads), interruptible(threads, stop):
            run_simulation(
                server_app=server,
                client_app=_client_app(place.task, place.root),
                num_supernodes=count,
                backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
            )
    except RuntimeError as error:
        msg = f"Flower's simulation failed: {error}"
        raise FedPruneError(msg) from error
    finally:
        ray.shutdown()
        stop.unlink(missing_ok=True)
    if errors:
        raise errors[0]
    if not results:
        msg = "Flower's simulation ended before the run did"
        raise FedPruneError(msg)
    return results[0]


def _start_ray(workers: int, address: str) -> None:
    """Start an own local Ray, or join the one at an address.

    Flower would do it, but too late: Ray sets signal handlers, and ours come last.

    Raises:
        ConfigError: If what answers at the address does not take us in.
    """
    _quiet()
    path = os.pathsep.join(filter(None, [*sys.path, os.environ.get("PYTHONPATH")]))
    arguments: dict[str, Any] = {
        "logging_level": logging.ERROR,
        "log_to_driver": False,
        "include_dashboard": False,
        # Workers find what this process finds.
        "runtime_env": {"env_vars": {"PYTHONPATH": path}},
    }
    if address:
        try:
            ray.init(address=address, **arguments)
        except (OSError, RuntimeError, ValueError) as error:
            msg = f"cannot join the Ray cluster at {address}: {error}"
            raise ConfigError(msg) from error
        return
    # Without "local" ray.init joins whatever cluster runs on this machine.
    ray.init(
        address="local",
        num_cpus=workers,
        object_store_memory=_OBJECT_STORE,
        **arguments,
    )


def _quiet() -> None:
    """Leave the terminal to our own progress; keep Flower's and Ray's errors."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logging.getLogger("flwr").setLevel(logging.ERROR)


def _client_app(task: Task, root: Path) -> ClientApp:
    """Return the app of a worker node; Ray ships it to its actors."""
    app = ClientApp()
    home = str(root)

    @app.train()
    def play(message: Message, context: Context) -> Message:
        del context
        return Message(to_content(_play(task, home, message)), reply_to=message)

    return app


def _play(task: Task, home: str, message: Message) -> bytes:
    """Play the clients of one job on the worker of this process."""
    worker = _workers.get(home)
    if worker is None:
        _workers.clear()
        worker = _workers[home] = Worker(task, Path(home))
    asking = decode_job(from_content(message, _MAX_BYTES))
    with mortal(Path(home) / _STOP):
        return encode_part(worker.play(asking, asking.orders))


class RayEngine:
    """Asks workers through Flower's grid and reads their parts as they come.

    Args:
        grid: Flower's grid.
        place: Task and number of workers.
    """

    def __init__(self, grid: Grid, place: Place) -> None:
        self._grid = grid
        self._costs = {c: len(part) for c, part in place.task.parts.items()}
        self._nodes = _wait_for_nodes(grid, place.workers or os.cpu_count() or 1)

    def ask(
        self, asking: Asking, plan: RoundPlan, spec: ModelSpec, weights: Vector
    ) -> Iterator[Part]:
        """Ask every client through its worker and yield each worker's part.

        A worker that fails or misses the deadline fails all its clients by name.
        """
        del plan, weights
        hands = deal(asking.orders, self._costs, len(self._nodes))
        jobs = [encode_job(asking, hand) for hand in hands]
        messages = [
            Message(to_content(job), node, "train", group_id=str(asking.round))
            for node, job in zip(self._nodes, jobs, strict=False)
        ]
        identifiers = list(self._grid.push_messages(messages))
        waiting = dict(zip(identifiers, zip(hands, jobs, strict=True), strict=True))
        end = time.monotonic() + asking.deadline_s
        while waiting and time.monotonic() < end:
            for reply in self._grid.pull_messages(list(waiting)):
                hand, job = waiting.pop(reply.metadata.reply_to_message_id)
                yield _read(reply, hand, len(job), asking, spec)
            time.sleep(_POLL_S)
        for hand, job in waiting.values():
            why = f"its worker did not answer within {asking.deadline_s:g} s"
            yield _failed(hand, why, asking, spec, len(job))


def _read(
    reply: Message, hand: tuple[Order, ...], sent: int, asking: Asking, spec: ModelSpec
) -> Part:
    """Read one worker's reply; a reply that cannot be read fails its clients."""
    if reply.has_error():
        why = f"its worker failed: {reply.error.reason}"
        return _failed(hand, why, asking, spec, sent)
    try:
        part = decode_part(from_content(reply, _MAX_BYTES), asking, spec)
    except PayloadError as error:
        return _failed(hand, f"its worker's reply: {error}", asking, spec, sent)
    names = sorted(record.client_id for record in part.records)
    if names != sorted(order.client_id for order in hand):
        why = f"its worker answered for {', '.join(names) or 'nobody'}"
        return _failed(hand, why, asking, spec, sent)
    return replace(part, bytes_simulation=part.bytes_simulation + sent)


def _failed(
    hand: tuple[Order, ...], why: str, asking: Asking, spec: ModelSpec, sent: int
) -> Part:
    return Part(
        records=tuple(failure(order.client_id, why, 0) for order in hand),
        total=Accumulator(spec.size, asking.limits),
        bytes_simulation=sent,
    )


def _wait_for_nodes(grid: Grid, count: int) -> list[int]:
    """Wait until Flower has registered every worker node."""
    end = time.monotonic() + _START_S
    while True:
        nodes = sorted(grid.get_node_ids())
        if len(nodes) >= count:
            return nodes
        if time.monotonic() > end:
            msg = f"{len(nodes)} of {count} workers came up within {_START_S:g} s"
            raise RoundError(msg)
        time.sleep(_POLL_S)
