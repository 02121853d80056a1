"""Flower's simulation, lent for its grid, with workers of our own behind it.

Flower 1.41 puts an actor that has died back among the free ones, starts no other, and
waits for a stopped one for ever (``BasicActorPool``).  It can be given no other pool,
so its backend is replaced while it runs; ``pyproject.toml`` pins the version.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TypeVar

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.server.superlink.fleet.vce.backend import raybackend
from flwr.server.superlink.fleet.vce.backend.backend import Backend
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation
from ray import cloudpickle
from typing_extensions import override

from fedprune.common.errors import FedPruneError, RoundError
from fedprune.simulations.engines.player import Job, bytes_of, client_app, packed
from fedprune.simulations.engines.pool import Pool

T = TypeVar("T")

_POLL_S = 0.01
_START_S = 120.0


class Simulation:
    """A Flower simulation in a thread of its own, for its grid.

    Flower calls a server app with the grid and ends when that returns.  So the app
    passes the grid on and waits, and the run itself stays with its caller.

    Args:
        job: Plays a job in a worker; it is sent there once.
        pool: The workers, as many as nodes; started here.
    """

    def __init__(self, job: Job, pool: Pool) -> None:
        self._job, self._pool = job, pool
        self._grids: SimpleQueue[Grid] = SimpleQueue()
        self._done = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Grid:
        """Start it and return its grid, once every node is registered."""
        self._thread.start()
        grid = self._soon(self._grid, "Flower's grid")
        wanted = self._pool.count
        self._soon(lambda: len(set(grid.get_node_ids())) >= wanted, "all nodes")
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
            with _backend_of(self._pool, self._job):
                run_simulation(
                    server_app=server,
                    client_app=client_app(self._job),
                    num_supernodes=self._pool.count,
                )
        except BaseException as error:
            self._error = error


@contextmanager
def _backend_of(pool: Pool, job: Job) -> Iterator[None]:
    """Let a simulation that starts in the block run its messages on these workers."""

    class Workers(Backend):
        """Flower's face of the pool."""

        @override
        def build(self, app_fn: Callable[[], ClientApp]) -> None:
            # Not Flower's own: what it makes an app with imports all of Flower.
            del app_fn
            pool.start(packed(job))

        @property
        @override
        def num_workers(self) -> int:
            return pool.count

        @override
        def is_worker_idle(self) -> bool:
            return True

        @override
        def terminate(self) -> None:
            pool.end()

        @override
        def process_message(
            self, message: Message, context: Context
        ) -> tuple[Message, Context]:
            data = bytes_of((message, context))
            answer, after = cloudpickle.loads(
                pool.play(message.metadata.message_id, data)
            )
            return answer, after

    before = raybackend.RayBackend
    raybackend.RayBackend = Workers  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        raybackend.RayBackend = before  # type: ignore[misc]
