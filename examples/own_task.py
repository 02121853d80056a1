"""Everything of one's own: network, data of named clients, loss, metric, optimiser."""

import torch
from torch import nn
from torch.nn import functional

import fedprune


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.size = nn.Embedding(50, 24), nn.Linear(1, 24)
        self.body = nn.Sequential(nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, 2))

    def forward(self, words, price):
        return self.body(self.embed(words).mean(1) + self.size(price))


class Shops(fedprune.Task):
    def network(self):
        return Net()

    def clients(self):
        return ["corner", "harbour", "market", "station"]

    def train_data(self, client):
        rng = torch.Generator().manual_seed(sum(client.encode()))  # a client's own
        words = torch.randint(50, (200, 6), generator=rng)
        price = torch.rand(200, 1, generator=rng)
        wanted = (words.float().mean(1) > 50 * price[:, 0]).long()
        return list(zip(words, price, wanted, strict=True))

    def test_data(self):
        return self.train_data("a shop that never trains")

    def collate(self, items):
        words, price, wanted = (torch.stack(x) for x in zip(*items, strict=True))
        return fedprune.Batch({"words": words, "price": price}, wanted)

    def augment(self, batch, generator):
        words = batch.inputs["words"][:, torch.randperm(6, generator=generator)]
        return fedprune.Batch(batch.inputs | {"words": words}, batch.targets)

    def loss(self, outputs, batch):
        return functional.cross_entropy(
            outputs, batch.targets, reduction="none", label_smoothing=0.1
        )

    def metrics(self, outputs, batch):
        return {"right": (outputs.argmax(1) == batch.targets).float()}

    def optimizer(self, parameters, lr):
        return torch.optim.Adam(parameters, lr)
