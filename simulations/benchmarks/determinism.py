"""One hash from every engine and worker count.

Runs that are killed and resumed are compared in tests/integration.
``python -m simulations.benchmarks.determinism``
"""

import sys

from simulations.benchmarks.harness import Figure, benchmark
from simulations.benchmarks.runs import summaries

SMALL = [
    "run.control=false",
    "client.epochs=1",
    "rounds.warmup=1",
    "rounds.sparsify=1",
    "rounds.finetune=1",
    "rounds.cuts=2",
    "rounds.final=2",
]
ENGINES = {
    "in-process": ["run.engine=inprocess"],
    "Ray, 1 worker": ["run.workers=1"],
    "Ray, 2 workers": ["run.workers=2"],
    "Ray, 3 workers": ["run.workers=3"],
}


def measure() -> list[Figure]:
    """Run one small federation on every engine."""
    hashes = {
        name: str(summaries([0], [*SMALL, *settings])[0]["model_sha256"])
        for name, settings in ENGINES.items()
    }
    return [
        Figure(
            name="different final models",
            value=len(set(hashes.values())),
            goal="== 1",
            detail="; ".join(f"{name} {sha[:12]}" for name, sha in hashes.items()),
        )
    ]


main = benchmark("determinism", measure)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
