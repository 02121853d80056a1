"""Workers on Ray: processes that play jobs, are watched, and are replaced when lost.

A worker is an actor of Ray.  While it plays a job it is pinged, and a second thread of
its process answers.  One whose process or node has ended, or that leaves every ping
unanswered, is lost: another takes its place, and its job is played again elsewhere.
A job has no effect but its answer and files that are written atomically and are equal
each time, so a job that is played twice changes nothing, and only one answer counts.
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from fedprune.common.errors import FedPruneError, StorageError

_POLL_S = 0.02
_START_S = 300.0  # without any worker: a busy machine takes minutes to start some
_PING_S = 2.0
_SILENT = 30  # pings' times without an answer: not seconds, for this process may stop
_TRIES = 4  # workers that one job may lose

Play = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A worker that was lost.

    Attributes:
        job: Name of the job that it played, which is played again.
        worker: Its process and host.
        reason: How it was lost, one line.
    """

    job: str
    worker: str
    reason: str


class _Lost(Exception):  # noqa: N818 - the word for it
    """The worker of a job is lost.

    Args:
        reason: How, one line.
        began: Whether it was there when it was sent the job.
    """

    def __init__(self, reason: str, *, began: bool) -> None:
        super().__init__(reason)
        self.began = began


class _Process:
    """The process of a worker.

    Args:
        packed: Makes the function that plays a job, as cloudpickle's bytes.
    """

    def __init__(self, packed: bytes) -> None:
        self._packed = packed
        self._play: Play | None = None

    @ray.method(concurrency_group="pulse")
    def ping(self) -> str:
        """Return the name of this process."""
        return f"{os.getpid()} on {socket.gethostname()}"

    def play(self, data: bytes) -> bytes:
        """Play a job; what it needs stays in this process for the next one."""
        if self._play is None:  # not in __init__: an error there is a worker that dies
            make: Callable[[], Play] = ray.cloudpickle.loads(self._packed)
            self._play = make()
        return self._play(data)


# A second thread answers pings.
_ACTOR: Any = ray.remote(concurrency_groups={"pulse": 1})(_Process)  # type: ignore[call-overload]


@dataclass(slots=True, eq=False)
class _Member:
    """One worker.

    Attributes:
        actor: Its handle.
        ping: The ping that it has not answered yet, or None.
        name: Its process and host, from its first answer on.
    """

    actor: Any
    ping: Any = None
    name: str = ""


