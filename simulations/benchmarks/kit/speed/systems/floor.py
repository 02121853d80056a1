"""The torch floor: plain torch in a process for each core, one round a turn.

``python -m ... FOLDER``.  The global weights are in shared memory, and so is a sum of
each process; a network is built once in each; its memory format is FedPrune's.  Process
r trains clients r, r + P and so on; the parent adds the sums.
"""

import multiprocessing
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedprune.common.config import load_config
from fedprune.common.models.layout import lay_out
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.simulations.benchmarks.kit.speed.systems.turns import Turns, folder_of
from fedprune.simulations.benchmarks.kit.speed.work import train_images

_LR, _MOMENTUM = 0.01, 0.9


def train_clients(
    model: nn.Module,
    weights: Tensor,
    total: Tensor,
    clients: list[tuple[Tensor, Tensor]],
    share: float,
    batch: int,
) -> None:
    """Train clients one after another; set the sum of their weighted weights.

    Args:
        model: The network, which is overwritten.
        weights: Global weights, float32[n].
        total: The sum, float32[n], overwritten.
        clients: Inputs and targets of each.
        share: Weight of a client in the mean.
        batch: Examples of a step.
    """
    total.zero_()
    for inputs, targets in clients:
        fill(model, weights)
        optimizer = torch.optim.SGD(model.parameters(), lr=_LR, momentum=_MOMENTUM)
        for rows in torch.split(torch.randperm(len(inputs)), batch):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(inputs[rows]), targets[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        total.add_(flat(model), alpha=share)


def fill(model: nn.Module, weights: Tensor) -> None:
    """Copy weights, float32[n], into a network; its memory format stays."""
    parameters = list(model.parameters())
    with torch.no_grad():
        parts = torch.split(weights, [weight.numel() for weight in parameters])
        for weight, part in zip(parameters, parts, strict=True):
            weight.copy_(part.view(weight.shape))


def flat(model: nn.Module) -> Tensor:
    """Return the weights of a network, float32[n], in the order of its parameters."""
    with torch.no_grad():
        return torch.cat([weight.reshape(-1) for weight in model.parameters()])


def work(
    rank: int, folder: Path, weights: Tensor, totals: Tensor, pipe: Connection
) -> None:
    """Train this process's clients whenever the parent says so."""
    torch.set_num_threads(1)
    task = _task(folder)
    model = lay_out(task.build_model(), task.example())
    numbers = range(rank, len(task.clients), len(totals))
    arrays = [train_images(task, number) for number in numbers]
    clients = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in arrays]
    share, batch = 1 / len(task.clients), task.config.client.batch
    while pipe.recv_bytes():
        train_clients(model, weights, totals[rank], clients, share, batch)
        pipe.send_bytes(b"done")


def main(arguments: list[str]) -> int:
    """Run until no turn is left."""
    torch.set_num_threads(1)
    folder, turns = folder_of(arguments), Turns()
    task = _task(folder)
    weights = flat(task.build_model())
    count = task.config.run.workers
    totals = torch.zeros(count, len(weights))
    for shared in (weights, totals):
        shared.share_memory_()  # type: ignore[no-untyped-call]
    context = multiprocessing.get_context("spawn")
    pipes = []
    for rank in range(count):
        pipe, other = context.Pipe()
        given = (rank, folder, weights, totals, other)
        context.Process(target=work, args=given, daemon=True).start()
        other.close()
        pipes.append(pipe)
    wanted = True
    while wanted:
        for pipe in pipes:
            pipe.send_bytes(b"go")
        for pipe in pipes:
            pipe.recv_bytes()
        torch.sum(totals, 0, out=weights)
        wanted = turns.ended()
    for pipe in pipes:
        pipe.send_bytes(b"")
    return 0


def _task(folder: Path) -> LoadedTask:
    return LoadedTask(load_config(folder / "fedprune.toml"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
