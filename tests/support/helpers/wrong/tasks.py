"""Tasks of one's own with one method that is wrong."""

from threading import Lock

import torch

from fedprune import Task
from helpers.tiny_federation import Tiny, make_examples

NAMES = ("ann", "bob", "cid", "dan")


class Own(Task):
    """Tiny images as a list of pairs, of four natural clients."""

    def network(self):
        return Tiny()

    def clients(self):
        return NAMES

    def train_data(self, client):
        return pairs(12, NAMES.index(client))

    def test_data(self):
        return pairs(12, len(NAMES))


def pairs(count, seed=0):
    """Return a list of (image, class)."""
    found = make_examples(count, seed)
    return list(
        zip(torch.from_numpy(found.inputs), found.targets.tolist(), strict=True)
    )


def own(**methods):
    """Return a task with other methods, such as ``loss=lambda self, y, batch: ...``."""
    return type("Own", (Own,), methods)()


def always(value):
    """Return a method that returns one value whatever it is given."""
    return lambda self, *_: value


def failing(self, *_):
    """Fail as code does."""
    return {}["none"]


class Iterable:
    """Data that can be iterated over, and have no length."""

    def __iter__(self):
        return iter(pairs(12))


class Unreadable(list):
    """Data whose first example cannot be read."""

    def __getitem__(self, index):
        message = "truncated\nat byte 3"
        raise OSError(message)


class Heavy(Own):
    """Keeps its data in the object, which every message to a worker would carry."""

    def __init__(self):
        self.kept = bytes(20 << 20)


class Locked(Own):
    """Holds what cannot be sent to another process."""

    def __init__(self):
        self.lock = Lock()


class Untouchable:
    """Must never be pickled."""

    def __reduce__(self):
        raise AssertionError
