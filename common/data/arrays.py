"""Arrays of any source as a data set: types, layout and ranges are checked once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedprune.common.data.examples import ArrayExamples, Dataset, Inputs, Targets
from fedprune.common.errors import DataError

# Pixels of 0..255 become -1..1: fixed numbers, so that a device needs no statistics.
PIXEL_OFFSET = 127.5
PIXEL_SCALE = 1 / 127.5

_CHANNELS = (1, 3, 4)
# A target that is a quantity, such as a price in cents, would make a huge network.
_MAX_CLASSES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class RawData:
    """Four arrays as a source returned them.

    Attributes:
        x_train: Inputs [n, ...].
        y_train: Targets [n] or [n, k].
        x_test: Inputs [m, ...].
        y_test: Targets [m] or [m, k].
    """

    x_train: NDArray[np.generic]
    y_train: NDArray[np.generic]
    x_test: NDArray[np.generic]
    y_test: NDArray[np.generic]


def make_dataset(
    raw: RawData,
    *,
    name: str,
    offset: float | None = None,
    scale: float | None = None,
    num_outputs: int = 0,
) -> Dataset:
    """Check four arrays and join them to a data set.

    uint8 inputs stay uint8 and are scaled to -1..1 by default; other
    numbers become float32 and keep their values.  Images are [n, height, width],
    [n, channels, height, width], or [n, height, width, channels], which is reordered
    when only its last length can be a number of channels.  Integer targets are
    classes; floating ones are values, stored as float32[n, k] also for k = 1.

    Args:
        raw: The arrays.
        name: Name in errors and of the data set.
        offset: Subtracted from every input; None = the default of its type.
        scale: Factor applied after that; None = the default of its type.
        num_outputs: Number of classes, or 0 for the greatest class + 1.

    Raises:
        DataError: If an array is empty, has another type or shape, has a value that
            is not finite, or a class is negative or too great.
    """
    train = _inputs(raw.x_train, f"'{name}': x_train")
    test = _inputs(raw.x_test, f"'{name}': x_test")
    if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
        msg = (
            f"'{name}': training inputs are {train.dtype}{list(train.shape[1:])}, "
            f"test inputs {test.dtype}{list(test.shape[1:])}; want the same"
        )
        raise DataError(msg)
    y_train = _targets(raw.y_train, f"'{name}': y_train")
    y_test = _targets(raw.y_test, f"'{name}': y_test")
    outputs = _outputs(y_train, y_test, num_outputs, name)
    pixels = train.dtype == np.uint8
    offset = (PIXEL_OFFSET if pixels else 0.0) if offset is None else offset
    scale = (PIXEL_SCALE if pixels else 1.0) if scale is None else scale
    return Dataset(
        train=_examples(train, y_train, offset, scale, f"'{name}', training part"),
        test=_examples(test, y_test, offset, scale, f"'{name}', test part"),
        num_outputs=outputs,
        input_shape=train.shape[1:],
        name=name,
    )


def _examples(
    inputs: Inputs, targets: Targets, offset: float, scale: float, what: str
) -> ArrayExamples:
    try:
        return ArrayExamples(inputs=inputs, targets=targets, offset=offset, scale=scale)
    except DataError as error:
        msg = f"{what}: {error}"
        raise DataError(msg) from error


def _inputs(array: NDArray[np.generic], what: str) -> Inputs:
    """Return inputs as uint8 or float32 [n, ...], images as [n, channels, h, w]."""
    if array.ndim not in (2, 3, 4) or array.size == 0:
        msg = (
            f"{what} has shape {array.shape}; want [n, features], "
            "[n, height, width] or [n, channels, height, width], none of them 0"
        )
        raise DataError(msg)
    array = _channels_first(array)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array, dtype=np.uint8)
    return _finite(array, what)


def _channels_first(array: NDArray[np.generic]) -> NDArray[np.generic]:
    if array.ndim == 3:  # noqa: PLR2004 - [n, height, width]
        return array[:, None]
    images = array.ndim == 4  # noqa: PLR2004 - [n, channels, height, width]
    if images and array.shape[1] not in _CHANNELS and array.shape[3] in _CHANNELS:
        return np.moveaxis(array, 3, 1)
    return array


def _finite(array: NDArray[np.generic], what: str) -> NDArray[np.float32]:
    if array.dtype.kind not in "buif":
        msg = f"{what} has type {array.dtype}; want numbers"
        raise DataError(msg)
    with np.errstate(over="ignore"):
        numbers = np.ascontiguousarray(array, dtype=np.float32)
    finite = np.isfinite(numbers)
    if not finite.all():
        bad = np.flatnonzero(~finite.reshape(len(finite), -1).all(axis=1))
        msg = f"{what} has a value that is not finite in float32, in {len(bad)} of "
        msg += f"{len(finite)} examples, first in {what.rpartition(' ')[2]}[{bad[0]}]"
        raise DataError(msg)
    return numbers


def _targets(array: NDArray[np.generic], what: str) -> Targets:
    """Return classes as int64[n], values as float32[n, k]."""
    if array.ndim not in (1, 2) or array.size == 0:
        msg = f"{what} has shape {array.shape}; want [n] or [n, k], none of them 0"
        raise DataError(msg)
    if array.dtype.kind == "f":
        return _finite(array.reshape(len(array), -1), what)
    if array.dtype.kind not in "bui" or array.size != len(array):
        msg = (
            f"{what} is {array.dtype}{list(array.shape)}; want integer classes [n] or "
            "floating values [n, k]"
        )
        if array.ndim == 2 and np.isin(array, (0, 1)).all():  # noqa: PLR2004
            msg += "; of one-hot rows the classes are targets.argmax(axis=1)"
        raise DataError(msg)
    return array.reshape(-1).astype(np.int64)


def _outputs(train: Targets, test: Targets, num_outputs: int, name: str) -> int:
    if train.dtype != test.dtype or train.shape[1:] != test.shape[1:]:
        msg = f"'{name}': training and test targets differ in kind or width"
        raise DataError(msg)
    if train.dtype.kind == "f":
        return int(train.shape[1])
    lowest = int(min(train.min(), test.min()))
    highest = int(max(train.max(), test.max()))
    limit = num_outputs or _MAX_CLASSES
    if lowest < 0 or highest >= limit:
        msg = (
            f"'{name}': classes run from {lowest} to {highest}; want 0 <= class < "
            f"{limit}, or floating targets for a regression"
        )
        raise DataError(msg)
    return num_outputs or highest + 1