class Pool:
    """Workers that play jobs for several threads.

    Args:
        count: Number of workers, >= 1.
        gpus: Share of a GPU that each holds, 0 = none.

    Attributes:
        packed: What is sent to each worker once.
    """

    def __init__(self, count: int, gpus: float = 0.0) -> None:
        self.count = count
        self._options = {"num_cpus": 1, "num_gpus": gpus}
        self.packed = b""
        self._lock = threading.Lock()
        self._idle: list[_Member] = []
        self._coming: list[_Member] = []
        self._busy: list[_Member] = []
        self._losses: SimpleQueue[Loss] = SimpleQueue()
        self._moved = 0
        self._ended = False
        self._last_alive = 0.0

    def start(self, packed: bytes) -> None:
        """Start the workers, which come up one by one.

        Args:
            packed: Makes the function that plays a job, as cloudpickle's bytes.
        """
        with self._lock:
            self.packed, self._last_alive = packed, time.monotonic()
            for _ in range(self.count):
                self._add()

    def play(self, job: str, data: bytes) -> bytes:
        """Play a job on the next free worker, and again elsewhere when it is lost.

        A worker that had ended before, while it had nothing to do, is replaced too, and
        is no fault of the job.

        Args:
            job: A name for it in ``losses``.
            data: What the worker is sent.

        Raises:
            FedPruneError: If no worker comes up, the job has lost several, or the pool
                has ended.
        """
        last, began = "", 0
        # At most every worker had ended before.
        for _ in range(_TRIES + self.count):
            member = self._take()
            try:
                answer = self._watched(member, data)
            except _Lost as error:
                self._replace(member)
                last, began = f"{member.name}: {error}", began + error.began
                loss = Loss(job=job, worker=member.name, reason=str(error))
                self._losses.put(loss)
                if began == _TRIES:
                    break
                continue
            except BaseException:
                self._give_back(member)
                raise
            self._give_back(member)
            return answer
        msg = f"a job has ended {_TRIES} workers, the last one {last}"
        if began < _TRIES:
            msg = f"no worker stays until it is sent a job, the last one {last}"
        raise FedPruneError(msg)

    def losses(self) -> list[Loss]:
        """Return the losses since the last call."""
        found = []
        try:
            while True:
                found.append(self._losses.get_nowait())
        except Empty:
            return found

    def moved(self) -> int:
        """Return the bytes to and from workers since the last call, without pings."""
        with self._lock:
            moved, self._moved = self._moved, 0
        return moved

    def end(self) -> None:
        """End every worker at once, in the middle of a job too."""
        with self._lock:
            self._ended = True
            members = [*self._idle, *self._coming, *self._busy]
            self._idle, self._coming = [], []
        if ray.is_initialized():
            for member in members:
                ray.kill(member.actor)

    def _add(self) -> None:
        """Start a worker; the caller holds the lock."""
        actor = _ACTOR.options(**self._options).remote(self.packed)
        self._coming.append(_Member(actor, actor.ping.remote()))
        self._moved += len(self.packed)

    def _take(self) -> _Member:
        """Return an idle worker, as soon as there is one.

        Raises:
            FedPruneError: If there is none for long, or the pool has ended.
        """
        while True:
            with self._lock:
                if self._ended:
                    msg = "the run is ending"
                    raise FedPruneError(msg)
                self._welcome()
                if self._busy or self._idle:
                    self._last_alive = time.monotonic()
                if self._idle:
                    self._busy.append(self._idle.pop())
                    return self._busy[-1]
                alone_s = time.monotonic() - self._last_alive
            if alone_s > _START_S:
                msg = f"no worker is left, and none came up within {_START_S:g} s"
                raise FedPruneError(msg)
            time.sleep(_POLL_S)

    def _welcome(self) -> None:
        """Make idle who has come up; the caller holds the lock."""
        coming, self._coming = self._coming, []
        for member in coming:
            ready, _ = ray.wait([member.ping], timeout=0)
            if not ready:
                self._coming.append(member)
                continue
            try:
                member.name, member.ping = ray.get(member.ping), None
                self._idle.append(member)
            except RayError:  # it has ended before it was there
                self._add()

    def _give_back(self, member: _Member) -> None:
        with self._lock:
            self._busy.remove(member)
            self._idle.append(member)

    def _replace(self, member: _Member) -> None:
        """End a lost worker for sure, and start another."""
        ray.kill(member.actor)
        with self._lock:
            self._busy.remove(member)
            if not self._ended:
                self._add()

    def _watched(self, member: _Member, data: bytes) -> bytes:
        """Return what a worker answers; ping it before and meanwhile.

        Raises:
            Exception: What the job raised.
            _Lost: If it has ended or leaves pings unanswered.
        """
        began = False
        try:
            self._answered(member, member.actor.ping.remote())
            began = True
            with self._lock:
                self._moved += len(data)
            answer: bytes = self._answered(member, member.actor.play.remote(data))
        except RayTaskError as error:
            if isinstance(error.cause, StorageError):  # one line, without a traceback
                raise error.cause from error
            raise
        except RayError as error:
            msg = "its process or its node ended"
            raise _Lost(msg, began=began) from error
        except TimeoutError as error:
            raise _Lost(str(error), began=began) from error
        with self._lock:
            self._moved += len(answer)
        return answer

    def _answered(self, member: _Member, answer: Any) -> Any:  # noqa: ANN401 - Ray's
        """Return the value of a call; TimeoutError = pings stay unanswered."""
        silent = 0
        while silent < _SILENT:
            if member.ping is None:
                member.ping = member.actor.ping.remote()
            ready, _ = ray.wait([answer], timeout=_PING_S)
            if ready:
                return ray.get(answer)
            heard, _ = ray.wait([member.ping], timeout=0)
            if heard:
                ray.get(member.ping)
                member.ping = None
            silent = 0 if heard else silent + 1
        msg = f"it did not respond for {_SILENT * _PING_S:g} s"
        raise TimeoutError(msg)
