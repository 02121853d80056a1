"""One process for each network, with limits of time and memory."""

import multiprocessing
import time

from fedprune.simulations.benchmarks.kit.coverage.measure import (
    Request,
    measure_and_send,
)
from fedprune.simulations.benchmarks.kit.coverage.row import LIMIT, Row, as_row

_PRELOAD = "fedprune.simulations.benchmarks.kit.coverage.preload"


def measure_apart(request: Request, seconds: float) -> Row:
    """Measure one network in a process of its own.

    A process that ends early, or is ended at its limit, leaves the parts of the row
    that it has sent.

    Args:
        request: The network and the steps.
        seconds: Limit of the time on the clock.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_PRELOAD])
    mine, other = context.Pipe(duplex=False)
    process = context.Process(target=measure_and_send, args=(request, other))
    started = time.monotonic()
    process.start()
    other.close()
    found: dict[str, object] = {}
    why = ""
    try:
        while not why:
            left = started + seconds - time.monotonic()
            if left <= 0 or not mine.poll(left):
                why = f"ended after {seconds:g} s"
            else:
                found |= mine.recv()
    except EOFError:
        process.join()
    finally:
        process.kill()
        process.join()
        mine.close()
    if not why and process.exitcode:
        why = f"the process ended with {process.exitcode}"
    found.setdefault("seconds", time.monotonic() - started)
    if "outcome" not in found:
        found |= {"outcome": LIMIT, "detail": why}
    elif why:
        found["detail"] = f"{found.get('detail', '')} ({why})".strip()
    return as_row(request.key, found)
