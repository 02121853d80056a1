"""Arrays of any source as a data set: types, layout and ranges are checked once."""

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from fedprune.common.data.examples import (
    IGNORED,
    ArrayExamples,
    Dataset,
    Inputs,
    Targets,
)
from fedprune.common.data.pages import blocks
from fedprune.common.errors import DataError
from fedprune.common.spec import CLIENT_NAME
from fedprune.common.text import printable

# Pixels of 0..255 become -1..1: fixed numbers, so that a device needs no statistics.
PIXEL_OFFSET = 127.5
PIXEL_SCALE = 1 / 127.5

_CHANNELS = (1, 3, 4)
_FEWEST, _MOST = 2, 5  # dimensions of inputs: [n, features] .. [n, c, d, h, w]
# A target that is a quantity, such as a price in cents, would make a huge network.
_MAX_CLASSES = 1 << 16
_MAX_POSITION_CLASSES = 1 << 24  # of tokens, for example
_LARGEST_INTEGER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, kw_only=True)
class RawData:
    """Arrays as a source returned them.

    Attributes:
        x_train: Inputs [n, ...].
        y_train: Targets [n, ...].
        x_test: Inputs [m, ...].
        y_test: Targets [m, ...].
        clients: Name or number of the natural client of each training example,
            text[n] or integers[n]; None = not known.
        label_names: Names of the classes, in order; () = they have numbers only.
        remarks: One line for each thing that the source changed, left out or guessed.
    """

    x_train: NDArray[np.generic]
    y_train: NDArray[np.generic]
    x_test: NDArray[np.generic]
    y_test: NDArray[np.generic]
    clients: NDArray[np.generic] | None = None
    label_names: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def make_dataset(
    raw: RawData,
    *,
    name: str,
    offset: float | None = None,
    scale: float | None = None,
    num_outputs: int = 0,
) -> Dataset:
    """Check arrays and join them to a data set.

    The type and the number of dimensions of the inputs say what they are:

    - uint8 stays uint8 and is scaled to -1..1 by default; [n, height, width] are grey
      images and get a channel.
    - Other integers [n, t] stay integers, as int64: ids of tokens or categories.
      With more dimensions they become float32.
    - Floats become float32 and keep their values: [n, features], series
      [n, channels, length], images [n, channels, height, width], volumes
      [n, channels, depth, height, width].

    Images [n, height, width, channels] are reordered when only the last length can be
    a number of channels.  Integer targets are classes [n] (or [n, 1]), several labels
    or classes of positions [n, ...]; floating ones are values, stored as float32[n, 1]
    or [n, ...].

    Args:
        raw: The arrays.
        name: Name in errors and of the data set.
        offset: Subtracted from every input that is no integer; None = the default of
            its type.
        scale: Factor applied after that; None = the default of its type.
        num_outputs: Number of classes, or 0 for what the targets say: the greatest
            class + 1, or the number of values or of 0-1 labels of an example.

    Raises:
        DataError: If an array is empty, has another type or shape, has a value that
            is not finite, or a class is negative or too great.
    """
    train, changed = _inputs(raw.x_train, f"'{name}': x_train")
    test, _ = _inputs(raw.x_test, f"'{name}': x_test")
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
        num_outputs=max(outputs, len(raw.label_names)),
        input_shape=train.shape[1:],
        name=name,
        label_names=raw.label_names,
        owners=client_names(raw.clients, len(train), f"'{name}': clients"),
        remarks=(*raw.remarks, *changed),
    )


def client_names(
    found: NDArray[np.generic] | None, count: int, what: str
) -> tuple[str, ...]:
    """Return the name of the natural client of each example; () = not known.

    Numbers get leading zeros, so that their order is that of the names.

    Args:
        found: Names text[n], or numbers [n] >= 0, or None.
        count: n.
        what: Name in errors.

    Raises:
        DataError: If it has another type or length, or a name is not valid.
    """
    if found is None:
        return ()
    if found.shape != (count,) or found.dtype.kind not in "Uui":
        msg = f"{what} is {found.dtype}{list(found.shape)}; want a name or a number "
        msg += f"for each of the {count} training examples, text[n] or integers[n]"
        raise DataError(msg)
    unique, places = np.unique(found, return_inverse=True)
    names = [str(value) for value in unique]
    if found.dtype.kind != "U":
        width = max(map(len, names))
        names = [text.zfill(width) for text in names]
    for text in names:
        if not CLIENT_NAME.fullmatch(text):
            msg = f"{what} has the name {printable(repr(text))}; want 1 to 100 letters,"
            msg += ' digits, ".", "_" and "-", a letter or digit first'
            raise DataError(msg)
    return tuple(names[place] for place in places.tolist())


def _examples(
    inputs: Inputs, targets: Targets, offset: float, scale: float, what: str
) -> ArrayExamples:
    try:
        return ArrayExamples(inputs=inputs, targets=targets, offset=offset, scale=scale)
    except DataError as error:
        msg = f"{what}: {error}"
        raise DataError(msg) from error


