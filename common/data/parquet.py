"""Images in parquet files, in the column layout of the Hugging Face hub."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedprune.common.data.arrays import RawData
from fedprune.common.data.images import Decoded, decode_images
from fedprune.common.data.optional import optional_module
from fedprune.common.data.places import shards
from fedprune.common.errors import DataError

_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "labels")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.parquet$")


def read_parquet(folder: Path) -> RawData:
    """Read and decode both splits of a folder.

    Raises:
        ConfigError: If pyarrow or pillow is not installed.
        DataError: If a file is missing or unreadable, a column is missing, or an image
            cannot be decoded.
    """
    train, y_train = read_split(folder, "train")
    test, y_test = read_split(folder, "test")
    return RawData(
        x_train=train.pixels,
        y_train=y_train,
        x_test=test.pixels,
        y_test=y_test,
        remarks=(
            *(f"training images: {text}" for text in train.remarks),
            *(f"test images: {text}" for text in test.remarks),
        ),
    )


def read_split(folder: Path, split: str) -> tuple[Decoded, NDArray[np.int64]]:
    """Read and decode one split: ``split.parquet``, or all its shards in order.

    One of them is there (``fedprune.common.data.places``).

    Returns:
        The images, and classes int64[n].

    Raises:
        ConfigError: If pyarrow or pillow is not installed.
        DataError: As ``read_parquet``.
    """
    paths = shards(folder, split)
    _check_complete(paths)
    tables = [_read_table(path) for path in paths]
    count = sum(len(labels) for _, labels in tables)
    if count == 0:
        msg = f"{paths[0]} has no rows"
        raise DataError(msg)

    def encoded() -> Iterator[tuple[str, bytes]]:
        for path, (images, _) in zip(paths, tables, strict=True):
            yield from _encoded(path, images)

    labels = np.concatenate([labels for _, labels in tables])
    return decode_images(encoded, count), labels


def _check_complete(paths: list[Path]) -> None:
    found = [_SHARD.search(path.name) for path in paths]
    numbers = [(int(match[1]), int(match[2])) for match in found if match]
    if not numbers and len(paths) == 1:
        return
    total = numbers[0][1] if numbers else 0
    if numbers != [(number, total) for number in range(total)]:
        names = ", ".join(path.name for path in paths)
        msg = f"{paths[0].parent} has {names}; want every shard from 0, once"
        raise DataError(msg)


def _read_table(path: Path) -> tuple[Any, NDArray[np.int64]]:
    """Return the image column (pyarrow) and the classes of one file."""
    parquet = optional_module("pyarrow.parquet", "pyarrow")
    try:
        names = parquet.read_schema(path).names
        image = _column(path, names, _IMAGE_COLUMNS)
        label = _column(path, names, _LABEL_COLUMNS)
        table = parquet.read_table(path, columns=[image, label])
        labels = table.column(label).to_numpy()
    except DataError:
        raise
    except Exception as error:
        msg = f"{path} cannot be read as parquet: {error}"
        raise DataError(msg) from error
    if labels.dtype.kind not in "ui":
        msg = f"{path}: column '{label}' is {labels.dtype}; want integers without gaps"
        raise DataError(msg)
    return table.column(image), labels.astype(np.int64)


def _column(path: Path, names: list[str], wanted: tuple[str, ...]) -> str:
    for name in wanted:
        if name in names:
            return name
    msg = f"{path} has the columns {', '.join(names)}; want one named '{wanted[0]}'"
    raise DataError(msg)


def _encoded(path: Path, column: Any) -> Iterator[tuple[str, bytes]]:  # noqa: ANN401
    row = 0
    for chunk in column.chunks:
        for value in chunk:
            yield f"{path}, row {row}", _image_bytes(path, row, value.as_py())
            row += 1


def _image_bytes(path: Path, row: int, value: object) -> bytes:
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        msg = f"{path}, row {row}: no image bytes; want {{bytes, path}} with bytes"
        raise DataError(msg)
    return data
