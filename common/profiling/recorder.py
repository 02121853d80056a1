"""Recording: which activity is under way, and what each took.

``during`` and ``timed`` mark activities where the work is.  They do nothing unless a
recorder is active in this thread (``Recorder.active``), so a run that is not profiled
pays for one look-up an activity, and no result can depend on either.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import wraps
from types import FrameType
from typing import ParamSpec, TypeVar

from fedprune.common.profiling.activities import Activity, Profile, Spent, Tally
from fedprune.common.profiling.sampler import Sampler

P = ParamSpec("P")
R = TypeVar("R")
Clocks = Callable[[], tuple[float, float]]

_NOTHING = nullcontext()


def clocks() -> tuple[float, float]:
    """Return CPU seconds of this process, and seconds of a clock."""
    return time.process_time(), time.perf_counter()


class Recorder:
    """Divides the time of one thread among activities.

    Args:
        base: The activity outside of all others.
        sampled: Whether the stack is sampled too, while the recorder is active.
        clocks: Returns CPU seconds and seconds of a clock, both never falling.
        before: The activity that the CPU time of the process up to now is counted
            for; None = it is not counted.
    """

    def __init__(
        self,
        base: Activity,
        *,
        sampled: bool = False,
        clocks: Clocks = clocks,
        before: Activity | None = None,
    ) -> None:
        self._clocks = clocks
        # Each activity with the depth of the stack where it began.
        self._open: list[tuple[Activity, int]] = [(base, 0)]
        self._spent: dict[Activity, list[float]] = {}
        self._last = clocks()
        if before is not None:
            self._spent[before] = [1, self._last[0], 0.0]
        self._sampler = Sampler(self._where) if sampled else None
        self._others = Tally()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Record in this thread while the block runs."""
        before = _ACTIVE.set(self)
        try:
            with self._sampler.running() if self._sampler else _NOTHING:
                yield
        finally:
            _ACTIVE.reset(before)

    @contextmanager
    def within(self, activity: Activity) -> Iterator[None]:
        """Spend the time of the block in an activity."""
        self._charge()
        self._open.append((activity, 0 if self._sampler is None else _depth()))
        self._entry(activity)[0] += 1
        try:
            yield
        finally:
            self._charge()
            self._open.pop()

    def take(self) -> Profile:
        """Return what was spent since the last call; activities under way stay so."""
        self._charge()
        spent, self._spent = self._spent, {}
        stacks = {} if self._sampler is None else self._sampler.take()
        return Profile(
            spent={
                activity: Spent(calls=int(calls), cpu_s=cpu_s, wall_s=wall_s)
                for activity, (calls, cpu_s, wall_s) in spent.items()
            },
            stacks=stacks,
        )

    def absorb(self, profile: Profile) -> None:
        """Add what another process has spent."""
        self._others.add(profile)

    @property
    def others(self) -> Profile:
        """Time that other processes have spent."""
        return self._others.profile

    def _where(self) -> tuple[Activity, int]:
        return self._open[-1]

    def _charge(self) -> None:
        """Count the time since the last call for the activity that is under way."""
        now, last = self._clocks(), self._last
        entry = self._entry(self._open[-1][0])
        entry[1] += now[0] - last[0]
        entry[2] += now[1] - last[1]
        self._last = now

    def _entry(self, activity: Activity) -> list[float]:
        return self._spent.setdefault(activity, [0, 0.0, 0.0])


_ACTIVE: ContextVar[Recorder | None] = ContextVar("recorder", default=None)


def active_recorder() -> Recorder | None:
    """Return the recorder of this thread, or None where nothing is recorded."""
    return _ACTIVE.get()


def absorb(profile: Profile | None) -> None:
    """Add what another process has spent, if it was recorded, and if this thread is."""
    recorder = _ACTIVE.get()
    if recorder is not None and profile is not None:
        recorder.absorb(profile)


def during(name: Activity) -> AbstractContextManager[None]:
    """Spend the time of a block in an activity."""
    recorder = _ACTIVE.get()
    return _NOTHING if recorder is None else recorder.within(name)


def timed(name: Activity) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that spends the time of a function in an activity."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def measured(*args: P.args, **kwargs: P.kwargs) -> R:
            with during(name):
                return function(*args, **kwargs)

        return measured

    return decorate


def _depth() -> int:
    """Return the depth of the stack at the block that begins an activity."""
    # This function, the generator of "within" and contextlib's __enter__ are above it.
    frame: FrameType | None = sys._getframe(3)  # noqa: SLF001 - documented
    depth = 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    return depth
