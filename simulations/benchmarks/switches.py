"""What each part is worth: the default run on digits with one part switched off.

Three seeds each, no control.  ``python -m simulations.benchmarks.switches``
"""

import sys

from simulations.benchmarks.harness import Figure, benchmark
from simulations.benchmarks.runs import Summary, listed, mean, summaries

SEEDS = range(3)
ROWS = {
    "L1 penalty": ["client.strength=0.0"],
    "error feedback": ["update.error_feedback=false"],
    "distillation": ["distill.weight=0.0"],
    "clients' votes (random channels instead)": ["prune.importance=random"],
    "clients' votes (server-only L2 instead)": ["prune.importance=l2"],
}


def measure() -> list[Figure]:
    """Run the defaults, then each row."""
    quiet = ["run.control=false"]
    on = summaries(SEEDS, quiet)
    figures = [
        Figure(
            name="everything on: accuracy",
            value=100 * mean(on, "accuracy_final"),
            unit="%",
            detail=listed(on, "accuracy_final"),
        )
    ]
    for name, settings in ROWS.items():
        off = summaries(SEEDS, [*quiet, *settings])
        figures += _row(name, on, off)
    return figures


def _row(name: str, on: list[Summary], off: list[Summary]) -> list[Figure]:
    gain = mean(on, "accuracy_final") - mean(off, "accuracy_final")
    after = mean(on, "accuracy_after_cut") - mean(off, "accuracy_after_cut")
    rows = [
        Figure(
            name=f"{name}: final accuracy, on - off",
            value=100 * gain,
            unit="points",
            detail=f"off: {listed(off, 'accuracy_final')}",
        ),
        Figure(
            name=f"{name}: right after the last cut, on - off",
            value=100 * after,
            unit="points",
            detail=f"rollbacks on {_sum(on)}, off {_sum(off)}",
        ),
    ]
    if name == "L1 penalty":
        zeros = mean(on, "zero_share_broadcast") - mean(off, "zero_share_broadcast")
        rows.append(
            Figure(
                name="L1 penalty: exactly zero channels in the broadcast, on - off",
                value=100 * zeros,
                unit="points",
                goal=">= 20",
                detail="mean over the ends of the sparsify phases",
            )
        )
    return rows


def _sum(runs: list[Summary]) -> int:
    return sum(int(run["rollbacks"]) for run in runs)


main = benchmark("switches", measure)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
