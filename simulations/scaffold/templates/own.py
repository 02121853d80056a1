"""Template of a network and data of the user's own, in Python."""

from fedprune.simulations.scaffold.template import TASK, Template

_MY_TASK = '''\
"""A task of my own: its network and its data.

``fedprune.toml`` names the two functions; both run on this machine, offline.
"""

import numpy as np
from torch import nn

SIDE = 8  # pixels of an image's edge


def load_data():
    """Return (x_train, y_train, x_test, y_test): noisy stripes of four directions.

    Inputs are float32[n, channels, height, width] (or uint8 pixels, or rows of
    features), targets integer classes[n] (or float values[n] for loss = "mse").
    """
    rng = np.random.default_rng(0)
    x_train, y_train = stripes(rng, 1200)
    x_test, y_test = stripes(rng, 400)
    return x_train, y_train, x_test, y_test


def stripes(rng, count):
    """Return images float32[count, 1, SIDE, SIDE] and their directions int64[count]."""
    row, column = np.mgrid[:SIDE, :SIDE]
    ramps = np.stack([row, column, row + column, row - column])
    directions = rng.integers(4, size=count)
    shifts = rng.uniform(0, 2 * np.pi, size=(count, 1, 1))
    images = np.sin(ramps[directions] * 1.5 + shifts)
    images += rng.normal(scale=1.0, size=images.shape)
    return images[:, None].astype(np.float32), directions


def make_model(num_outputs, input_shape):
    """Return the network; its channels are found and pruned by themselves."""
    return nn.Sequential(
        nn.Conv2d(input_shape[0], 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, num_outputs),
    )
'''

OWN = Template(
    values={
        ("task", "model"): "my_task.py:make_model",
        ("task", "data"): "my_task.py:load_data",
    },
    files={TASK: _MY_TASK},
)
