"""Meaning of folders: training and test part, clients, classes."""

import unicodedata
from dataclasses import dataclass
from pathlib import Path

from fedprune.common.data.folders.listing import (
    LeftOut,
    folders_in,
    images_in,
    images_of_class,
    note_loose,
)
from fedprune.common.errors import DataError
from fedprune.common.text import and_more

_TRAIN = ("train", "training")
_TEST = ("test", "testing")
_VALIDATION = ("val", "valid", "validation")
_SHOWN = 5  # names in a line
_FEW = 2  # folders that may be classes


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One image file.

    Attributes:
        path: The file.
        label: Name of its class.
        client: Folder of its client; "" = none.
        key: Its place below the folder of its class; with a client's folder before.
    """

    path: Path
    label: str
    client: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The folders of both parts.

    Attributes:
        train: Folder of the training part.
        test: Folder of the test part; None = it is taken from the training part.
        remarks: One line for each guess.
    """

    train: Path
    test: Path | None
    remarks: tuple[str, ...]


def find_parts(folder: Path, left_out: LeftOut, *, natural: bool) -> Parts:
    """Return the folders of both parts: ``train/`` and ``test/``, or the folder itself.

    Upper and lower case are equal; ``val/`` serves where there is no ``test/``.

    Raises:
        DataError: If there is no folder of images, two folders have one role, or the
            classes lie one level deeper.
    """
    found = folders_in(folder, left_out)
    train = _with_role(found, _TRAIN)
    test = _with_role(found, _TEST)
    validation = _with_role(found, _VALIDATION)
    # "train" may be a class of vehicles: then images lie in it, and others beside it.
    held_out = test or validation
    if train and (held_out or folders_in(train, left_out)):
        return _parts(found, train, test, validation)
    if held_out and found == [x for x in (test, validation) if x]:
        msg = f"{folder} has {held_out.name}/ and no train/; want both"
        raise DataError(msg)
    if not found:
        _refuse_flat(folder, left_out)
    _check_level(folder, found, left_out, natural=natural)
    return Parts(train=folder, test=None, remarks=())


def _with_role(folders: list[Path], names: tuple[str, ...]) -> Path | None:
    """Return the folder with one of some names, or None.

    Raises:
        DataError: If there are several.
    """
    found = [path for path in folders if path.name.lower() in names]
    if len(found) > 1:
        texts = ", ".join(path.name for path in found)
        msg = f"{found[0].parent} has the folders {texts}; want one of them"
        raise DataError(msg)
    return found[0] if found else None


def _parts(
    found: list[Path], train: Path, test: Path | None, validation: Path | None
) -> Parts:
    remarks = []
    if test is None and validation is not None:
        remarks.append(f"there is no test/: {validation.name}/ is the test part")
    beside = [
        path.name for path in found if path not in (train, test or validation or train)
    ]
    if beside:
        text = f"{len(beside)} folders beside {train.name}/ are not used"
        remarks.append(f"{text}: {and_more(beside, _SHOWN)}")
    return Parts(train=train, test=test or validation, remarks=tuple(remarks))


def _refuse_flat(folder: Path, left_out: LeftOut) -> None:
    """Refuse a folder without class folders."""
    count = len(images_in(folder, left_out))
    msg = f"{folder} has {count} images of its own and no folder of images; want a "
    msg += "folder for each class, such as cat/1.png, or train/cat/1.png and "
    msg += "test/cat/2.png"
    raise DataError(msg)


def _check_level(
    folder: Path, found: list[Path], left_out: LeftOut, *, natural: bool
) -> None:
    """Refuse a folder whose only folder seems to hold the classes."""
    only = found[0]
    if len(found) > 1 or images_in(only, left_out):
        return
    below = folders_in(only, left_out)
    if _with_role(below, _TRAIN) or (len(below) >= _FEW and not natural):
        names = and_more([path.name for path in below], _SHOWN)
        msg = f"{folder} is one level too high: its only folder, {only.name}, holds "
        msg += f"the folders {names}; want folder:{only}"
        raise DataError(msg)


def has_clients(part: Path, left_out: LeftOut) -> bool:
    """Return whether the folders of a part hold folders only: those of classes."""
    return not any(images_in(path, left_out) for path in folders_in(part, left_out))


def read_classes(part: Path, left_out: LeftOut, client: str = "") -> list[Image]:
    """Return the images of the class folders in a folder, by class, then path.

    Args:
        part: The folder.
        left_out: Gets what is no example.
        client: Client of the images.

    Raises:
        DataError: If a class folder has no image.
    """
    note_loose(part, left_out)
    return [
        Image(
            path=path,
            label=name_of(folder),
            client=client,
            key="/".join([*([client] if client else []), *_below(path, folder)]),
        )
        for folder in folders_in(part, left_out)
        for path in images_of_class(folder, left_out)
    ]


def read_clients(part: Path, left_out: LeftOut) -> list[Image]:
    """Return the images of ``CLIENT/CLASS/``, by client, then class and path.

    Raises:
        DataError: If a class folder has no image.
    """
    note_loose(part, left_out)
    return [
        image
        for folder in folders_in(part, left_out)
        for image in read_classes(folder, left_out, name_of(folder))
    ]


def name_of(folder: Path) -> str:
    """Return a folder's name in the form that is equal on all systems (NFC)."""
    return unicodedata.normalize("NFC", folder.name)


def _below(path: Path, folder: Path) -> tuple[str, ...]:
    return path.relative_to(folder).parts
