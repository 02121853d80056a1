"""Samples of one thread's stack, each weighted with the CPU time behind it.

A thread of its own looks at the stack every few milliseconds, so no signal interrupts
the work.  A sample stands for the CPU time of the sampled thread since the one before;
a thread that waits costs nothing and is not counted.  While compiled code keeps other
threads out, its time goes to the line that called it.
"""

import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

from fedprune.common.profiling.activities import Activity, Stack

INTERVAL_S = 0.01
_DEEPEST = 96  # functions of a stack, the outermost first
_LONGEST = 120  # characters of a name


class Sampler:
    """Samples the thread that enters it, until it leaves.

    Args:
        where: Returns the activity under way, and the depth of the stack where it
            began.
    """

    def __init__(self, where: Callable[[], tuple[Activity, int]]) -> None:
        self._where = where
        self._found: dict[Stack, float] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._watcher: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Start to sample this thread."""
        self._ended = threading.Event()
        self._watcher = threading.Thread(
            target=self._watch,
            args=(threading.get_ident(), self._ended),
            name="sampler",
            daemon=True,
        )
        self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop; nothing samples afterwards."""
        self._ended.set()
        if self._watcher is not None:
            self._watcher.join()

    def take(self) -> dict[Stack, float]:
        """Return the stacks since the last call, with their CPU seconds."""
        with self._lock:
            found, self._found = self._found, {}
        return found

    def _watch(self, thread: int, ended: threading.Event) -> None:
        spent = cpu_clock(thread)
        last = spent()
        while not ended.wait(INTERVAL_S):
            activity, depth = self._where()
            frame = sys._current_frames().get(thread)  # noqa: SLF001 - documented
            now = spent()
            if frame is None or now <= last:
                continue
            stack = (activity.side.value, activity.title, *_names(frame, depth))
            del frame  # it keeps the variables of the run alive
            with self._lock:
                self._found[stack] = self._found.get(stack, 0.0) + now - last
            last = now


def cpu_clock(thread: int) -> Callable[[], float]:
    """Return a clock of the CPU seconds of one thread; of the process elsewhere."""
    of_thread = getattr(time, "pthread_getcpuclockid", None)  # not on macOS
    if of_thread is None:
        return time.process_time
    number: int = of_thread(thread)
    return lambda: time.clock_gettime(number)


def _names(frame: FrameType | None, depth: int) -> list[str]:
    """Return the functions of a stack below a depth, the outermost first."""
    found = []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return [_name(one) for one in found[::-1][depth : depth + _DEEPEST]]


def _name(frame: FrameType) -> str:
    module = str(frame.f_globals.get("__name__", "?")).removeprefix("fedprune.")
    name = frame.f_code.co_qualname.replace(".<locals>", "")
    return f"{module}.{name}"[:_LONGEST]
