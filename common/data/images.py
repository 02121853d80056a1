"""Decoding of PNG and JPEG images to one uint8 array."""

from collections.abc import Iterable
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedprune.common.data.optional import optional_module
from fedprune.common.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

# Decoded pixels of one split; more does not belong in memory.
MAX_DECODED_BYTES = 8 << 30

_GREY_MODES = ("1", "L", "LA")
# More than 8 bits a pixel: a conversion would clip them silently.
_DEEP_MODES = ("I", "I;16", "I;16B", "F")


def decode_images(
    encoded: Iterable[tuple[str, bytes]], count: int
) -> NDArray[np.uint8]:
    """Decode PNG or JPEG images to one array; the first sets size and channels of all.

    An image of another size is resized to the first one's, bilinearly, and one of
    other channels is converted.

    Args:
        encoded: (name for errors, bytes) of each image, ``count`` of them.
        count: Number of images, >= 1.

    Returns:
        uint8[count, channels, height, width]; one channel when the first image is
        grey, else three.

    Raises:
        DataError: If an image cannot be decoded, or all together are too large.
    """
    result = np.empty((0, 0, 0, 0), dtype=np.uint8)
    mode, size = "", (0, 0)
    for position, (name, data) in enumerate(encoded):
        if position == 0:
            mode, size = _form(name, data)
            result = _room(name, count, mode, size)
        pixels = np.asarray(_decode(name, data, mode, size), dtype=np.uint8)
        result[position] = pixels[None] if mode == "L" else np.moveaxis(pixels, 2, 0)
    return result


def _open(name: str, data: bytes) -> "Image":
    image_module = optional_module("PIL.Image", "pillow")
    try:
        opened: Image = image_module.open(BytesIO(data), formats=("PNG", "JPEG"))
    except Exception as error:
        msg = f"{name} is not a PNG or JPEG image: {error}"
        raise DataError(msg) from error
    if opened.mode in _DEEP_MODES:
        msg = f"{name} has more than 8 bits a pixel (mode {opened.mode}); want 8"
        raise DataError(msg)
    return opened


def _form(name: str, data: bytes) -> tuple[str, tuple[int, int]]:
    image = _open(name, data)
    return ("L" if image.mode in _GREY_MODES else "RGB"), image.size


def _room(name: str, count: int, mode: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    channels = 1 if mode == "L" else 3
    total = count * channels * size[0] * size[1]
    if total > MAX_DECODED_BYTES:
        msg = (
            f"{count} images of the size of {name}, {size[0]} x {size[1]}, need "
            f"{total} bytes; want at most {MAX_DECODED_BYTES}"
        )
        raise DataError(msg)
    return np.empty((count, channels, size[1], size[0]), dtype=np.uint8)


def _decode(name: str, data: bytes, mode: str, size: tuple[int, int]) -> "Image":
    image = _open(name, data)
    try:
        image = image.convert(mode)
        return image if image.size == size else image.resize(size, resample=2)
    except Exception as error:
        msg = f"{name} cannot be decoded: {error}"
        raise DataError(msg) from error
