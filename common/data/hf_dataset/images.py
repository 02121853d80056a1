"""Images of a data set, decoded one batch at a time."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedprune.common.config import Task as TaskKeys
from fedprune.common.data.arrays import PIXEL_OFFSET, PIXEL_SCALE
from fedprune.common.data.examples import Batch, Targets
from fedprune.common.data.hf_dataset.reader import (
    Part,
    Row,
    as_tensor,
    refuse_missing,
    spread,
)
from fedprune.common.data.optional import optional_module
from fedprune.common.errors import ConfigError, DataError
from fedprune.common.spec import Indices
from fedprune.common.text import and_more, first_line

if TYPE_CHECKING:
    from PIL.Image import Image

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
_GREY = ("1", "L", "LA")
_DEEP = ("I", "I;16", "I;16B", "I;16L", "F")  # a conversion would clip them silently
_CHANNELS = {"L": 1, "RGB": 3}
_SAMPLED = 64  # images whose modes say how many channels all have
_LOOKED_AT = 1 << 14  # images whose sizes are compared before a run
_AT_ONCE = 256
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageReader:
    """Decodes a column of images to float32[b, channels, height, width] in -1..1.

    Attributes:
        source: The data source, for messages.
        column: The column.
        shape: Channels (1 or 3), height, width of every image.
        resized: Whether images of another size are resized, bilinearly.
    """

    source: str
    column: str
    shape: tuple[int, ...]
    resized: bool
    stored: str = "uint8"
    outputs: int = 0
    remarks: tuple[str, ...] = ()

    def batch(self, rows: Sequence[Row], targets: Targets | None) -> Batch:
        """Return decoded images and their targets."""
        pixels = np.stack([self._decoded(row[self.column]) for row in rows])
        inputs = np.moveaxis(pixels, 3, 1).astype(np.float32, order="C")
        inputs -= np.float32(PIXEL_OFFSET)
        inputs *= np.float32(PIXEL_SCALE)
        return Batch(torch.from_numpy(inputs), as_tensor(targets))

    def check(self, part: Part) -> tuple[str, ...]:
        """Compare the sizes and modes of images by their headers, of 16 384 at most."""
        refuse_missing(self.source, part, self.column)
        sizes: Counter[tuple[int, int]] = Counter()
        modes: Counter[str] = Counter()
        for image in headers(self.source, part, self.column, _LOOKED_AT):
            sizes[image.size] += 1
            modes[image.mode] += 1
        return (*self._sizes(part, sizes), *self._modes(part, modes))

    def _sizes(self, part: Part, sizes: Counter[tuple[int, int]]) -> tuple[str, ...]:
        _, height, width = self.shape
        other = sizes.total() - sizes[width, height]
        if not other:
            return ()
        counts = [f"{w} x {h} ({n} times)" for (w, h), n in sizes.most_common()]
        text = f"{other} of {sizes.total()} {part.name} images"
        if self.resized:
            return (f"{text} are resized to {width} x {height}",)
        msg = f"'{self.source}': {text} are not {width} x {height}: "
        msg += f"{and_more(counts, _SHOWN)}; want task.input_shape = "
        msg += "[channels, height, width], to which all are resized"
        raise DataError(msg)

    def _modes(self, part: Part, modes: Counter[str]) -> tuple[str, ...]:
        wanted = "L" if self.shape[0] == 1 else "RGB"
        other = {mode: n for mode, n in modes.items() if mode != wanted}
        if not other:
            return ()
        kinds = ", ".join(f"{n} of mode {mode}" for mode, n in sorted(other.items()))
        what = "grey" if wanted == "L" else "colour without transparency (RGB)"
        return (f"{sum(other.values())} {part.name} images become {what}: {kinds}",)

    def _decoded(self, value: object) -> NDArray[np.uint8]:
        channels, height, width = self.shape
        what = f"'{self.source}', column '{self.column}'"
        image = _open(what, value)
        if not self.resized and image.size != (width, height):
            msg = f"{what}: an image is {image.size[0]} x {image.size[1]}, the first "
            msg += f"one {width} x {height}; want task.input_shape, to which all are "
            msg += "resized"
            raise DataError(msg)
        mode = "L" if channels == 1 else "RGB"
        try:
            image = image.convert(mode)
            if image.size != (width, height):
                image = image.resize((width, height), resample=2)
        except Exception as error:
            msg = f"{what}: an image cannot be decoded: {first_line(error)}"
            raise DataError(msg) from error
        return np.asarray(image, dtype=np.uint8).reshape(height, width, channels)


def image_reader(source: str, column: str, part: Part, keys: TaskKeys) -> ImageReader:
    """Return the reader of a column of images.

    Channels are those of 64 images, 3 where one of them has colours; the size is that
    of the first.  ``task.input_shape`` sets both.

    Raises:
        ConfigError: If that is no shape of an image.
        DataError: If an image cannot be opened.
    """
    if keys.input_shape:
        shape = tuple(keys.input_shape)
        if len(shape) != 3 or shape[0] not in _CHANNELS.values():  # noqa: PLR2004
            msg = (
                f"task.input_shape is {list(shape)}, and the inputs of '{source}' are "
            )
            msg += "images; want [1 or 3, height, width]"
            raise ConfigError(msg)
        return ImageReader(source=source, column=column, shape=shape, resized=True)
    refuse_missing(source, part, column)
    sample = list(headers(source, part, column, _SAMPLED))
    grey = all(image.mode in _GREY for image in sample)
    width, height = sample[0].size
    shape = (1 if grey else 3, height, width)
    return ImageReader(source=source, column=column, shape=shape, resized=False)


def headers(source: str, part: Part, column: str, most: int) -> "Iterator[Image]":
    """Yield opened images, whose pixels are not decoded, evenly spread over a part."""
    rows = spread(part.rows, most)
    table = part.table.select_columns([column]).with_format("arrow")
    for start in range(0, len(rows), _AT_ONCE):
        chosen: Indices = rows[start : start + _AT_ONCE]
        values = table[chosen.tolist()].column(column).to_pylist()
        for row, value in zip(chosen.tolist(), values, strict=True):
            yield _open(f"'{source}', column '{column}', row {row}", value)


def _open(what: str, value: Any) -> "Image":  # noqa: ANN401 - of any data set
    module = optional_module("PIL.Image", "pillow", "hf")
    data, path = value, None
    if isinstance(value, dict):
        data, path = value.get("bytes"), value.get("path")
    try:
        # The path is that of a folder of images, which the library does not copy.
        data = Path(str(path)).read_bytes() if data is None else data
        opened: Image = module.open(BytesIO(data), formats=_FORMATS)
    except Exception as error:
        msg = f"{what}: an image cannot be opened: {first_line(error, kind=True)}; want"
        msg += f" one of {', '.join(_FORMATS)}"
        raise DataError(msg) from error
    if opened.mode in _DEEP:
        msg = f"{what}: an image has more than 8 bits a channel (mode {opened.mode}); "
        raise DataError(msg + "want 8")
    return opened
