"""A network of two branches, and what each criterion says of its channels."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from fedprune.client.rounds.score import score
from fedprune.common.data.examples import Batch, Examples
from fedprune.common.methods.channel_weights import ChannelWeights, Rows
from fedprune.common.methods.kinds import IMPORTANCE
from fedprune.common.methods.method import Side
from fedprune.common.methods.registry import find
from fedprune.common.models.flat import get_weights
from fedprune.common.pruning.importance import weight_scores
from fedprune.common.spec import Indices, Vector
from fedprune.common.structure.structure import Structure
from fedprune.common.structure.tracing.find import find_structure
from fedprune.common.tasks.loaded import LoadedTask
from helpers.codec.examples import SETTINGS
from helpers.tiny_federation import make_examples, make_task

EXAMPLES = make_examples(20)
CHANNELS = 7  # of ``view``


class Scaled(LoadedTask):
    """A task whose loss is seven times as large."""

    def loss(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        return 7.0 * super().loss(outputs, batch)


class Branches(nn.Module):
    """Two branches that cost the same, side by side: 16 + 16 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16))
        self.right = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16))
        self.fc = nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = torch.cat([self.left(x), self.right(x)], 1)
        return self.fc(functional.relu(both).mean((2, 3)))


def network(*, alike: bool = False) -> tuple[nn.Module, Structure]:
    """Return the network, its norms drawn or every channel the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Branches().eval()
        for branch in (model.left, model.right):
            nn.init.uniform_(branch[1].weight, 0.5, 1.5)
            nn.init.uniform_(branch[1].bias, 0.1, 0.5)
        if alike:  # every channel is the same, and the classifier sees each alike
            with torch.no_grad():
                for item in model.parameters():
                    item.fill_(0.25)
                model.fc.weight.copy_(
                    torch.tensor([[0.3], [-0.2], [0.1]]).expand(3, 32)
                )
    return model, find_structure(model, torch.zeros(2, 1, 4, 4))


def measured(
    model: nn.Module,
    structure: Structure,
    criterion: str,
    task: LoadedTask | None = None,
    examples: Examples = EXAMPLES,
) -> Vector:
    """Return a criterion of all channels, from whichever side measures it."""
    if find(IMPORTANCE, criterion).side is Side.SERVER:
        rng = np.random.default_rng(0)
        return weight_scores(
            structure, structure.full(), get_weights(model), criterion, rng
        )
    return score(
        model,
        examples,
        make_task() if task is None else task,
        structure,
        structure.full(),
        replace(SETTINGS, importance=criterion, batch=8),
        draws=np.random.default_rng(0),
    )


def view(
    seed: int = 0, order: Indices | None = None, factor: float = 1.0
) -> ChannelWeights:
    """Return weights of 7 channels in two producers and a norm, in an order."""
    rng = np.random.default_rng(seed)
    place = np.arange(CHANNELS) if order is None else np.argsort(order)

    def rows(count: int, width: int) -> Rows:
        channel = np.resize(np.arange(-1, CHANNELS), count)
        stored = factor * (rng.normal(size=(count, width)) + 0.1)
        return Rows(unit=np.where(channel < 0, -1, place[channel]), stored=stored)

    return ChannelWeights(
        channels=CHANNELS,
        producers=(rows(8, 5), rows(16, 3)),
        norms=(rows(8, 1),),
        unit=np.arange(CHANNELS),
    )
