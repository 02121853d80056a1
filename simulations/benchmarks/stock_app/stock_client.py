"""Flower's FedAvg: a client that trains as FedPrune's does and sends every weight."""

import time
from pathlib import Path

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedprune.common.config import load_config
from fedprune.common.tasks.loaded import LoadedTask

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train for the configured epochs."""
    torch.set_num_threads(1)
    task = LoadedTask(load_config(Path(str(context.run_config["config"]))))
    name = task.clients[int(context.node_config["partition-id"])]
    examples = task.client_data(name).train
    model = task.build_model()
    model.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    settings = task.config.client
    optimizer = torch.optim.SGD(
        model.parameters(), lr=settings.lr, momentum=settings.momentum
    )
    started = time.monotonic()
    model.train()
    for _ in range(settings.epochs):
        order = torch.randperm(len(examples)).numpy()
        for start in range(0, len(order), settings.batch):
            batch = examples.batch(order[start : start + settings.batch])
            optimizer.zero_grad()
            loss = task.loss(model(batch.inputs), batch).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    metrics = MetricRecord(
        {"num-examples": len(examples), "seconds": time.monotonic() - started}
    )
    arrays = ArrayRecord(model.state_dict())
    content = RecordDict({"arrays": arrays, "metrics": metrics})
    return Message(content, reply_to=message)
