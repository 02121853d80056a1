"""A residual network and data of one's own, pruned federated: twelve lines."""

from sklearn.datasets import load_digits
from torch import nn

import fedprune


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 32, 3), nn.BatchNorm2d(32), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32))
        self.head = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(32 * 6 * 6, 10))

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.body(x))  # the shortcut: both prune together


x, y = load_digits().images[:, None].astype("float32") / 16, load_digits().target
run = fedprune.simulate(Net, (x[:1400], y[:1400], x[1400:], y[1400:]))
print("accuracy", run.summary["accuracy_final"], "report in", run.directory)
