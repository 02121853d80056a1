"""Stock Flower FedAvg on Flower's Ray engine, one round a turn: a node a client.

``python -m ... FOLDER``.  The client is as Flower's quickstart has it: a new network
and optimiser for each message; its data stay loaded.
"""

import logging
import os
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from torch.nn import functional
from typing_extensions import override

from fedprune.common.config import load_config
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.simulations.benchmarks.kit.speed.systems.turns import Turns, folder_of
from fedprune.simulations.benchmarks.kit.speed.work import train_images

_FOLDER = "FEDPRUNE_SPEED_FOLDER"
_ROUNDS = 10_000  # the benchmark ends it earlier
_STORE = 1_000_000_000
app = ClientApp()
server = ServerApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train for one epoch and send every weight."""
    torch.set_num_threads(1)
    task = _task()
    inputs, targets = _examples(int(context.node_config["partition-id"]))
    model = task.build_model()
    model.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    settings = task.config.client
    optimizer = torch.optim.SGD(
        model.parameters(), lr=settings.lr, momentum=settings.momentum
    )
    model.train()
    for rows in torch.split(torch.randperm(len(inputs)), settings.batch):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(inputs[rows]), targets[rows])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    content = RecordDict(
        {
            "arrays": ArrayRecord(model.state_dict()),
            "metrics": MetricRecord({"num-examples": len(inputs)}),
        }
    )
    return Message(content, reply_to=message)


class _OneRoundATurn(FedAvg):
    """FedAvg that begins a round only when it is its turn."""

    turns: Turns

    @override
    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate; wait."""
        answers = list(replies)
        failed = sum(answer.has_error() for answer in answers)
        if failed or len(answers) < self.min_train_nodes:
            # Fewer answers would be a cheaper round.
            print(f"{failed} of {len(answers)} failed", flush=True)
            os._exit(3)
        found = super().aggregate_train(server_round, answers)
        if not self.turns.ended():
            sys.stdout.flush()
            os._exit(0)  # Flower has no other end of a run before its last round
        return found


@server.main()
def main_of_server(grid: Grid, context: Context) -> None:
    """Run rounds until no turn is left."""
    del context
    task = _task()
    count = len(task.clients)
    strategy = _OneRoundATurn(
        fraction_evaluate=0.0, min_train_nodes=count, min_available_nodes=count
    )
    strategy.turns = Turns()
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(task.build_model().state_dict()),
        num_rounds=_ROUNDS,
        timeout=36_000,
    )


@cache
def _task() -> LoadedTask:
    return LoadedTask(load_config(Path(os.environ[_FOLDER]) / "fedprune.toml"))


@cache
def _examples(client: int) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, targets = train_images(_task(), client)
    return torch.from_numpy(inputs), torch.from_numpy(targets)


def main(arguments: list[str]) -> int:
    """Run until no turn is left."""
    os.environ[_FOLDER] = str(folder_of(arguments))
    logging.getLogger("flwr").setLevel(logging.ERROR)
    config = _task().config
    run_simulation(
        server_app=server,
        client_app=app,
        num_supernodes=len(_task().clients),
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            "init_args": {
                # Without "local" it would join any Ray of this machine.
                "address": "local",
                "num_cpus": config.run.workers,
                "object_store_memory": _STORE,
                "logging_level": logging.ERROR,
                "log_to_driver": False,
                "include_dashboard": False,
            },
        },
    )
    return 0


if __name__ == "__main__":
    # By its name, or Ray would send the functions of "__main__" by value.
    from fedprune.simulations.benchmarks.kit.speed.systems import flower

    sys.exit(flower.main(sys.argv[1:]))
