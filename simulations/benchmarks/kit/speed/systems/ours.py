"""FedPrune as it is, one round a turn: ``python -m ... FOLDER on|dense``.

The folder has the configuration, ``fedprune.toml``; "dense" is what the control of that
name runs.
"""

import sys
from pathlib import Path

from fedprune.common.config import Config, load_config
from fedprune.server.runs.controls.settings import control_config
from fedprune.server.runs.events import MAIN, Event, RoundFinished, of_run
from fedprune.simulations.benchmarks.kit.speed.systems.turns import (
    Enough,
    Turns,
    folder_of,
)
from fedprune.simulations.runs.run import run

DENSE = "dense"
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
    try:
        run(configuration(folder, mode), progress=_OneRoundATurn())
    except Enough:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
