"""The default run over seeds 0-4: every one of the 1 797 digits is tested once.

``python -m fedprune.simulations.benchmarks.digits``
"""

import sys
from collections.abc import Sequence

from fedprune.simulations.benchmarks.kit.harness import Figure, benchmark
from fedprune.simulations.benchmarks.kit.rows import over_seeds, spread_text
from fedprune.simulations.benchmarks.kit.runs import (
    Summary,
    equal_bytes,
    listed,
    mean,
    ratio,
    summaries,
)

SEEDS = range(5)


def measure() -> list[Figure]:
    """Run the defaults, control included, on five folds."""
    return figures(summaries(SEEDS))


def figures(runs: Sequence[Summary]) -> list[Figure]:
    """Return the figures of the runs."""
    gaps = [100 * (r["accuracy_final"] - r["accuracy_control"]) for r in runs]
    gap = over_seeds(gaps)
    messages = ratio(runs, "bytes_up", "bytes_fixed_up")
    return [
        Figure(
            name="mean accuracy, final",
            value=100 * mean(runs, "accuracy_final"),
            unit="%",
            detail=listed(runs, "accuracy_final"),
        ),
        Figure(
            name="mean accuracy, dense FedAvg control",
            value=100 * mean(runs, "accuracy_control"),
            unit="%",
            detail=listed(runs, "accuracy_control"),
        ),
        Figure(
            name="mean accuracy, final - control",
            value=gap.mean,
            low=gap.low,
            high=gap.high,
            unit="points",
            goal=">= -0.5",
            detail=spread_text(gaps),
        ),
        Figure(
            name="worst seed, final - control",
            value=min(gaps),
            unit="points",
            goal=">= -2",
        ),
        Figure(
            name="parameters, final / dense",
            value=ratio(runs, "params_final", "params_dense"),
            goal="<= 0.3",
        ),
        Figure(
            name="FLOPs, final / dense",
            value=ratio(runs, "flops_final", "flops_dense"),
            goal="<= 0.35",
        ),
        Figure(
            name="bytes up, control / run",
            value=ratio(runs, "bytes_up_control", "bytes_up"),
            unit="x",
            goal=">= 60",
            reference="dense float32 messages of the same code, same rounds",
        ),
        Figure(
            name="bytes down, control / run",
            value=ratio(runs, "bytes_down_control", "bytes_down"),
            unit="x",
            goal=">= 6",
            reference="dense float32 messages of the same code, same rounds",
        ),
        *equal_bytes(runs),
        Figure(
            name="fixed bytes of a message up",
            value=mean(runs, "bytes_fixed_per_message"),
            unit="B",
            detail=f"statistics, importance, scales, header: 1/{messages:.1f} of all",
        ),
        Figure(
            name="exactly zero channels at the end of the sparsify phases",
            value=100 * mean(runs, "zero_share_broadcast"),
            unit="%",
        ),
        Figure(
            name="cuts of a run, fewest",
            value=min(int(r["cuts"]) for r in runs),
            goal=">= 3",
        ),
        Figure(
            name="batch-1 latency, dense / final",
            value=ratio(runs, "latency_ms_dense", "latency_ms_final"),
            unit="x",
            detail="eager torch, one thread, interleaved, medians",
        ),
        Figure(
            name="seconds of a run, control included",
            value=mean(runs, "seconds"),
            unit="s",
            goal="<= 90",
            detail=listed(runs, "seconds", 0),
        ),
    ]


main = benchmark("digits", measure)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
