"""Data set of images in folders, one folder for each class."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fedprune.common.data.arrays import RawData
from fedprune.common.data.folders.layout import (
    Image,
    find_parts,
    has_clients,
    name_of,
    read_classes,
    read_clients,
)
from fedprune.common.data.folders.listing import LeftOut, folders_in
from fedprune.common.data.images import decode_images
from fedprune.common.errors import DataError
from fedprune.common.spec import digest_of
from fedprune.common.text import and_more

# Without a test folder, one image in five of each class is a test image.
_TEST_EVERY = 5
_SHOWN = 5  # names in a line


def read_folder(folder: Path, *, natural: bool = False) -> RawData:
    """Read ``train/CLASS/*`` and ``test/CLASS/*``, or ``CLASS/*`` split 80 to 20.

    Images lie at any depth below the folder of their class.  Classes are numbered in
    the order of their folders' names, or of their values if all are numbers.  The
    split is by the digest of class and place: it is the same for every seed and
    machine.  ``RawData.remarks`` says what was left out, changed or guessed.

    Args:
        folder: The folder.
        natural: Whether the folders of the training part are clients, and those below
            them classes: ``train/CLIENT/CLASS/*``.  Where images lie in them directly,
            they are classes all the same.  Folders of ``test/`` are classes if all
            their names are those of classes, else clients too.

    Raises:
        ConfigError: If pillow is not installed.
        DataError: If folders or images are missing, a class folder has none, a test
            class was never trained, or an image cannot be decoded.
    """
    left_out = LeftOut(folder)
    parts = find_parts(folder, left_out, natural=natural)
    clients = natural and has_clients(parts.train, left_out)
    train = (read_clients if clients else read_classes)(parts.train, left_out)
    names, order = _label_names(train)
    said = parts.remarks
    if parts.test is None:
        train, test = _split(train)
        said = (*said, _split_line(train, test, names))
    else:
        test = _test_images(parts.test, left_out, names, clients=clients)
    _check(folder, train, test, names)
    # Decoded together, so that both parts have one form.
    both = train + test
    decoded = decode_images(lambda: _files(both), len(both))
    numbers = {name: number for number, name in enumerate(names)}
    classes = np.asarray([numbers[image.label] for image in both], dtype=np.int64)
    return RawData(
        x_train=decoded.pixels[: len(train)],
        y_train=classes[: len(train)],
        x_test=decoded.pixels[len(train) :],
        y_test=classes[len(train) :],
        clients=np.asarray([image.client for image in train]) if clients else None,
        label_names=names,
        remarks=(*said, *order, *left_out.lines(), *decoded.remarks),
    )


def _label_names(images: Sequence[Image]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the class names in order, and a line where they are numbers."""
    found = {image.label for image in images}
    if not all(name.isascii() and name.isdecimal() for name in found):
        return tuple(sorted(found)), ()
    names = tuple(sorted(found, key=lambda name: (int(name), name)))
    moved = [f"{name} is class {n}" for n, name in enumerate(names) if int(name) != n]
    text = "the class folders are numbers and are ordered by value"
    return names, (f"{text}: {and_more(moved, _SHOWN)}" if moved else text,)


def _split(images: Sequence[Image]) -> tuple[list[Image], list[Image]]:
    """Return training and test images, both in order."""
    groups = defaultdict(list)
    for image in images:
        groups[image.label].append(image)
    test: set[Path] = set()
    for members in groups.values():
        members.sort(
            key=lambda image: digest_of(image.label.encode(), image.key.encode())
        )
        test.update(image.path for image in members[: len(members) // _TEST_EVERY])
    return (
        [image for image in images if image.path not in test],
        [image for image in images if image.path in test],
    )


def _test_images(
    folder: Path, left_out: LeftOut, names: Sequence[str], *, clients: bool
) -> list[Image]:
    """Return the images of a test folder, whose folders are classes or clients."""
    found = {name_of(path) for path in folders_in(folder, left_out)}
    if clients and not found <= {*names}:
        return read_clients(folder, left_out)
    return read_classes(folder, left_out)


def _split_line(
    train: Sequence[Image], test: Sequence[Image], names: Sequence[str]
) -> str:
    whole = len(train) + len(test)
    text = f"there is no test part: one image in {_TEST_EVERY} of each class is a test"
    return f"{text} image, {len(test)} of {whole}{_untested(test, names)}"


def _untested(test: Sequence[Image], names: Sequence[str]) -> str:
    """Return a note on the classes that are too small for a test image."""
    tested = {image.label for image in test}
    small = [name for name in names if name not in tested]
    return f"; none of {and_more(small, _SHOWN)}" if small and test else ""


def _check(
    folder: Path, train: Sequence[Image], test: Sequence[Image], names: Sequence[str]
) -> None:
    unknown = sorted({image.label for image in test} - {*names})
    if unknown:
        msg = f"{folder}: the test part has the classes {', '.join(unknown)}, which "
        msg += "train/ lacks; want the same classes in both"
        raise DataError(msg)
    if not train or not test:
        msg = (
            f"{folder} has {len(train)} training and {len(test)} test images; want "
            "some of both (5 in a class give one test image)"
        )
        raise DataError(msg)


def _files(images: Sequence[Image]) -> Iterator[tuple[str, Path]]:
    return ((str(image.path), image.path) for image in images)
