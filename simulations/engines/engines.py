"""Engines: in this process, or Flower's simulation on Ray with nodes = workers.

A Flower node is a worker that owns a list of virtual clients.  With one node a client
Flower's delivery loop costs time that grows with the square of their number, and the
driver stores every reply; a few messages per worker and round avoid both.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from fedprune.common.errors import ConfigError
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.common.text import not_installed
from fedprune.server.rounds.engine import Engine, PartialAggregate, RoundWork
from fedprune.simulations.engines.interrupt import TimeLimit
from fedprune.simulations.engines.worker import Worker
from fedprune.simulations.faults.plan import FaultPlan
from fedprune.simulations.faults.virtual import VirtualTime


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """Settings of an engine.

    Attributes:
        task: Their task.
        root: Folder of the client states, readable by every worker.
        workers: Worker processes; 0 = one for each core that may be used.
        ray_address: An existing Ray cluster, or "" for a local one.
        weights: Weights of the dense network, by which Ray's object store is sized.
        limit_s: Seconds after which the run ends, to be resumed; 0 = no limit.
    """

    task: LoadedTask
    root: Path
    workers: int
    ray_address: str
    weights: int = 0
    limit_s: float = 0.0


class InProcessEngine:
    """Runs all clients in this process, one after another; no polls, no copies.

    Args:
        task: The task.
        root: Folder of the clients' states.
        limit_s: Seconds after which the run ends, at the next client; 0 = no limit.
    """

    def __init__(self, task: LoadedTask, root: Path, limit_s: float = 0.0) -> None:
        self._worker = Worker(task, root, TimeLimit(limit_s).check)

    def ask(self, work: RoundWork) -> Iterator[PartialAggregate]:
        """Ask every client; yield one partial aggregate."""
        # The worker reads everything else from the message, as devices do.
        yield self._worker.play(work.request)


@contextmanager
def engine_for(engine_spec: EngineSpec, kind: str) -> Iterator[Engine]:
    """Yield an engine whose rounds close in virtual time, and clean up after it.

    Raises:
        ConfigError: If Ray is not installed, or does not answer at the address.
        FedPruneError: If Flower's simulation ends before the block does.
    """
    if kind == "inprocess":
        here = InProcessEngine(engine_spec.task, engine_spec.root, engine_spec.limit_s)
        yield _in_virtual_time(here, engine_spec.task)
        return
    with _on_ray().ray_engine(engine_spec) as engine:
        yield _in_virtual_time(engine, engine_spec.task)


def _in_virtual_time(engine: Engine, task: LoadedTask) -> Engine:
    return VirtualTime(engine, FaultPlan.of(task.config), task.clients)


def check_engine(task: LoadedTask) -> None:
    """Check before a run that its engine is there and takes its task.

    Raises:
        ConfigError: If Ray is not installed, or the task cannot be sent to workers.
    """
    if task.config.run.engine == "ray":
        _on_ray().check_travels(task)


def _on_ray() -> ModuleType:
    try:
        from fedprune.simulations.engines import on_ray  # noqa: PLC0415 - Ray is heavy
    except ImportError as error:
        msg = not_installed("the Ray engine", f"{error.name}", "simulation")
        msg += ", or use --engine inprocess"
        raise ConfigError(msg) from error
    return on_ray
