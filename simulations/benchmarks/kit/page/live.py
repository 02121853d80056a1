"""A run that a browser watches: delay of a round's figures, CPU of the watching."""

import re
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from fedprune.common.config import Config
from fedprune.server.live.serving import LivePage
from fedprune.server.runs.events import RoundFinished
from fedprune.server.runs.events.base import MAIN
from fedprune.server.runs.events.codec import Place, decode_event, parse_line
from fedprune.simulations.benchmarks.kit.page.browser import chromium
from fedprune.simulations.runs.progress import SilentProgress
from fedprune.simulations.runs.run import run

_STEP_S = 0.05  # between two looks at the page
_ROUND = re.compile(r"round (\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """A run that was watched.

    Attributes:
        delays: Seconds from the event of a round in the log until its figures are seen
            in the page, for each round that was seen.
        missed: Rounds whose own figures were never seen.
        watching_s: CPU seconds of the thread that serves the page.
        running_s: CPU seconds of the run beside it.
    """

    delays: list[float]
    missed: int
    watching_s: float
    running_s: float


@dataclass(slots=True)
class _Reader:
    """A browser with the page open, in a thread of its own.

    Attributes:
        address: The page.
        seen: Round -> when its figures were seen first, in seconds since 1970.
        cpu_s: CPU seconds of the thread.
    """

    address: str
    seen: dict[int, float] = field(default_factory=dict)
    cpu_s: float = 0.0
    ready: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)

    def read(self) -> None:
        """Look at the page until the run is over."""
        with chromium() as browser:
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(self.address)
            self.ready.set()
            while not self.done.is_set():
                state = page.locator(".chip").first.inner_text()
                found = _ROUND.search(state)
                if found:
                    self.seen.setdefault(int(found[1]), time.time())
                time.sleep(_STEP_S)
        self.cpu_s = time.thread_time()


def watch(config: Config) -> Watching:
    """Run a federation in this process while a browser watches it."""
    display = SilentProgress()
    with LivePage("127.0.0.1", 0) as page:
        page.follow(lambda: Path(display.directory) if display.directory else None)
        reader = _Reader(page.address)
        thread = threading.Thread(target=reader.read, daemon=True)
        thread.start()
        reader.ready.wait(60)
        began = time.process_time()
        clock = time.pthread_getcpuclockid(page.thread.ident or 0)
        served = time.clock_gettime(clock)
        result = run(config, progress=display)
        watching = time.clock_gettime(clock) - served
        whole = time.process_time() - began
        time.sleep(1.0)
        reader.done.set()
        thread.join(60)
    written = _written(result.directory / "events.jsonl")
    delays = [
        reader.seen[number] - at
        for number, at in written.items()
        if number in reader.seen
    ]
    return Watching(
        delays=delays,
        missed=len(written) - len(delays),
        watching_s=watching,
        running_s=whole - watching - reader.cpu_s,
    )


def _written(log: Path) -> dict[int, float]:
    """Return when the event of each round of the run itself was written."""
    found = {}
    for number, line in enumerate(log.read_bytes().splitlines()[1:], start=2):
        record = parse_line(line) or {}
        event = decode_event(record, Place(log, number))
        if isinstance(event, RoundFinished) and event.run == MAIN:
            at = datetime.fromisoformat(str(record["time"]))
            found[event.round] = at.timestamp()
    return found
