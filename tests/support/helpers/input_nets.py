"""Networks and examples of several inputs, and of tokens with a mask."""

import torch
from torch import nn
from torch.nn import functional

X, Y = (
    torch.randn(3, width, generator=torch.Generator().manual_seed(width))
    for width in (6, 4)
)
TOKENS = torch.randint(20, (3, 5), generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]])


class Two(nn.Module):
    """One hidden layer for each of two tables, concatenated."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(6, 12), nn.Linear(4, 10)
        self.out = nn.Linear(22, 3)

    def forward(self, x, y):
        parts = [functional.relu(self.one(x)), functional.relu(self.other(y))]
        return self.out(torch.cat(parts, 1))
