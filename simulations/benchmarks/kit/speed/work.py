"""Workloads of the speed benchmark: clients, their images, the network, the rounds."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from torch import nn

from fedprune.common.config import load_config
from fedprune.common.data.examples import Dataset
from fedprune.common.data.npz import write_npz
from fedprune.common.data.sources import load_dataset
from fedprune.common.tasks.loaded import LoadedTask

SPARSIFY, FINETUNE, CUTS = 2, 2, 4  # as the defaults
BATCH = 32
_TESTED = 1000  # images of the evaluation in every round
_HIDDEN = 2950  # of the perceptron with 11.05 million weights
_CONFIG = """\
[task]
model = "{model}"
data = "npz:{data}"
partition = {{ kind = "iid" }}
clients = {clients}

[rounds]
warmup = 1
sparsify = {sparsify}
finetune = {finetune}
cuts = {cuts}
cohort = {clients}
minimum = {clients}
deadline_s = 36000.0

[client]
epochs = 1
batch = {batch}

[run]
engine = "{engine}"
workers = {workers}
controls = []
state_limit_mb = 1000000
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A workload.  All clients take part in all rounds.

    Attributes:
        clients: Number of clients.
        images: MNIST images that one client trains on; as many more validate as make
            ``client.validation`` a tenth of all.
        model: ``task.model``.
        rounds: Measured rounds: a whole cycle of the schedule.
        workers: Processes that train.
        engine: ``run.engine`` of FedPrune.
    """

    clients: int
    images: int
    model: str = "lenet5"
    rounds: int = SPARSIFY + FINETUNE
    workers: int = 2
    engine: str = "ray"

    @property
    def held(self) -> int:
        """Images of one client, with those that validate."""
        return held_images(self.images)

    @property
    def steps(self) -> int:
        """Local steps of one client in a round."""
        return -(-self.images // BATCH)

    def of(self, clients: int) -> "Work":
        """Return the same work of another number of clients."""
        return replace(self, clients=clients)

    def without_ray(self) -> "Work":
        """Return the same work in one process, which starts sooner."""
        return replace(self, engine="inprocess", workers=1)

    def to_json(self) -> Mapping[str, object]:
        """Return what the results depend on."""
        return asdict(self)

    def write(self, folder: Path) -> None:
        """Write configuration and data of the systems.

        Raises:
            ConfigError: If ``FEDPRUNE_DATA`` has no MNIST.
        """
        folder.mkdir(parents=True)
        data = folder / "data.npz"
        write_npz(data, _arrays(self.clients * self.held))
        (folder / "fedprune.toml").write_text(self.toml(data), encoding="utf-8")

    def toml(self, data: Path) -> str:
        """Return the configuration: every default but what the workload says."""
        return _CONFIG.format(
            model=self.model,
            data=data,
            clients=self.clients,
            sparsify=SPARSIFY,
            finetune=FINETUNE,
            cuts=CUTS,
            batch=BATCH,
            engine=self.engine,
            workers=self.workers,
        )

    def write_raw(self, folder: Path) -> None:
        """Write what ``pfl_script.py`` reads, beside what ``write`` has written."""
        task = LoadedTask(load_config(folder / "fedprune.toml"))
        parts = [train_images(task, number) for number in range(self.clients)]
        np.concatenate([x for x, _ in parts]).astype("<f4").tofile(
            folder / "images.bin"
        )
        np.concatenate([y for _, y in parts]).astype("<i8").tofile(
            folder / "targets.bin"
        )
        facts = {
            "clients": self.clients,
            "batch": BATCH,
            "workers": self.workers,
            "ends": np.cumsum([len(y) for _, y in parts])[:-1].tolist(),
        }
        (folder / "raw.json").write_text(json.dumps(facts), encoding="utf-8")


def held_images(images: int) -> int:
    """Return the fewest images of a client of which so many train.

    >>> held_images(600), held_images(64), held_images(32)
    (666, 71, 35)
    """
    count = images
    while count - max(1, int(0.1 * count)) < images:
        count += 1
    return count


def perceptron() -> nn.Module:
    """Return a network of 11.05 million weights that costs little to train."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, _HIDDEN),
        nn.ReLU(),
        nn.Linear(_HIDDEN, _HIDDEN),
        nn.ReLU(),
        nn.Linear(_HIDDEN, 10),
    )


def train_images(task: LoadedTask, client: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what one client trains on: float32[n, 1, 28, 28] and int64[n]."""
    examples = task.client_data(task.clients[client]).train
    batch = examples.batch(np.arange(len(examples)))
    return batch.inputs.numpy(), batch.targets.numpy()


def _arrays(count: int) -> dict[str, np.ndarray]:
    """Return the first images of MNIST, standardised, as ``npz:`` wants them."""
    found = _mnist()
    train = found.train.batch(np.arange(count))
    test = found.test.batch(np.arange(_TESTED))
    return {
        "x_train": train.inputs.numpy(),
        "y_train": train.targets.numpy(),
        "x_test": test.inputs.numpy(),
        "y_test": test.targets.numpy(),
    }


@cache
def _mnist() -> Dataset:
    return load_dataset("mnist", data_dir="", fold=0)
