"""Template of a table in a CSV file: numbers and categories, one column of classes."""

import csv
from io import StringIO

import numpy as np

from fedprune.simulations.scaffold.template import HEAD, TASK, Template
from fedprune.simulations.scaffold.templates.short import SHORT

_FILE = "table.csv"
_ROWS = 1500
_MACHINES = ("lathe", "mill", "press")
_COLUMNS = ("temperature", "vibration", "current", "hours", "machine", "state")

_HEAD = f"""\
{HEAD}#
# {_FILE} has made-up readings of machines: a header, numbers, one category, and the
# class ("state") as the last column.  Put a table of your own in its place; columns are
# found.  A table in a .npz or .parquet file needs no code: data = "npz:FILE" or
# "hf-dataset:FOLDER".
"""

_MY_TASK = '''\
"""A table of a CSV file: numbers, categories, and a class in the last column."""

import csv
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("table.csv")
TEST = 5  # one row in five is for the test


def load_data():
    """Return (x_train, y_train, x_test, y_test): float32[n, features], classes[n]."""
    with FILE.open(newline="", encoding="utf-8-sig") as file:
        _, *rows = (row for row in csv.reader(file) if row)  # without empty lines
    *columns, classes = zip(*rows)
    inputs = np.concatenate([as_features(column) for column in columns], axis=1)
    labels = sorted(set(classes))
    targets = np.array([labels.index(name) for name in classes])
    test = np.arange(len(rows)) % TEST == 0
    # On devices each has rows of its own: take mean and deviation from a table that
    # all know, not from the rows of one.
    mean, deviation = inputs[~test].mean(0), inputs[~test].std(0)
    inputs = ((inputs - mean) / np.maximum(deviation, 1e-6)).astype(np.float32)
    return inputs[~test], targets[~test], inputs[test], targets[test]


def as_features(column):
    """Return a column as numbers, or as one column of 0 and 1 for each category."""
    try:
        return np.array(column, dtype=np.float64)[:, None]
    except ValueError:
        known = sorted(set(column))
        return np.array([[value == name for name in known] for value in column], float)
'''


def _table() -> dict[str, bytes]:
    """Return the file of made-up readings."""
    rng = np.random.default_rng(0)
    written = StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for _ in range(_ROWS):
        machine = int(rng.integers(len(_MACHINES)))
        hours = rng.uniform(0, 1000)
        worn = hours / 1000 + 0.3 * machine + rng.normal(0, 0.15)
        heat = 40 + 25 * worn + rng.normal(0, 4)
        shake = 0.5 + worn**2 + rng.normal(0, 0.15)
        current = 10 + 3 * machine + 2 * worn + rng.normal(0, 0.5)
        state = ("good", "watch", "repair")[int(worn > 0.6) + int(worn > 1.1)]  # noqa: PLR2004
        numbers = [f"{x:.2f}" for x in (heat, shake, current, hours)]
        writer.writerow([*numbers, _MACHINES[machine], state])
    return {_FILE: written.getvalue().encode()}


TABULAR = Template(
    head=_HEAD,
    values={
        ("task", "model"): "mlp",
        ("task", "data"): f"{TASK}:load_data",
        **SHORT,
    },
    files={TASK: _MY_TASK},
    data=_table,
)
