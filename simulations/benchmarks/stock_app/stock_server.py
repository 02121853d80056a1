"""Flower's FedAvg, timed: the server."""

import json
import time
from collections.abc import Iterable
from pathlib import Path

from flwr.app import ArrayRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from typing_extensions import override

from fedprune.common.config import load_config
from fedprune.common.tasks.loaded import LoadedTask

app = ServerApp()


class Timed(FedAvg):
    """FedAvg that records the times of aggregation and of the clients' training."""

    ends: list[float]
    training: list[float]

    @override
    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate, and record the time."""
        found = super().aggregate_train(server_round, replies)
        self.ends.append(time.monotonic())
        if found[1] is not None:
            self.training.append(float(str(found[1]["seconds"])))
        return found


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds; write the seconds of each to a file."""
    task = LoadedTask(load_config(Path(str(context.run_config["config"]))))
    clients = task.config.task.clients
    strategy = Timed(
        fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients
    )
    while len(list(grid.get_node_ids())) < clients:
        time.sleep(0.5)
    strategy.ends, strategy.training = [time.monotonic()], []
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(task.build_model().state_dict()),
        num_rounds=int(context.run_config["rounds"]),
        timeout=600,
    )
    pairs = zip(strategy.ends, strategy.ends[1:], strict=False)
    seconds = [after - before for before, after in pairs]
    found = {"rounds": seconds, "training": strategy.training}
    place = Path(str(context.run_config["times"]))
    half = place.with_suffix(".half")
    half.write_text(json.dumps(found))
    half.replace(place)
