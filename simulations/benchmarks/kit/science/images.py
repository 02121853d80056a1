"""The first MNIST images of both splits, whole or at half the side."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fedprune.common.data.images import decode_images
from fedprune.common.data.places import find_folder, shards

Arrays = tuple[NDArray[np.generic], ...]  # train images, classes, test images, classes

TRAIN, TEST = 10_000, 5_000  # of the rows that train whole networks
_SIDE = 28


def mnist() -> Arrays:
    """Return the first ``TRAIN`` and ``TEST`` images, float32[n, 1, 28, 28], 0..1."""
    return first_images(TRAIN, TEST, halved=False)


def small_mnist() -> Arrays:
    """Return them at 14 x 14, the mean of each 2 x 2 pixels."""
    return first_images(TRAIN, TEST, halved=True)


@lru_cache(maxsize=1)
def first_images(train: int, test: int, *, halved: bool) -> Arrays:
    """Return the first images of both splits and their classes; no other is decoded.

    Args:
        train: Number of training images.
        test: Number of test images.
        halved: Whether an image is the mean of each 2 x 2 pixels.
    """
    folder = find_folder("mnist", "")
    found = [_first(folder, *one) for one in (("train", train), ("test", test))]
    form = _halved if halved else _whole
    return tuple(x for pixels, classes in found for x in (form(pixels), classes))


def _first(
    folder: Path, split: str, count: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    with pq.ParquetFile(shards(folder, split)[0]) as file:
        rows = next(file.iter_batches(count, columns=["image", "label"])).to_pylist()
    encoded = [(f"{split} {n}", row["image"]["bytes"]) for n, row in enumerate(rows)]
    decoded = decode_images(lambda: encoded, len(encoded))
    return decoded.pixels, np.array([row["label"] for row in rows], dtype=np.int64)


def _whole(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    shape = (len(pixels), 1, _SIDE, _SIDE)
    return pixels.reshape(shape).astype(np.float32) / np.float32(255)


def _halved(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    shape = (len(pixels), 1, _SIDE // 2, 2, _SIDE // 2, 2)
    found: NDArray[np.float32] = pixels.reshape(shape).mean(
        axis=(3, 5), dtype=np.float32
    )
    return found / np.float32(255)
