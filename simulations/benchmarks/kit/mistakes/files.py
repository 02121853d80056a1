"""The files of a user who makes mistakes, written into one folder."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]

MODELS = """\
import numpy as np
import torch
from torch import nn


def good(num_outputs, input_shape):
    return nn.Sequential(
        nn.Conv2d(input_shape[0], 16, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_outputs),
    )


def flat(wanted, *more):
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(1024, wanted), *more,
    )


def five():
    return flat(5)


def softmax(num_outputs):
    return flat(num_outputs, nn.Softmax(1))


def rgb(num_outputs):
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(288, num_outputs))


def number():
    return 3


def other_names(n, shape):
    return flat(n)


def linear(num_outputs):
    return nn.Linear(64, num_outputs)


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = flat(10)

    def forward(self, x):
        return self.inner(x), self.inner(x)


class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = flat(10)

    def forward(self, x):
        if x.sum() > 0:
            x = 2 * x
        return self.inner(x)


class Recurrent(nn.Module):
    def __init__(self, num_outputs):
        super().__init__()
        self.rnn = nn.LSTM(4, 16, batch_first=True)
        self.out = nn.Linear(16, num_outputs)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


class Words(nn.Module):
    def __init__(self, num_outputs):
        super().__init__()
        self.embed = nn.Embedding(50, 8)
        self.hidden = nn.Linear(8, 16)
        self.out = nn.Linear(16, num_outputs)

    def forward(self, x):
        return self.out(torch.relu(self.hidden(self.embed(x).mean(1))))


def many_of_five():
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 5),
    )


def fails():
    raise ValueError("cannot reach database")


def nothing():
    return None
"""


def write_files() -> None:
    """Write all of them into the working folder."""
    for name, text in _TEXTS.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")
    # What torch.save writes begins like any zip file.
    Path("weights.pt").write_bytes(b"PK\x03\x04" + bytes(60))
    _write_arrays()
    _write_images()


_TEXTS: Mapping[str, str] = {
    "models.py": MODELS,
    "broken.py": "def f(:\n",
    "unknown.toml": "[task]\nclients = 4\nmdel = 'x'\n",
    "wrong-type.toml": "[task]\nclients = 'four'\n",
    "unquoted.toml": "[task]\nmodel = lenet5\n",
    "notepad.toml": "\ufeff[run]\nseed = -1\n",
    "a-file": "x",
    "config.toml": "[run]\nseed = 3\n",
    "fedprune-project/fedprune.toml": "\n",
}


def _write_arrays() -> None:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(120, 1, 8, 8)).astype(np.float32)
    classes = np.arange(120) % 10
    infinite = images.copy()
    infinite[3, 0, 0, 0] = np.nan
    rows: Mapping[str, tuple[Array, Array]] = {
        "names": (images, np.array(list("abcdefghij"))[classes]),
        "one-class": (images, 0 * classes),
        "from-one": (images, classes + 1),
        "negative": (images, classes - 1),
        "halves": (images, classes + 0.5),
        "floats": (images, (classes % 2).astype(np.float64)),
        "one-hot": (images, np.eye(10, dtype=np.int64)[classes]),
        "nan": (infinite, classes),
        "shorter": (images, classes[:90]),
        "channels-last": (images.repeat(3, 1).transpose(0, 2, 3, 1), classes),
        "no-channel": (images[:, 0], classes),
        "series": (images.reshape(120, 16, 4), classes),
        "tokens": (rng.integers(0, 50, (120, 12)), classes),
    }
    for name, (inputs, targets) in rows.items():
        np.savez(
            f"{name}.npz",
            x_train=inputs[:100],
            y_train=targets[:100],
            x_test=inputs[100:] if len(targets) > 100 else inputs[:20],  # noqa: PLR2004
            y_test=targets[100:] if len(targets) > 100 else targets[:20],  # noqa: PLR2004
        )
    whole = Path("names.npz").read_bytes()
    Path("truncated.npz").write_bytes(whole[:400])


def _write_images() -> None:
    _folder("flat", ("",), lambda _: 8)
    _folder("one-folder", ("a",), lambda _: 8)
    _folder("sizes", ("a", "b"), lambda number: 8 + number)
    _folder("damaged", ("a", "b"), lambda _: 8)
    Path("damaged/a/7.png").write_bytes(b"\x89PNG and no more")


def _folder(name: str, classes: tuple[str, ...], side: Callable[[int], int]) -> None:
    from PIL import Image  # noqa: PLC0415 - an extra

    rng = np.random.default_rng(0)
    for one in classes:
        place = Path(name, one)
        place.mkdir(parents=True, exist_ok=True)
        for number in range(10):
            pixels = rng.integers(0, 255, (side(number), side(number)), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{number}.png")
