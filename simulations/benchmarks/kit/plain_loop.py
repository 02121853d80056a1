"""LeNet-5 trained by a plain loop without FedPrune: the baseline of the edge benchmark.

``python plain_loop.py COUNT EPOCHS [MODULE...]``: imports the modules first, trains on
so many random images, prints its largest memory (PSS, MB).
"""

import importlib
import sys
from pathlib import Path

import torch
from torch import nn


def main() -> None:
    """Train and print."""
    for name in sys.argv[3:]:
        importlib.import_module(name)
    torch.set_num_threads(1)
    count = int(sys.argv[1])
    inputs = torch.rand(count, 1, 28, 28)
    targets = torch.randint(10, (count,))
    model = nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    peak = 0.0
    for _ in range(int(sys.argv[2])):
        order = torch.randperm(len(inputs))
        for start in range(0, len(order), 32):
            rows = order[start : start + 32]
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs[rows]), targets[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        peak = max(peak, pss_mb())
    print(peak)


def pss_mb() -> float:
    """Return this process's PSS in MB (10^6 bytes)."""
    text = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    line = next(line for line in text.splitlines() if line.startswith("Pss:"))
    return int(line.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    main()
