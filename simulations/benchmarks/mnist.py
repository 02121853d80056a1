"""LeNet-5-Caffe on MNIST: ``simulations/experiments/mnist-lenet5.toml``.

``FEDPRUNE_DATA=FOLDER python -m fedprune.simulations.benchmarks.mnist``
"""

import sys

from fedprune.simulations.benchmarks.kit.harness import Figure, benchmark
from fedprune.simulations.benchmarks.kit.runs import equal_bytes, ratio, summaries
from fedprune.simulations.experiments import LENET


def measure() -> list[Figure]:
    """Run the experiment with its control, seed 0."""
    runs = summaries([0], file=LENET)
    one = runs[0]
    return [
        Figure(
            name="test error, final",
            value=100 * (1 - one["accuracy_final"]),
            unit="%",
            goal="<= 1.0",
            reference="prototype 0.94 % at 5 %",
        ),
        Figure(
            name="test error, dense FedAvg control",
            value=100 * (1 - one["accuracy_control"]),
            unit="%",
            reference="prototype 0.94 %",
        ),
        Figure(
            name="parameters, final / dense",
            value=ratio(runs, "params_final", "params_dense"),
            goal="<= 0.05",
            detail=f"{one['params_final']} of {one['params_dense']}",
        ),
        Figure(
            name="FLOPs, final / dense",
            value=ratio(runs, "flops_final", "flops_dense"),
        ),
        Figure(
            name="bytes up, control / run",
            value=ratio(runs, "bytes_up_control", "bytes_up"),
            unit="x",
            goal=">= 100",
            reference="prototype 162 at 10 %, 415 at 3 % (entropy estimate)",
        ),
        Figure(
            name="bytes down, control / run",
            value=ratio(runs, "bytes_down_control", "bytes_down"),
            unit="x",
            goal=">= 20",
            reference="dense float32 messages of the same code, same rounds",
        ),
        *equal_bytes(runs),
        Figure(
            name="file, dense / final",
            value=ratio(runs, "model_bytes_dense", "model_bytes_final"),
            unit="x",
            detail="float32 safetensors both",
        ),
        Figure(name="rounds", value=one["rounds"], detail=f"{one['seconds']:.0f} s"),
    ]


main = benchmark("mnist", measure)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
