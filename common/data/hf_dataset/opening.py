"""Opening of a data set: a folder, a file, or a name of the Hugging Face Hub."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedprune.common.data.optional import check_optional, optional_module
from fedprune.common.errors import ConfigError, DataError
from fedprune.common.parsing import parse_json
from fedprune.common.text import first_line, one_line

PREFIX = "hf-dataset"

# Formats of a single file: builder of the library, and its arguments.
_FILES: dict[str, tuple[str, dict[str, str]]] = {
    ".parquet": ("parquet", {}),
    ".arrow": ("arrow", {}),
    ".csv": ("csv", {}),
    ".tsv": ("csv", {"sep": "\t"}),
    ".json": ("json", {}),
    ".jsonl": ("json", {}),
    ".txt": ("text", {}),
}
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_SUBSETS = re.compile(r"available configs[^\[]*(\[[^\]]*\])|Available: (\[[^\]]*\])")
_EMPTY = re.compile(r'Instruction "([^"]+)" corresponds to no data')
_SAVED = ("dataset_dict.json", "state.json")  # of save_to_disk
_WITHOUT_SCRIPTS = 4  # the first major version that runs no code of a data set
_NOISY = ("huggingface_hub", "datasets")  # loggers that report each attempt


def check_name(reference: str) -> None:
    """Check a name or path before anything is opened; the Hub is not asked.

    Args:
        reference: ``NAME_OR_PATH`` or ``NAME_OR_PATH:SUBSET``, without the prefix.

    Raises:
        ConfigError: If the library is not installed, a path does not exist or is of no
            known format, a folder has a loading script, or it is no name of the Hub.
    """
    check_optional("datasets", "datasets", "hf")
    place, _ = _split(reference)
    path = Path(place).expanduser()
    if place and path.is_dir():
        _check_folder(path)
    elif path.is_file():
        if path.suffix.lower() not in _FILES:
            msg = f"'{path}' is no data file; want a folder, or a file of the formats "
            msg += ", ".join(_FILES)
            raise ConfigError(msg)
    elif _is_path(place):
        msg = f"there is no file or folder '{path}'"
        raise ConfigError(msg)
    elif not _HUB_NAME.fullmatch(place):
        msg = f"'{PREFIX}:{reference}' names no data set; want {PREFIX}:FOLDER, "
        msg += f"{PREFIX}:FILE, {PREFIX}:OWNER/NAME or {PREFIX}:OWNER/NAME:SUBSET"
        raise ConfigError(msg)


def open_splits(reference: str) -> dict[str, Any]:
    """Return name -> split of a data set, mapped into memory.

    Raises:
        ConfigError: If there is none of this name, or a subset must be named.
        DataError: If its files cannot be read.
    """
    library = _library()
    place, subset = _split(reference)
    path = Path(place).expanduser()
    try:
        with _quiet(library, downloads=not path.exists()):
            found = _opened(library, path, place, subset)
    except Exception as error:
        raise _translated(reference, place, error) from error
    if isinstance(found, library.Dataset):
        return {str(found.split or "train"): found}
    return dict(found)


def _library() -> Any:  # noqa: ANN401 - a module
    library = optional_module("datasets", "datasets", "hf")
    if int(library.__version__.partition(".")[0]) < _WITHOUT_SCRIPTS:
        msg = f"'datasets' is {library.__version__}, which may run code of a data set; "
        msg += f"want {_WITHOUT_SCRIPTS} or later: pip install 'fedprune[hf]'"
        raise ConfigError(msg)
    return library


def _opened(library: Any, path: Path, place: str, subset: str) -> Any:  # noqa: ANN401
    if path.is_file():
        builder, arguments = _FILES[path.suffix.lower()]
        return library.load_dataset(builder, data_files=str(path), **arguments)
    if path.is_dir() and any((path / name).is_file() for name in _SAVED):
        _check_saved(path)
        return library.load_from_disk(str(path))
    # A folder is given by its path: the library has builders of its own with names.
    name = str(path.resolve()) if path.is_dir() else place
    return library.load_dataset(name, subset or None)


def _split(reference: str) -> tuple[str, str]:
    """Return the name or path, and the subset or ""."""
    if reference and Path(reference).expanduser().exists():
        return reference, ""
    place, _, subset = reference.partition(":")
    return place, subset


def _is_path(place: str) -> bool:
    known = Path(place).suffix.lower() in _FILES
    return known or place.count("/") > 1 or place[:1] in ("/", ".", "~")


def _check_folder(path: Path) -> None:
    path = path.resolve()
    script = path / f"{path.name}.py"
    if script.is_file():
        msg = f"'{path}' has the loading script {script.name}, and no code of a data "
        msg += "set is run; want its data files alone (parquet, CSV, JSON, images)"
        raise ConfigError(msg)


def _check_saved(path: Path) -> None:
    """Refuse an empty split of save_to_disk, which the library cannot read back."""
    for state in sorted(path.glob("**/state.json")):
        if not parse_json(state.read_bytes()).get("_data_files"):
            name = state.parent.relative_to(path).name
            msg = f"split '{name}' has no example" if name else "it has no example"
            raise DataError(msg)


@contextmanager
def _quiet(library: Any, *, downloads: bool) -> Iterator[None]:  # noqa: ANN401
    """Silence the library's reports; only a download shows its progress."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    bars = not library.are_progress_bars_disabled()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    if bars and not downloads:
        library.disable_progress_bars()
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            library.enable_progress_bars()


def _translated(reference: str, place: str, error: Exception) -> Exception:
    """Return the error of the library as one of ours."""
    name = f"'{PREFIX}:{reference}'"
    if isinstance(error, DataError):
        return DataError(f"{name}: {error}")
    text = one_line(error)
    subsets = _SUBSETS.search(text)
    if subsets:
        known = subsets[1] or subsets[2]
        msg = f"{name} has several subsets; want {PREFIX}:{place}:SUBSET, with one of "
        return ConfigError(msg + known)
    empty = _EMPTY.search(text)
    if empty:
        msg = f"{name}: split '{empty[1]}' has no example; want some, or no such file"
        return DataError(msg)
    if isinstance(error, ConnectionError):
        msg = f"{name}: there is no folder '{place}' here, and the Hugging Face Hub "
        msg += "cannot be reached (no network, or HF_HUB_OFFLINE is set)"
        return ConfigError(msg)
    if type(error).__name__ == "DatasetNotFoundError":
        msg = f"{name}: there is no folder '{place}' here, and no such data set on the "
        msg += "Hugging Face Hub, or it wants a login (hf auth login)"
        return ConfigError(msg)
    cause = error.__cause__
    deeper = cause if isinstance(cause, Exception) else error
    return DataError(f"{name} cannot be read: {first_line(deeper, kind=True)}")
