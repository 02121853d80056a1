"""Early ends of a run: SIGTERM as Ctrl-C, and a limit on its time."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf

from fedprune.common.errors import FedPruneError


class TimeLimit:
    """The time that a run has: past it the run ends, and no answer is left out.

    Args:
        seconds: From now; 0 = no limit.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds if seconds else inf

    def check(self) -> None:
        """Raise if the time is over.

        Raises:
            FedPruneError: If it is; the run can be resumed.
        """
        if time.monotonic() > self._end:
            msg = f"the run has had the {self._seconds:g} s of run.limit_s"
            raise FedPruneError(msg)


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM interrupt the block as Ctrl-C does.

    Ray would have it end this process at once.  Outside of the main thread, which
    alone receives signals, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
