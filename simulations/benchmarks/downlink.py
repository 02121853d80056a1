"""Bytes down with a small cohort: 10 of 100 clients.

``FEDPRUNE_DATA=FOLDER python -m fedprune.simulations.benchmarks.downlink``

A client is away for ten rounds on average, longer than the server stores broadcasts, so
most are sent the whole network (``simulations/experiments/mnist-100-clients.toml``).
10 of 20 clients: ``fedprune.simulations.benchmarks.mnist``.
"""

import sys

from fedprune.simulations.benchmarks.kit.harness import Figure, benchmark
from fedprune.simulations.benchmarks.kit.runs import (
    Summary,
    ratio,
    summaries,
)
from fedprune.simulations.experiments import MANY_CLIENTS

CLIENTS = 100


def measure() -> list[Figure]:
    """Run the experiment with its control, seed 0, in process."""
    return figures(summaries([0], ['run.engine="inprocess"'], MANY_CLIENTS)[0])


def figures(one: Summary) -> list[Figure]:
    """Return the figures of a run."""
    return [
        Figure(
            name=f"bytes down, control / run, 10 of {CLIENTS} clients",
            value=ratio([one], "bytes_down_control", "bytes_down"),
            unit="x",
            goal=">= 12",
            reference="dense float32 messages of the same code, same rounds",
            detail=f"{one['bytes_down']} B in {one['rounds']} rounds",
        ),
        Figure(
            name=f"bytes up, control / run, 10 of {CLIENTS} clients",
            value=ratio([one], "bytes_up_control", "bytes_up"),
            unit="x",
            reference="dense float32 messages of the same code, same rounds",
        ),
        Figure(
            name="test accuracy, final - control",
            value=100 * (one["accuracy_final"] - one["accuracy_control"]),
            unit="points",
            detail=f"{one['accuracy_final']:.4f}, {one['accuracy_control']:.4f}",
        ),
        Figure(
            name="parameters, final / dense",
            value=ratio([one], "params_final", "params_dense"),
            goal="<= 0.05",
        ),
    ]


main = benchmark("downlink", measure)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
