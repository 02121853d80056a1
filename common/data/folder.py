"""Images in folders, one folder for each class."""

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedprune.common.data.arrays import RawData
from fedprune.common.data.images import decode_images
from fedprune.common.errors import DataError
from fedprune.common.spec import digest_of

_SUFFIXES = (".png", ".jpg", ".jpeg")
# Without a test folder, one image in five of each class is a test image.
_TEST_EVERY = 5

Labelled = list[tuple[Path, int]]


def read_folder(folder: Path) -> RawData:
    """Read ``train/<class>/*`` and ``test/<class>/*``, or ``<class>/*`` split 80 to 20.

    Classes are numbered in the order of their folders' names.  The split is by the
    digest of class and file name: it is the same for every seed and machine.

    Raises:
        ConfigError: If pillow is not installed.
        DataError: If a folder or its images are missing, a test class was never
            trained, or an image cannot be decoded.
    """
    train_folder, test_folder = folder / "train", folder / "test"
    if train_folder.is_dir() and test_folder.is_dir():
        classes = _class_names(train_folder)
        train, test = _listed(train_folder, classes), _listed(test_folder, classes)
    else:
        classes = _class_names(folder)
        train, test = _split(_listed(folder, classes))
    if not train or not test:
        msg = (
            f"{folder} has {len(train)} training and {len(test)} test images; want "
            f"some of both, as .png or .jpg (5 in a class give one test image)"
        )
        raise DataError(msg)
    # Decoded together, so that both parts have the format of the first image.
    pixels = decode_images(_encoded(train + test), len(train) + len(test))
    return RawData(
        x_train=pixels[: len(train)],
        y_train=_classes(train),
        x_test=pixels[len(train) :],
        y_test=_classes(test),
    )


def _class_names(folder: Path) -> list[str]:
    return sorted(
        entry.name
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith(".")
    )


def _listed(folder: Path, classes: list[str]) -> Labelled:
    """Return (path, class) of each image, by class, then file name."""
    unknown = sorted(set(_class_names(folder)) - set(classes))
    if unknown:
        msg = f"{folder} has the classes {', '.join(unknown)}, which train/ lacks"
        raise DataError(msg)
    return [
        (path, number)
        for number, name in enumerate(classes)
        for path in sorted((folder / name).glob("*"))
        if path.suffix.lower() in _SUFFIXES
    ]


def _split(images: Labelled) -> tuple[Labelled, Labelled]:
    test: set[Path] = set()
    for _, group in groupby(images, key=itemgetter(1)):
        members = [path for path, _ in group]
        members.sort(
            key=lambda path: digest_of(path.parent.name.encode(), path.name.encode())
        )
        test.update(members[: len(members) // _TEST_EVERY])
    return (
        [image for image in images if image[0] not in test],
        [image for image in images if image[0] in test],
    )


def _encoded(images: Labelled) -> Iterator[tuple[str, bytes]]:
    for path, _ in images:
        try:
            data = path.read_bytes()
        except OSError as error:
            msg = f"{path} cannot be read: {error}"
            raise DataError(msg) from error
        yield str(path), data


def _classes(images: Labelled) -> NDArray[np.int64]:
    return np.asarray([label for _, label in images], dtype=np.int64)
