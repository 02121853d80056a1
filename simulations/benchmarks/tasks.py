"""Tasks of every kind through ``fedprune.Task``, and what a run of them costs.

``python -m fedprune.simulations.benchmarks.tasks [ROW ...] [--work DIR]``, with
``--json FILE`` and ``--check`` of every benchmark; all rows by default.  Raw results
stay in DIR and are not measured again.  Some rows need ``FEDPRUNE_DATA``.  Settings
were chosen on seeds 101 and above, and on no test figure of the seeds that count.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from fedprune.simulations.benchmarks.kit import resnet20
from fedprune.simulations.benchmarks.kit.harness import Figure, benchmark
from fedprune.simulations.benchmarks.kit.rows import RowStore
from fedprune.simulations.benchmarks.kit.tasks import experiments
from fedprune.simulations.benchmarks.kit.tasks.devices import on_devices
from fedprune.simulations.benchmarks.kit.tasks.experiments import Experiment
from fedprune.simulations.benchmarks.kit.tasks.gpu import gpu
from fedprune.simulations.benchmarks.kit.tasks.memory import memory
from fedprune.simulations.benchmarks.kit.tasks.messages import messages
from fedprune.simulations.benchmarks.kit.tasks.own import own_everything
from fedprune.simulations.experiments import FOLDER
from fedprune.simulations.experiments.pretrain_language import WEIGHTS, pretrain

WORK = Path("build") / "tasks"

_SMALL = {
    "tabular": "breast cancer of scikit-learn, a fifth held out; a perceptron",
    "regression": "Friedman's function, 400 of 2 000 held out; a perceptron",
    "multi-label": "five attributes of scikit-learn's digits, a fifth held out",
    "segmentation": "shapes made in code, 500 images and 200; a small U-Net",
    "series": "sines of four periods made in code, 1 600 and 400; two Conv1d",
}


def pretrained_vision(store: RowStore) -> list[Figure]:
    """Return the figures of a pretrained ResNet-20 on CIFAR-10."""
    weights = resnet20.weights_file()
    if weights is None:
        return [_not_run("pretrained-vision", f"lacks {resnet20.WEIGHTS}")]
    chosen = Experiment(
        name="pretrained-vision",
        settings={"task.weights": str(weights)},
        detail="ResNet-20 of clean CIFAR-10, JPEG images, the first 2 000 of the test",
    )
    return experiments.figures(store, chosen)


def language_model(store: RowStore) -> list[Figure]:
    """Return the figures of a decoder on Shakespeare's roles."""
    if not WEIGHTS.is_file():
        pretrain(WEIGHTS)
    chosen = Experiment(
        name="language-model",
        settings={"task.weights": str(WEIGHTS.resolve())},
        blocks="blocks",
        detail="next character; 0.8 M parameters trained on SST-2 and 33 other roles",
    )
    return experiments.figures(store, chosen)


def text_classification(store: RowStore) -> list[Figure]:
    """Return the figures of a BERT on SST-2, and of a mean of embeddings beside it."""
    network = Experiment(
        name="text-classification", detail="BERT of two layers, 64 wide, untrained"
    )
    words = Experiment(
        name="text-words",
        file="text-classification",
        settings={
            "task.use": f"{FOLDER / 'sentiment.py'}:SentimentOfWords",
            "rounds.cuts": 0,
            "rounds.final": 7,
            "update": {"update_density": 1.0, "values": "float32"},
            "run.controls": [],
        },
    )
    (one,) = experiments.results(store, words)
    return [
        *experiments.figures(store, network),
        Figure(
            name="text-classification: test accuracy of a mean of embeddings",
            value=100 * one["accuracy_final"],
            unit="%",
            detail=f"n = 1; dense FedAvg, {one['rounds']} rounds, "
            f"{one['params_dense']} parameters; it does not see the order of words, "
            "and is a strong rival on these sentences",
        ),
    ]


def small(name: str, store: RowStore) -> list[Figure]:
    """Return the figures of one of the small tasks, three seeds."""
    chosen = Experiment(
        name=name, seeds=range(3), goal=">= -1", detail=f"{_SMALL[name]}; n = 3"
    )
    return experiments.figures(store, chosen)


ROWS: dict[str, Callable[[RowStore], list[Figure]]] = {
    "pretrained-vision": pretrained_vision,
    "language-model": language_model,
    "text-classification": text_classification,
    **{name: partial(small, name) for name in _SMALL},
    "own-everything": own_everything,
    "on-devices": on_devices,
    "messages": messages,
    "memory": memory,
    "gpu": gpu,
}


def _not_run(name: str, why: str) -> Figure:
    return Figure(name=f"{name}: rows", value=0, detail=f"not run: FEDPRUNE_DATA {why}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen rows; stored results are not measured again."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("rows", nargs="*", metavar="ROW", choices=[*ROWS, []])
    parser.add_argument("--work", type=Path, default=WORK)
    # Named here, or its file would be taken for a row.
    parser.add_argument("--json", default="")
    own, rest = parser.parse_known_args(arguments)
    rest += ["--json", own.json] if own.json else []
    store = RowStore(own.work)

    def measure() -> list[Figure]:
        return [found for row in own.rows or ROWS for found in ROWS[row](store)]

    return benchmark("tasks", measure)(rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
