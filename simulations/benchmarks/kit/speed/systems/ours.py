"""FedPrune as it is, one round a turn: ``python -m ... FOLDER on|dense``.

The folder has the configuration, ``fedprune.toml``; "dense" is what the control of that
name runs.  With "start" a run goes to its end, with a turn before its first round and
one after its last.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

from fedprune.common.config import Config, load_config
from fedprune.common.system.memory import keep_memory
from fedprune.server.runs.controls.settings import control_config
from fedprune.server.runs.events import MAIN, Event, RoundFinished, of_run
from fedprune.server.runs.federation import run_federation
from fedprune.simulations.benchmarks.kit.speed.systems.turns import (
    Enough,
    Turns,
    folder_of,
)
from fedprune.simulations.runs import run as runs
from fedprune.simulations.runs.controls import run_controls

DENSE, START = "dense", "start"
_ROUNDS = 200  # of a dense run; the benchmark ends it earlier


class _OneRoundATurn:
    """Progress that lets a round begin only when it is its turn."""

    def __init__(self) -> None:
        self._turns = Turns()

    def on_event(self, event: Event) -> None:
        """Wait after a round that trained."""
        if of_run([event], RoundFinished, MAIN) and not self._turns.ended():
            raise Enough


def configuration(folder: Path, mode: str) -> Config:
    """Return the configuration of a mode."""
    config = load_config(folder / "fedprune.toml", [f'run.dir="{folder / mode}"'])
    return control_config(DENSE, config, _ROUNDS) if mode == DENSE else config


def main(arguments: list[str]) -> int:
    """Run until no turn is left."""
    folder, mode = folder_of(arguments), arguments[1]
    config = configuration(folder, mode)
    keep_memory()  # as ``fedprune simulate`` does
    try:
        if mode == START:
            _run_whole(config)
        else:
            runs.run(config, progress=_OneRoundATurn())
    except Enough:
        return 0
    return 0


def _run_whole(config: Config) -> None:
    """Run to the end; wait where the engine is up, and where the rounds are over."""
    turns = Turns()

    def after_a_turn(real: Callable[..., object]) -> Callable[..., object]:
        def waiting(*given: object, **named: object) -> object:
            if not turns.ended():
                raise Enough
            return real(*given, **named)

        return waiting

    with (
        patch.object(runs, "run_federation", after_a_turn(run_federation)),
        patch.object(runs, "run_controls", after_a_turn(run_controls)),
    ):
        runs.run(config)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
