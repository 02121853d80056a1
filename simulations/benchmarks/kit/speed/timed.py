"""CPU time of the parts of clients' rounds in a real run, in one process."""

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from fedprune.client.rounds import round as client_round
from fedprune.client.rounds import send
from fedprune.common import codec
from fedprune.common.codec import SideInformation
from fedprune.common.config import Config
from fedprune.common.messages import ClientUpdate
from fedprune.server.runs.events import Event, RoundFinished, of_run
from fedprune.simulations.benchmarks.kit.speed.systems.turns import Enough
from fedprune.simulations.engines import worker
from fedprune.simulations.runs.run import run

TRAIN, SELECT, ENCODE, DECODE = "train", "selection", "encode", "decode"
NETWORK = "network"  # passes that are not training: validation, moments, importance
CLIENT = "client"  # a client's whole round, from the message to the answer
# What is measured, and where the code that calls it looks it up.
_PARTS: tuple[tuple[str, Any, str], ...] = (
    (TRAIN, client_round, "train"),
    (SELECT, send, "sparsify"),
    (ENCODE, codec, "encode_update"),
    (DECODE, codec, "decode_update"),
    (NETWORK, client_round, "validate"),
    (NETWORK, client_round, "importance"),
    (NETWORK, client_round, "with_own_moments"),
    (CLIENT, codec, "decode_plan"),
    (CLIENT, worker, "open_plan"),
    (CLIENT, worker, "run_round"),
)


@dataclass(slots=True)
class Timed:
    """Measurements of a run.

    Attributes:
        seconds: CPU seconds of each part in each round, all clients.
        sent: The last update that was encoded, and its side information.
    """

    seconds: list[dict[str, float]] = field(default_factory=list)
    sent: tuple[ClientUpdate, SideInformation] | None = None


class _Stopwatch:
    """Measures calls; ends the run after some rounds."""

    def __init__(self, rounds: int) -> None:
        self.found = Timed()
        self._rounds = rounds
        self._now = _zeros()

    def around(self, part: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its CPU time measured."""

        def measured(*given: Any, **named: Any) -> Any:  # noqa: ANN401 - passed on
            if part == ENCODE:
                self.found.sent = given[0], given[1]
            started = time.process_time()
            try:
                return real(*given, **named)
            finally:
                self._now[part] += time.process_time() - started

        return measured

    def on_event(self, event: Event) -> None:
        """Keep the times of a round."""
        if of_run([event], RoundFinished):
            self.found.seconds.append(self._now)
            self._now = _zeros()
            if len(self.found.seconds) == self._rounds:
                raise Enough


def timed_run(config: Config, rounds: int) -> Timed:
    """Run some rounds in this process; return the CPU time of their parts.

    Args:
        config: Has more rounds than are run.
        rounds: Rounds, >= 1; the first one loads and builds.
    """
    watch = _Stopwatch(rounds)
    with (
        ExitStack() as stack,
        tempfile.TemporaryDirectory(prefix="fedprune-speed-") as folder,
    ):
        for part, owner, name in _PARTS:
            found = watch.around(part, getattr(owner, name))
            stack.enter_context(patch.object(owner, name, found))
        place = config.run.model_copy(
            update={"dir": str(Path(folder)), "engine": "inprocess", "controls": ()}
        )
        try:
            run(config.model_copy(update={"run": place}), progress=watch)
        except Enough:
            return watch.found
    return watch.found


def _zeros() -> dict[str, float]:
    return {part: 0.0 for part, _, _ in _PARTS}
