"""Early ends of a run on Ray: the server as by Ctrl-C, workers at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_WATCH_S = 0.2


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


@contextmanager
def mortal(stop: Path) -> Iterator[None]:
    """End this process at once when a file appears while the block runs.

    A worker's files are written atomically, so they survive it.
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
