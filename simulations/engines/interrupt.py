"""Ctrl-C in a run on Ray: the server's thread ends first, then workers, Flower, Ray.

Flower runs the server app in a thread and waits for Ray in others.  Were the main
thread interrupted, it would shut Ray down under those that still use it, which hangs or
aborts the process.  So the main thread goes on; the server's thread is interrupted,
workers end at once, and Flower then finishes by itself.
"""

import ctypes
import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_LINGER_S = 2.0  # for a thread that is about to end by itself
_WATCH_S = 0.2

Threads = Sequence[threading.Thread]


def interrupt(thread: threading.Thread) -> None:
    """Raise ``KeyboardInterrupt`` in a thread at its next Python instruction."""
    if thread.ident is None or not thread.is_alive():
        return
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt)
    )


@contextmanager
def interruptible(threads: Threads, stop: Path) -> Iterator[None]:
    """Let the first Ctrl-C, or SIGTERM, end the threads and the workers.

    The second one interrupts the block itself.  Nothing changes where Ctrl-C is ignored
    (``nohup``), or outside the main thread, which never sees it.

    Args:
        threads: May grow while the block runs.
        stop: File whose appearance ends the workers.
    """
    outside = threading.current_thread() is not threading.main_thread()
    if outside or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        signal.signal(number, signal.default_int_handler)
        # Workers that end look like failures to Flower, which would report each.
        logging.getLogger("flwr").setLevel(logging.CRITICAL)
        for thread in threads:
            interrupt(thread)
        stop.touch()

    before = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ended(threads: Threads) -> Iterator[None]:
    """Leave the block only when the threads have ended; interrupt those that stay.

    Nothing that they use, such as files and locks, may be closed before.
    """
    try:
        yield
    finally:
        for thread in threads:
            thread.join(_LINGER_S)
            interrupt(thread)
            thread.join()


@contextmanager
def mortal(stop: Path) -> Iterator[None]:
    """End this process at once when a file appears while the block runs.

    All that a worker writes survives that: it is made for ``kill -9``.
    """
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_WATCH_S):
            if stop.exists():
                os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()
