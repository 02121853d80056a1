"""Decoding of image files to one uint8 array of one form."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedprune.common.data.optional import optional_module
from fedprune.common.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

# Decoded pixels of one split; more does not belong in memory.
MAX_DECODED_BYTES = 8 << 30
ENDINGS = (
    ".png",
    ".jpg",
    ".jpeg",
    ".webp",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".pgm",
    ".ppm",
)

Encoded = tuple[str, bytes | Path]  # name for errors; the bytes or the file

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_GREY_MODES = ("1", "L", "LA", "La")
_PLAIN_MODES = (*_GREY_MODES, "P", "PA", "RGB", "RGBA", "RGBa", "RGBX")
_CLEAR_MODES = ("LA", "La", "PA", "RGBA", "RGBa")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """Decoded images.

    Attributes:
        pixels: uint8[count, channels, height, width].
        remarks: One line for each kind of change.
    """

    pixels: NDArray[np.uint8]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """The form of all images.

    Attributes:
        mode: "L" (grey) or "RGB".
        size: Width and height.
        remarks: What becomes of images of another form.
    """

    mode: str
    size: tuple[int, int]
    remarks: tuple[str, ...]


def decode_images(encoded: Callable[[], Iterable[Encoded]], count: int) -> Decoded:
    """Decode images to one array.

    All are grey if every image is grey, else they have the three colours.  The most
    common size is that of all, of equally common ones the largest; an image of another
    size is resized, bilinearly.  Of several frames the first counts; transparency is
    left out.

    Args:
        encoded: Returns the images, ``count`` of them; called twice.
        count: Number of images, >= 1.

    Raises:
        ConfigError: If pillow is not installed.
        DataError: If an image cannot be decoded, or all together are too large.
    """
    form = _common_form(encoded(), count)
    result = _room(count, form)
    for position, (name, data) in enumerate(encoded()):
        pixels = np.asarray(_decode(name, data, form), dtype=np.uint8)
        grey = form.mode == "L"
        result[position] = pixels[None] if grey else np.moveaxis(pixels, 2, 0)
    return Decoded(pixels=result, remarks=form.remarks)


@contextmanager
def _opened(name: str, data: bytes | Path) -> Iterator["Image"]:
    """Hand out an image whose header has been read.

    Raises:
        DataError: If it cannot be read, or has more than 8 bits a pixel.
    """
    try:
        file = data.open("rb") if isinstance(data, Path) else BytesIO(data)
    except OSError as error:
        msg = f"{name} cannot be read: {error.strerror or error}"
        raise DataError(msg) from error
    with file:
        if not file.read(1):
            msg = f"{name} is empty: 0 bytes"
            raise DataError(msg)
        file.seek(0)
        with _header(name, file) as image:
            if image.mode.startswith(("I", "F")):
                # A conversion would clip them silently.
                msg = f"{name} has more than 8 bits a pixel (mode {image.mode}); want 8"
                raise DataError(msg)
            yield image


def _header(name: str, file: IO[bytes]) -> "Image":
    pillow = optional_module("PIL.Image", "pillow")
    try:
        found: Image = pillow.open(file, formats=_FORMATS)
    except pillow.UnidentifiedImageError as error:
        msg = f"{name} is not an image of the formats {', '.join(_FORMATS)}"
        raise DataError(msg) from error
    except Exception as error:
        msg = f"{name} is not an image that can be read: {error}"
        raise DataError(msg) from error
    return found


def _common_form(encoded: Iterable[Encoded], count: int) -> _Form:
    """Return the form that keeps most of all images, from their headers."""
    modes: Counter[str] = Counter()
    sizes: Counter[tuple[int, int]] = Counter()
    clear = several = 0
    for name, data in encoded:
        with _opened(name, data) as image:
            modes[image.mode] += 1
            sizes[image.size] += 1
            clear += image.mode in _CLEAR_MODES or "transparency" in image.info
            several += getattr(image, "n_frames", 1) > 1
    size = max(sizes, key=lambda one: (sizes[one], one[0] * one[1], one))
    grey = sum(modes[mode] for mode in _GREY_MODES)
    odd = [mode for mode in modes if mode not in _PLAIN_MODES]
    others = sum(modes[mode] for mode in odd)
    resized = count - sizes[size]
    lines = {
        f"{grey} of {count} images are grey and become colour images": 0 < grey < count,
        f"{others} of {count} images of mode {', '.join(odd)} become RGB": others,
        f"the transparency of {clear} of {count} images is left out": clear,
        f"only the first frame counts of {several} of {count} images": several,
        f"{resized} of {count} images are resized to {size[0]} x {size[1]}, the most "
        "common size": resized,
    }
    return _Form(
        mode="L" if grey == count else "RGB",
        size=size,
        remarks=tuple(text for text, said in lines.items() if said),
    )


def _room(count: int, form: _Form) -> NDArray[np.uint8]:
    channels = 1 if form.mode == "L" else 3
    width, height = form.size
    total = count * channels * width * height
    if total > MAX_DECODED_BYTES:
        msg = (
            f"{count} images of {channels} channels, {width} x {height}, need "
            f"{total} bytes; want at most {MAX_DECODED_BYTES}"
        )
        raise DataError(msg)
    return np.empty((count, channels, height, width), dtype=np.uint8)


def _decode(name: str, data: bytes | Path, form: _Form) -> "Image":
    with _opened(name, data) as opened:
        try:
            image = opened.convert(form.mode)
            if image.size == form.size:
                return image
            return image.resize(form.size, resample=2)
        except Exception as error:
            msg = f"{name} cannot be decoded: {error}"
            raise DataError(msg) from error
