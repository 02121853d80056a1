"""Template of images in folders, one folder a class."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from fedprune.common.data.optional import optional_module
from fedprune.simulations.scaffold.template import HEAD, Template
from fedprune.simulations.scaffold.templates.short import SHORT

_SIDE = 20  # pixels of an image's edge
_IMAGES = 100  # of each class
_CLASSES = ("circle", "cross", "square", "triangle")

_HEAD = f"""\
{HEAD}#
# "pictures" has {_IMAGES} made-up images in a folder for each class.  Put folders of
# your own in their place: every fifth image is a test image, or make
# pictures/train/CLASS and pictures/test/CLASS.  A pretrained network is
# model = "timm:resnet18" (or another NAME of timm or torchvision), with lr = 0.01.
"""


def _pictures() -> dict[str, bytes]:
    """Return the images as PNG files, name -> content."""
    pillow = optional_module("PIL.Image", "pillow")
    rng = np.random.default_rng(0)
    files = {}
    for label in _CLASSES:
        for number in range(_IMAGES):
            written = BytesIO()
            pillow.fromarray(_picture(rng, label)).save(written, "PNG")
            files[f"pictures/{label}/{number:03d}.png"] = written.getvalue()
    return files


def _picture(rng: np.random.Generator, label: str) -> NDArray[np.uint8]:
    """Return a shape of random colour, place and size on noise, uint8[h, w, 3]."""
    row, column = np.mgrid[:_SIDE, :_SIDE]
    radius = rng.integers(4, 7)
    y, x = rng.integers(radius, _SIDE - radius, 2)
    down, right = row - y, column - x
    inside = {
        "circle": down**2 + right**2 <= radius**2,
        "cross": (np.minimum(abs(down), abs(right)) <= 1),
        "square": np.ones_like(down, dtype=bool),
        "triangle": 2 * abs(right) <= down + radius,
    }[label]
    shape = inside & (np.maximum(abs(down), abs(right)) <= radius)
    picture = rng.normal(70, 15, (_SIDE, _SIDE, 3))
    picture[shape] += rng.uniform(80, 160, 3)
    return picture.clip(0, 255).astype(np.uint8)


VISION = Template(
    head=_HEAD,
    values={
        ("task", "model"): "small-resnet",
        ("task", "data"): "folder:pictures",
        **SHORT,
    },
    data=_pictures,
)
