"""Trackers: the figures that each one has of a run, read back by its own package.

``python -m fedprune.simulations.benchmarks.trackers``

The run is killed before a checkpoint is renamed and resumed: a round is played twice,
and must be in every tracker once.  Everything stays on this machine.
"""

import os
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

from fedprune.common.config import Config, load_config
from fedprune.server.runs.events import of_kind, read_events
from fedprune.server.runs.events.kinds import WarningGiven
from fedprune.server.runs.folder import RunFolder, read_json_object
from fedprune.server.runs.tracking import TRACKERS
from fedprune.simulations.benchmarks.kit.harness import Figure, benchmark
from fedprune.simulations.benchmarks.kit.trackers.stored import (
    STORED,
    Point,
    written,
)
from fedprune.simulations.engines.faults import before_rename, forked
from fedprune.simulations.runs.run import resume, run

SMALL = (
    "run.engine=inprocess",
    "task.clients=4",
    "rounds.cohort=4",
    "rounds.minimum=2",
    "client.epochs=1",
    "rounds.warmup=1",
    "rounds.sparsify=1",
    "rounds.finetune=1",
    "rounds.cuts=2",
    "rounds.final=2",
)
_TIME = "seconds"  # of the round that is played twice, trackers have the first
_CLOSE = 1e-6  # relative: TensorBoard has float32


def measure() -> list[Figure]:
    """Run a small federation with all trackers and without, and read them back."""
    os.environ["WANDB_MODE"] = "offline"
    with tempfile.TemporaryDirectory(prefix="fedprune-") as place:
        for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
            os.environ[name] = place
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        folder = _killed_and_resumed(Path(place, "tracked"), tuple(TRACKERS))
        plain = _killed_and_resumed(Path(place, "plain"), ())
        return [*_figures(folder), _changed(folder, plain)]


def _killed_and_resumed(place: Path, trackers: tuple[str, ...]) -> RunFolder:
    """Return a run that killed itself in its third round and was resumed.

    Raises:
        RuntimeError: If it was not killed, or could not be resumed.
    """
    named = ", ".join(f'"{name}"' for name in trackers)
    config: Config = load_config(
        None, [*SMALL, f'run.dir="{place}"', f"run.track=[{named}]"]
    )

    def start() -> None:
        before_rename("main-round-", 3)
        run(config)

    ended = forked(start)
    (left,) = (path for path in place.iterdir() if (path / "manifest.json").is_file())
    resumed = forked(lambda: resume(left))
    if (ended, resumed) != (-signal.SIGKILL, 0):
        msg = f"the run ended with {ended} and its resumption with {resumed}"
        raise RuntimeError(msg)
    return RunFolder.open(left)


def _figures(folder: RunFolder) -> list[Figure]:
    """Return a row for each tracker, and the trackers that have all."""
    wanted = written(folder)
    rows = [_row(name, wanted, folder) for name in TRACKERS]
    return [
        *rows,
        Figure(
            name="trackers with all figures, each once",
            value=sum(row.met is True for row in rows),
            goal=f"== {len(TRACKERS)}",
            detail="killed before a checkpoint was renamed, and resumed",
        ),
        Figure(
            name="warnings about trackers",
            value=sum(
                "tracker" in event.text
                for event in of_kind(read_events(folder.events), WarningGiven)
            ),
            goal="== 0",
        ),
    ]


def _row(name: str, wanted: dict[Point, float], folder: RunFolder) -> Figure:
    found = next(read for key, read in STORED.items() if key == name)(folder)
    times = Counter(place for place, _ in found)
    values = dict(found)
    right = sum(
        times[place] == 1 and (place.name == _TIME or _equal(values[place], value))
        for place, value in wanted.items()
    )
    twice = sum(count > 1 for count in times.values())
    return Figure(
        name=f"{name}: metrics read back / written",
        value=right / len(wanted),
        goal="== 1",
        detail=f"{right} of {len(wanted)} figures of rounds and cuts; {twice} twice",
    )


def _equal(found: float, value: float) -> bool:
    return abs(found - value) <= _CLOSE * abs(value)


def _changed(folder: RunFolder, plain: RunFolder) -> Figure:
    hashes = {
        str(read_json_object(each.summary)["model_sha256"]) for each in (folder, plain)
    }
    return Figure(
        name="different final models with and without trackers",
        value=len(hashes),
        goal="== 1",
        detail=", ".join(sha[:12] for sha in sorted(hashes)),
    )


main = benchmark("trackers", measure)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
