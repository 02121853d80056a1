"""Samples of one thread's stack, each weighted with the CPU time behind it.

A thread of its own looks at the stack every few milliseconds, so no signal interrupts
the work.  A sample stands for the CPU time of the sampled thread since the one before;
a thread that waits costs nothing and is not counted.  While compiled code keeps other
threads out, its time goes to the line that called it.
"""

import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import accumulate, repeat
from types import CodeType, FrameType

from fedprune.common.profiling.activities import Activity, Stack

INTERVAL_S = 0.01
_DEEPEST = 96  # functions of a stack, the outermost first
_LONGEST = 120  # characters of a name


class Sampler:
    """Samples the thread that runs a block of it (``running``).

    Args:
        where: Returns the activity under way, and the depth of the stack where it
            began.
    """

    def __init__(self, where: Callable[[], tuple[Activity, int]]) -> None:
        self._where = where
        self._found: dict[tuple[Activity, Stack], float] = {}
        self._names: dict[CodeType, str] = {}
        self._lock = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Sample this thread while the block runs; nothing samples afterwards."""
        ended = threading.Event()
        watcher = threading.Thread(
            target=self._watch,
            args=(threading.get_ident(), ended),
            name="sampler",
            daemon=True,
        )
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def take(self) -> dict[Stack, float]:
        """Return the stacks since the last call, with their CPU seconds."""
        with self._lock:
            found, self._found = self._found, {}
        named: dict[Stack, float] = {}
        for (activity, names), cpu_s in found.items():
            stack = (activity.side.value, activity.title, *names)
            named[stack] = named.get(stack, 0.0) + cpu_s
        return named

    def _watch(self, thread: int, ended: threading.Event) -> None:
        spent = cpu_clock(thread)
        last = spent()
        while not ended.wait(INTERVAL_S):
            now = spent()
            if now - last < INTERVAL_S / 2:  # it waits, or the machine is busy
                continue
            activity, depth = self._where()
            frames = stack_of(thread)
            names = tuple(map(self._name, frames[depth : depth + _DEEPEST]))
            del frames  # they keep the variables of the run alive
            with self._lock:
                key = (activity, names)
                self._found[key] = self._found.get(key, 0.0) + now - last
            last = now

    def _name(self, frame: FrameType) -> str:
        """Return the name of a function; each code is named once."""
        name = self._names.get(frame.f_code)
        if name is None:
            module = str(frame.f_globals.get("__name__", "?")).removeprefix("fedprune.")
            function = frame.f_code.co_qualname.replace(".<locals>", "")
            name = self._names[frame.f_code] = f"{module}.{function}"[:_LONGEST]
        return name


def stack_of(thread: int) -> list[FrameType]:
    """Return the frames of a thread, the outermost first; none if it has ended.

    The thread goes on meanwhile.  Python 3.11 may collect garbage while it makes the
    object of a frame; a finaliser would then let the thread go on in the middle, and
    the frame would be gone.  So nothing is collected, and one call walks the stack.
    """
    frames: list[FrameType | None] = []
    collects = gc.isenabled()
    gc.disable()
    try:
        top = sys._current_frames().get(thread)  # noqa: SLF001 - documented
        if top is not None:
            with suppress(AttributeError):  # None has no caller: the list is whole
                frames.extend(accumulate(repeat("f_back"), getattr, initial=top))
    finally:
        if collects:
            gc.enable()
    return [frame for frame in reversed(frames) if frame is not None]


def cpu_clock(thread: int) -> Callable[[], float]:
    """Return a clock of the CPU seconds of one thread; of the process elsewhere."""
    of_thread = getattr(time, "pthread_getcpuclockid", None)  # not on macOS
    if of_thread is None:
        return time.process_time
    number: int = of_thread(thread)
    return lambda: time.clock_gettime(number)
