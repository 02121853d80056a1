"""Small images as files and folders."""

import io

import numpy as np
from PIL import Image


def png(array, kind="PNG"):
    """Return an array as the bytes of an image file."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format=kind)
    return buffer.getvalue()


def pictures(count, shape=(6, 4), start=0):
    """Return grey or RGB images that all differ."""
    stream = np.random.default_rng(start)
    return [stream.integers(0, 256, shape, dtype=np.uint8) for _ in range(count)]


def write_folder(root, counts, **options):
    """Write as many images as named into each folder."""
    for number, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for index, picture in enumerate(pictures(count, start=number, **options)):
            (root / name / f"{index}.png").write_bytes(png(picture))
