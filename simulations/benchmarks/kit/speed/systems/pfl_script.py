"""FedAvg of pfl-research, one round a turn; run by an interpreter of its own.

``PYTHON pfl_script.py FOLDER``, with the environment of ``make rival-pfl``, and never
imported.  It reads what ``Work.write_raw`` wrote, trains LeNet-5 in as many processes
as ``workers`` says, with gloo between them, and takes turns as ``turns.py`` does.
"""

import json
import os
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

_LR, _MOMENTUM = 0.05, 0.9
_ROUNDS = 10_000  # the benchmark ends it earlier


class LeNet(nn.Sequential):
    """LeNet-5 of 431 080 weights, with the two methods that pfl-research asks for."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10),
        )  # fmt: skip

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch."""
        self.train()
        return nn.functional.cross_entropy(self(inputs), targets)

    def metrics(self, inputs: Tensor, targets: Tensor) -> dict[str, Any]:
        """Return nothing: no round is evaluated."""
        del inputs, targets
        return {}


class OneRoundATurn:
    """A callback that begins a round only when it is its turn, in all processes."""

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._metrics = import_module("pfl.metrics").Metrics
        numbers = os.environ["FEDPRUNE_TURNS"].split(",")
        self._reading, self._writing = (int(number) for number in numbers)

    def on_train_begin(self, *, model: object) -> object:
        """Return no metrics."""
        del model
        return self._metrics()

    def after_central_iteration(
        self, aggregate_metrics: object, model: object, *, central_iteration: int
    ) -> tuple[bool, object]:
        """Wait; return whether the run is to end."""
        del aggregate_metrics, model, central_iteration
        ends = torch.zeros(1)
        if self._rank == 0:
            os.write(self._writing, b".")
            ends[0] = float(not os.read(self._reading, 1))
        torch.distributed.broadcast(ends, 0)
        return bool(ends), self._metrics()

    @override
    def __eq__(self, other: object) -> bool:
        return self is other

    @override
    def __hash__(self) -> int:
        return id(self)

    def on_train_end(self, *, model: object) -> None:
        """Do nothing."""


def main(folder: Path) -> None:
    """Start the other processes, and train as the first one or as one of them."""
    facts = json.loads((folder / "raw.json").read_text("utf-8"))
    rank = int(os.environ.get("RANK", "0"))
    others = [] if "RANK" in os.environ else _start_others(facts["workers"])
    torch.set_num_threads(1)
    _train(folder, facts, rank)
    for other in others:
        other.wait()


def _start_others(count: int) -> "list[subprocess.Popen[bytes]]":
    """Set what torchrun sets, and start processes 1, 2 and so on of this script."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "speed", "WORLD_SIZE": str(count), "RANK": "0",
        "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    return [
        subprocess.Popen(  # noqa: S603 - this script
            [sys.executable, *sys.argv],
            env=os.environ | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(1, count)
    ]


def _train(folder: Path, facts: dict[str, Any], rank: int) -> None:
    count, batch = facts["clients"], facts["batch"]
    images = np.fromfile(folder / "images.bin", dtype="<f4").reshape(-1, 1, 28, 28)
    targets = np.fromfile(folder / "targets.bin", dtype="<i8")
    parts = zip(
        np.split(images, facts["ends"]), np.split(targets, facts["ends"]), strict=True
    )
    tensors = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in parts]
    data, federated = import_module("pfl.data.pytorch"), import_module("pfl.data")
    sampler = import_module("pfl.data.sampling").get_user_sampler(
        "minimize_reuse", list(range(count))
    )
    users = federated.FederatedDataset(
        lambda user: data.PyTorchTensorDataset(tensors[user]), sampler
    )
    params = import_module("pfl.hyperparam").NNTrainHyperParams(
        local_num_epochs=1, local_learning_rate=_LR, local_batch_size=batch
    )
    averaging = import_module("pfl.algorithm.federated_averaging")
    steps = import_module("pfl.algorithm.base").NNAlgorithmParams(
        central_num_iterations=_ROUNDS,
        evaluation_frequency=_ROUNDS,
        train_cohort_size=count,
        val_cohort_size=0,
    )
    backend = import_module("pfl.aggregate.simulate").SimulatedBackend(
        training_data=users, val_data=users
    )
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - the sampler's: all processes draw the same
    network = LeNet()
    model = import_module("pfl.model.pytorch").PyTorchModel(
        network,
        lambda weights, lr: torch.optim.SGD(weights, lr=lr, momentum=_MOMENTUM),
        torch.optim.SGD(network.parameters(), lr=1.0),
    )
    averaging.FederatedAveraging().run(
        steps, backend, model, params, callbacks=[OneRoundATurn(rank)]
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
