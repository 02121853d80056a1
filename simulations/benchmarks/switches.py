"""Ablation: the default run on digits with one part switched on or off.

Three seeds each, no control; distillation is off by default, so it is switched on.
``python -m fedprune.simulations.benchmarks.switches``
"""

import sys

from fedprune.simulations.benchmarks.kit.harness import Figure, benchmark
from fedprune.simulations.benchmarks.kit.runs import Summary, listed, mean, summaries

SEEDS = range(3)
OFF = {
    "L1 penalty": ["client.strength=0.0"],
    "error feedback": ["update.error_feedback=false"],
    "clients' votes (random channels instead)": ["prune.importance=random"],
    "clients' votes (server-only L2 instead)": ["prune.importance=l2"],
}
ON = {
    "distillation (previous network)": ["distill.weight=0.5"],
    "distillation (dense network)": ["distill.weight=0.5", "distill.teacher=dense"],
}


def measure() -> list[Figure]:
    """Run the defaults, then each row."""
    quiet = ["run.controls=[]"]
    default = summaries(SEEDS, quiet)
    figures = [
        Figure(
            name="defaults: accuracy",
            value=100 * mean(default, "accuracy_final"),
            unit="%",
            detail=listed(default, "accuracy_final"),
        )
    ]
    for name, settings in OFF.items():
        figures += _row(name, default, summaries(SEEDS, [*quiet, *settings]))
    for name, settings in ON.items():
        figures += _row(name, summaries(SEEDS, [*quiet, *settings]), default)
    return figures


def _row(name: str, on: list[Summary], off: list[Summary]) -> list[Figure]:
    gain = mean(on, "accuracy_final") - mean(off, "accuracy_final")
    after = mean(on, "accuracy_after_cut") - mean(off, "accuracy_after_cut")
    rows = [
        Figure(
            name=f"{name}: final accuracy, on - off",
            value=100 * gain,
            unit="points",
            detail=f"on: {listed(on, 'accuracy_final')}; "
            f"off: {listed(off, 'accuracy_final')}",
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
