"""Fault injection: processes that end themselves with SIGKILL at a chosen moment.

`kill -9` leaves the same state as a crash or a lack of memory, but at a moment that can
be named and repeated.  Tests and the determinism benchmark use it.
"""

import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fedprune.client.rounds.train
import fedprune.server.runs.checkpoint
import fedprune.server.runs.loop
import fedprune.simulations.engines.worker

Trap = Callable[[], None]


def die() -> None:
    """End this process as ``kill -9`` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def nth_call(
    owner: Any,  # noqa: ANN401 - a module or a class
    name: str,
    number: int,
    then: Callable[..., None] | None = None,
) -> None:
    """Die at the ``number``-th call of a function: before it, or after ``then``.

    Args:
        owner: Module or class of the function.
        name: Its name there.
        number: Number of the call, from 1.
        then: Called instead, with the real function and its arguments.
    """
    real, count = getattr(owner, name), 0

    def counted(*arguments: object, **options: object) -> object:
        nonlocal count
        count += 1
        if count == number:
            if then is not None:
                then(real, *arguments, **options)
            die()
        return real(*arguments, **options)

    setattr(owner, name, counted)


def before_rename(start: str, number: int) -> None:
    """Die between the write of the n-th file named ``start...`` and its renaming."""
    real, count = Path.replace, 0

    def replace(self: Path, target: str | os.PathLike[str]) -> Path:
        nonlocal count
        count += Path(target).name.startswith(start)
        if count == number:
            die()
        return real(self, target)

    Path.replace = replace  # type: ignore[method-assign, assignment]


def completed(
    real: Callable[..., object], *arguments: object, **options: object
) -> None:
    """Let the call happen, then die."""
    real(*arguments, **options)


# Each arms a fault in the process that is to die; the run must have at least one cut at
# the end of its second round, and five clients.
MOMENTS: dict[str, Trap] = {
    "inside local training": lambda: nth_call(
        fedprune.client.rounds.train, "_step", 100
    ),
    "between two clients' answers": lambda: nth_call(
        fedprune.simulations.engines.worker.Worker, "_one", 15
    ),
    "before a checkpoint is renamed": lambda: before_rename("main-round-", 3),
    "right after the round of a cut": lambda: nth_call(
        fedprune.server.runs.loop, "plan_round", 3
    ),
}


def forked(work: Callable[[], object]) -> int:
    """Run in a fork; return how it ended, as ``os.waitstatus_to_exitcode``."""
    number = os.fork()
    if number == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(number, 0)
    return os.waitstatus_to_exitcode(status)
