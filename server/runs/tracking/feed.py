"""A thread that hands a run's figures to one tracker, so that no round waits for it."""

import queue
import threading
from collections.abc import Callable
from typing import Final, TypeAlias

from fedprune.common.text import error_line

Job: TypeAlias = Callable[[], None]

_END: Final = None


class Feed:
    """Jobs for one tracker, done in order in a thread of their own.

    After a job that raises none is done any more.

    Args:
        name: Name of the tracker.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._failure = ""
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        # A tracker that hangs must not keep the process alive.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
        """Add a job, and return at once."""
        self._jobs.put(job)

    @property
    def failure(self) -> str:
        """The reason why it takes no more jobs, in one line; "" while it does."""
        return self._failure

    def close(self, limit_s: float) -> str:
        """Wait for the jobs that are left, and end the thread.

        Args:
            limit_s: Seconds to wait at most.

        Returns:
            Why not all were done, in one line; "" if all were.
        """
        self._jobs.put(_END)
        self._thread.join(limit_s)
        if self._thread.is_alive() and not self._failure:
            self._failure = f"it has not taken everything after {limit_s:g} s"
        return self._failure

    def _work(self) -> None:
        while (job := self._jobs.get()) is not _END:
            if self._failure:
                continue
            try:
                job()
            # Of another package, with any error that there is: SystemExit too.
            except BaseException as error:
                self._failure = error_line(error)