def _inputs(array: NDArray[np.generic], what: str) -> tuple[Inputs, tuple[str, ...]]:
    """Return inputs in their stored form, and a line for each change or guess."""
    if not _FEWEST <= array.ndim <= _MOST or array.size == 0:
        msg = (
            f"{what} has shape {array.shape}; want [n, features], [n, channels, "
            "length], [n, channels, height, width] or [n, channels, depth, height, "
            "width], none of them 0"
        )
        raise DataError(msg)
    array, remarks = _channels_first(array, what)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array, dtype=np.uint8), remarks
    if array.dtype.kind not in "iu":
        return _finite(array, what), remarks
    if array.ndim == _FEWEST:
        if array.dtype.kind == "u" and array.max() > _LARGEST_INTEGER:
            msg = f"{what} has an id above {_LARGEST_INTEGER}"
            raise DataError(msg)
        text = f"{what} is {array.dtype}{list(array.shape)}: ids of tokens or "
        text += "categories, which stay integers; give quantities as floats"
        return np.ascontiguousarray(array, dtype=np.int64), (*remarks, text)
    text = f"{what} is {array.dtype}{list(array.shape)} and becomes float32"
    return _finite(array, what), (*remarks, text)


def _channels_first(
    array: NDArray[np.generic], what: str
) -> tuple[NDArray[np.generic], tuple[str, ...]]:
    """Return images with their channels first, and a line about each change."""
    shape = f"{what} is {array.dtype}{list(array.shape)}"
    if array.ndim == 3:  # noqa: PLR2004 - [n, height, width] or [n, channels, length]
        if array.dtype == np.uint8:
            return array[:, None], (f"{shape}: grey images, which get a channel",)
        text = f"{shape}: series of {array.shape[1]} channels and {array.shape[2]} "
        text += "steps; give grey images as [n, 1, height, width]"
        return array, (text,)
    images = array.ndim == 4  # noqa: PLR2004 - [n, channels, height, width]
    if images and array.shape[1] not in _CHANNELS and array.shape[3] in _CHANNELS:
        text = f"{shape}: the {array.shape[3]} channels come last and are put first"
        return np.moveaxis(array, 3, 1), (text,)
    return array, ()


def _finite(array: NDArray[np.generic], what: str) -> NDArray[np.float32]:
    if array.dtype.kind not in "buif":
        msg = f"{what} has type {array.dtype}; want numbers"
        raise DataError(msg)
    with np.errstate(over="ignore"):
        numbers = np.ascontiguousarray(array, dtype=np.float32)
    finite = np.concatenate(
        [np.isfinite(x).reshape(len(x), -1).all(axis=1) for x in blocks(numbers)]
    )
    if not finite.all():
        bad = np.flatnonzero(~finite)
        msg = f"{what} has a value that is not finite in float32, in {len(bad)} of "
        msg += f"{len(finite)} examples, first in {what.rpartition(' ')[2]}[{bad[0]}]"
        msg += "; replace such values, or leave their examples out"
        raise DataError(msg)
    return numbers


def _targets(array: NDArray[np.generic], what: str) -> Targets:
    """Return integers as int64[n, ...], values as float32[n, 1] or [n, ...]."""
    if array.ndim == 0 or array.size == 0:
        msg = f"{what} has shape {array.shape}; want [n] or [n, ...], none of them 0"
        raise DataError(msg)
    if array.dtype.kind == "f":
        return _finite(array[:, None] if array.ndim == 1 else array, what)
    if array.dtype.kind not in "bui":
        msg = f"{what} is {array.dtype}{list(array.shape)}; want integers or floats"
        raise DataError(msg)
    if array.dtype.kind == "u" and array.max() > _LARGEST_INTEGER:
        msg = f"{what} has a class above {_LARGEST_INTEGER}"
        raise DataError(msg)
    if array.size == len(array):
        array = array.reshape(-1)
    return np.ascontiguousarray(array, dtype=np.int64)


def _outputs(train: Targets, test: Targets, num_outputs: int, name: str) -> int:
    """Return the number of classes, values or labels that both parts show."""
    if train.dtype != test.dtype or train.shape[1:] != test.shape[1:]:
        msg = (
            f"'{name}': training targets are {train.dtype}{list(train.shape)}, test "
            f"targets {test.dtype}{list(test.shape)}; want the same kind and width"
        )
        raise DataError(msg)
    if train.dtype.kind == "f":
        return prod(train.shape[1:])
    if train.ndim > 1:
        return num_outputs or _position_outputs(train, test, name)
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


def _position_outputs(train: Targets, test: Targets, name: str) -> int:
    """Return the number of 0-1 labels [n, k], or of the classes of positions."""
    highest = max(0, int(train.max()), int(test.max()))
    lowest = int(
        min(part.min(initial=0, where=part != IGNORED) for part in (train, test))
    )
    if train.ndim == 2 and lowest == 0 and highest <= 1:  # noqa: PLR2004 - [n, labels]
        return int(train.shape[1])
    if lowest < 0 or highest >= _MAX_POSITION_CLASSES:
        msg = (
            f"'{name}': the targets run from {lowest} to {highest}; want 0 <= class < "
            f"{_MAX_POSITION_CLASSES}, {IGNORED} where a position does not count, or "
            "floating targets for values"
        )
        raise DataError(msg)
    return highest + 1
