"""Listing of image files below a folder; what is left out is counted."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fedprune.common.data.images import ENDINGS
from fedprune.common.errors import DataError
from fedprune.common.text import and_more

_SHOWN = 3  # names in a line
_SYSTEM = {"__pycache__", "__macosx", "thumbs.db", "desktop.ini", "@eadir"}


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Files and folders that are no examples; a listing adds to it.

    Attributes:
        root: Folder to which names in the lines are relative.
        hidden: Hidden files and folders, and those of operating systems.
        empty: Folders without a visible file.
        loose: Images outside of a class folder.
        others: Files of other endings.
        deeper: Images in a folder below that of their class.
    """

    root: Path
    hidden: set[Path] = field(default_factory=set)
    empty: set[Path] = field(default_factory=set)
    loose: set[Path] = field(default_factory=set)
    others: set[Path] = field(default_factory=set)
    deeper: set[Path] = field(default_factory=set)

    def lines(self) -> tuple[str, ...]:
        """Return one line for each kind of things, with their number."""
        found = []
        if self.others:
            found.append(
                f"{len(self.others)} files are no images by their endings and are "
                f"skipped: {endings_of(self.others)}"
            )
        if self.hidden:
            text = f"{len(self.hidden)} hidden files and folders are skipped"
            found.append(f"{text}: {self._names(self.hidden)}")
        if self.empty:
            text = f"{len(self.empty)} empty folders are skipped"
            found.append(f"{text}: {self._names(self.empty)}")
        if self.loose:
            text = f"{len(self.loose)} images outside of a class folder are skipped"
            found.append(f"{text}: {self._names(self.loose)}")
        if self.deeper:
            text = f"{len(self.deeper)} images lie deeper than the folder of their "
            found.append(f"{text}class, such as {self._names(self.deeper, 1)}")
        return tuple(found)

    def _names(self, paths: set[Path], most: int = _SHOWN) -> str:
        names = sorted(path.relative_to(self.root).as_posix() for path in paths)
        return names[0] if most == 1 else and_more(names, most)


def entries(folder: Path, left_out: LeftOut) -> Iterator[Path]:
    """Yield the visible files and folders of a folder, names in order.

    Raises:
        DataError: If the folder cannot be read.
    """
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        msg = f"{folder} cannot be read: {error.strerror or error}"
        raise DataError(msg) from error
    for path in found:
        if path.name.startswith(".") or path.name.casefold() in _SYSTEM:
            left_out.hidden.add(path)
        else:
            yield path


def files_below(folder: Path, left_out: LeftOut) -> list[Path]:
    """Return all visible files below a folder, at any depth, by path.

    Raises:
        DataError: If a folder cannot be read, or links lead back into it.
    """
    return list(_walk(folder, left_out, frozenset()))


def _walk(folder: Path, left_out: LeftOut, above: frozenset[Path]) -> Iterator[Path]:
    real = folder.resolve()
    if real in above:
        msg = f"{folder} is a link to a folder above it"
        raise DataError(msg)
    for path in entries(folder, left_out):
        if path.is_dir():
            yield from _walk(path, left_out, above | {real})
        else:
            yield path


def folders_in(folder: Path, left_out: LeftOut) -> list[Path]:
    """Return the visible folders in a folder that hold a visible file, sorted."""
    found = []
    for path in entries(folder, left_out):
        if not path.is_dir():
            continue
        if next(_walk(path, left_out, frozenset()), None) is not None:
            found.append(path)
        else:
            left_out.empty.add(path)
    return found


def is_image(path: Path) -> bool:
    """Return whether a file's name has the ending of an image."""
    return path.suffix.lower() in ENDINGS


def images_in(folder: Path, left_out: LeftOut) -> list[Path]:
    """Return the images directly in a folder, sorted."""
    return [x for x in entries(folder, left_out) if x.is_file() and is_image(x)]


def note_loose(folder: Path, left_out: LeftOut) -> None:
    """Count the files beside class folders, which are no examples."""
    for path in entries(folder, left_out):
        if path.is_file():
            (left_out.loose if is_image(path) else left_out.others).add(path)


def images_of_class(folder: Path, left_out: LeftOut) -> list[Path]:
    """Return the images below the folder of a class, at any depth, by path.

    Raises:
        DataError: If there is none.
    """
    files = files_below(folder, left_out)
    images = [path for path in files if is_image(path)]
    if not images:
        msg = f"the class folder {folder} has no image: its files are "
        msg += f"{endings_of(set(files))}; want {', '.join(ENDINGS)}"
        raise DataError(msg)
    left_out.others.update(path for path in files if not is_image(path))
    left_out.deeper.update(path for path in images if path.parent != folder)
    return images


def endings_of(paths: set[Path]) -> str:
    """Return how many files have which ending, the most frequent first."""
    counts = Counter(path.suffix.lower() or "no ending" for path in paths)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return and_more([f"{count} {ending}" for ending, count in ordered], _SHOWN)
