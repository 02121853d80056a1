"""Determinism: one model hash from all engines, worker counts and resumed runs.

``python -m fedprune.simulations.benchmarks.determinism``
"""

import json
import signal
import sys
import tempfile
from pathlib import Path

from fedprune.common.config import load_config
from fedprune.simulations.benchmarks.kit.harness import Figure, benchmark
from fedprune.simulations.benchmarks.kit.runs import summaries
from fedprune.simulations.engines.faults import MOMENTS, Trap, forked
from fedprune.simulations.runs.run import resume, run

SMALL = [
    "run.controls=[]",
    "client.epochs=1",
    "rounds.warmup=1",
    "rounds.sparsify=1",
    "rounds.finetune=1",
    "rounds.cuts=2",
    "rounds.final=2",
]
IN_PROCESS = "run.engine=inprocess"
ENGINES = {
    "in-process": [IN_PROCESS],
    "Ray, 1 worker": ["run.workers=1"],
    "Ray, 2 workers": ["run.workers=2"],
    "Ray, 3 workers": ["run.workers=3"],
}


def measure() -> list[Figure]:
    """Run one small federation on every engine, and killed at every named moment."""
    killed = {moment: _killed(trap) for moment, trap in MOMENTS.items()}
    engines = {
        name: str(summaries([0], [*SMALL, *settings])[0]["model_sha256"])
        for name, settings in ENGINES.items()
    }
    hashes = engines | {f"killed {moment}": sha for moment, sha in killed.items()}
    return [
        Figure(
            name="different final models",
            value=len(set(hashes.values())),
            goal="== 1",
            detail="; ".join(f"{name} {sha[:12]}" for name, sha in hashes.items()),
        ),
        Figure(
            name="runs ended by SIGKILL and resumed",
            value=len(killed),
            goal="== 4",
            detail=", ".join(killed),
        ),
    ]


def _killed(trap: Trap) -> str:
    """Return the model of a run that kills itself and is resumed in a new process.

    Raises:
        RuntimeError: If the run was not killed, or could not be resumed.
    """
    with tempfile.TemporaryDirectory(prefix="fedprune-") as folder:
        config = load_config(None, [*SMALL, IN_PROCESS, f'run.dir="{folder}"'])

        def start() -> None:
            trap()
            run(config)

        ended = forked(start)
        (left,) = Path(folder).iterdir()
        resumed = forked(lambda: resume(left))
        if (ended, resumed) != (-signal.SIGKILL, 0):
            msg = f"the run ended with {ended} and its resumption with {resumed}"
            raise RuntimeError(msg)
        summary = json.loads((left / "summary.json").read_text(encoding="utf-8"))
        return str(summary["model_sha256"])


main = benchmark("determinism", measure)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
