"""A residual network and data of one's own, pruned federated: fits on a screen."""

from sklearn.datasets import load_digits
from torch import nn

import fedprune


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 24, 3, padding=1), nn.BatchNorm2d(24))
        self.block = nn.Sequential(nn.Conv2d(24, 24, 3, padding=1), nn.BatchNorm2d(24))
        self.act, self.pool = nn.ReLU(), nn.AdaptiveAvgPool2d(2)
        self.head = nn.Linear(4 * 24, 10)

    def forward(self, x):
        x = self.act(self.stem(x))
        x = self.act(x + self.block(x))  # the shortcut: both prune together
        return self.head(self.pool(x).flatten(1))


if __name__ == "__main__":
    x, y = load_digits(return_X_y=True)
    x = (x / 16 - 0.3).reshape(-1, 1, 8, 8).astype("float32")
    run = fedprune.simulate(
        Net,
        (x[:1400], y[:1400], x[1400:], y[1400:]),
        {"task.clients": 5, "rounds.cohort": 5, "prune.budget.params": 0.5},
    )
    print("accuracy", run.summary["accuracy_final"], "report in", run.directory)
