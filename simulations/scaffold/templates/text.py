"""Template of texts in a CSV file, classified by their bytes, without a tokenizer."""

import csv
from io import StringIO

import numpy as np

from fedprune.simulations.scaffold.template import HEAD, TASK, Template
from fedprune.simulations.scaffold.templates.short import SHORT

_FILE = "texts.csv"
_ROWS = 1200
_WORDS = {
    "delivery": "parcel courier street door shipment tracking package address depot",
    "invoice": "payment refund price receipt bank charge amount tax card",
    "login": "password account email code screen sign device profile reset",
}
_COMMON = "please my the is still not and a help thanks today again was for what"

_HEAD = f"""\
{HEAD}#
# {_FILE} has made-up messages: a header "label,text", and one row for each.  Put rows
# of your own in their place; the labels are found.  my_task.py turns texts into bytes
# and has the network.  For a network of transformers see task.tokenizer and "hf:NAME".
"""

_MY_TASK = '''\
"""Texts of a CSV file by their bytes, and a small convolutional network for them."""

import csv
from pathlib import Path

import numpy as np
from torch import nn

FILE = Path(__file__).with_name("texts.csv")  # a header "label,text", then the rows
LENGTH = 96  # bytes of a text that count; shorter ones end in zeros
TEST = 5  # one row in five is for the test


def load_data():
    """Return (x_train, y_train, x_test, y_test): int64[n, LENGTH] and classes[n]."""
    with FILE.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    labels = sorted({row["label"] for row in rows})
    targets = np.array([labels.index(row["label"]) for row in rows])
    inputs = np.stack([as_bytes(row["text"]) for row in rows])
    test = np.arange(len(rows)) % TEST == 0
    return inputs[~test], targets[~test], inputs[test], targets[test]


def as_bytes(text):
    """Return the first bytes of a text in UTF-8, int64[LENGTH]."""
    found = np.zeros(LENGTH, dtype=np.int64)
    data = text.encode()[:LENGTH]
    found[: len(data)] = list(data)
    return found


class Bytes(nn.Module):
    """Two convolutions over the bytes of a text; the strongest place counts."""

    def __init__(self, num_outputs):
        super().__init__()
        self.embed = nn.Embedding(256, 24)
        self.body = nn.Sequential(
            nn.Conv1d(24, 48, 5, padding=2, bias=False),
            nn.BatchNorm1d(48),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(48, 64, 5, padding=2, bias=False),
            nn.BatchNorm1d(64),
            nn.ReLU(),
            nn.AdaptiveMaxPool1d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(64, num_outputs)

    def forward(self, ids):
        return self.head(self.body(self.embed(ids).transpose(1, 2)))


def make_model(num_outputs):
    """Return the network; its channels are found and pruned by themselves."""
    return Bytes(num_outputs)
'''


def _texts() -> dict[str, bytes]:
    """Return the file of made-up messages."""
    rng = np.random.default_rng(0)
    written = StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(["label", "text"])
    for _ in range(_ROWS):
        label = str(rng.choice([*_WORDS]))
        words = rng.choice(_COMMON.split(), rng.integers(5, 9)).tolist()
        for word in rng.choice(_WORDS[label].split(), rng.integers(1, 4)):
            words.insert(int(rng.integers(len(words) + 1)), str(word))
        other = str(rng.choice([*_WORDS]))  # so that no network is right always
        words.append(str(rng.choice(_WORDS[other].split())))
        writer.writerow([label, " ".join(words)])
    return {_FILE: written.getvalue().encode()}


TEXT = Template(
    head=_HEAD,
    values={
        ("task", "model"): f"{TASK}:make_model",
        ("task", "data"): f"{TASK}:load_data",
        **SHORT,
    },
    files={TASK: _MY_TASK},
    data=_texts,
)
