"""Data sets of the library ``datasets`` on disk, for tests of ``hf-dataset:``."""

import io

import numpy as np
import pytest

datasets = pytest.importorskip("datasets")

from PIL import Image  # noqa: E402

from fedprune.common.config import Task  # noqa: E402
from fedprune.common.data.sources import load_dataset  # noqa: E402

KEYS = {"target": "label", "inputs": ("a",)}


def save(path, features=None, **splits):
    """Save splits, each a dict of columns, with ``save_to_disk``; return the path."""
    kinds = None if features is None else datasets.Features(features)
    made = {
        name: datasets.Dataset.from_dict(columns, features=kinds)
        for name, columns in splits.items()
    }
    datasets.DatasetDict(made).save_to_disk(str(path))
    return path


def load(path, *, fold=0, **keys):
    """Load a path with keys of the section ``task``."""
    return load_dataset(f"hf-dataset:{path}", data_dir="", fold=fold, keys=Task(**keys))


def load_saved(path, features=None, splits=None, **keys):
    """Save splits and load them."""
    return load(save(path, features, **splits), **keys)


def batch(examples, *rows):
    """Return a batch of some examples, by default of all."""
    return examples.batch(np.array(rows or range(len(examples)), dtype=np.int64))


def png(pixels, kind="PNG"):
    """Return encoded pixels, uint8[h, w] or uint8[h, w, channels]."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind)
    return buffer.getvalue()
